"""The autoencoders and VAEs of chapters 03 and 04."""

from functools import partial

from torch import nn

from course_utils.data import images
from course_utils.models import autoencoder, vae, vqvae
from course_utils.recipes.recipe import Recipe

N_WORDS = 16  # in the codebook of the VQ-VAE


def small_ae(data, latent_dim):
    return autoencoder.mlp_autoencoder(data.shape, hidden_dims=(400,), latent_dim=latent_dim)


def small_vae(data, latent_dim, centred=True, activation=nn.ReLU):
    mean_image = images.to_float(data.train.images).mean(0) if centred else None
    return vae.mlp_vae(data.shape, (400,), latent_dim, activation=activation, mean_image=mean_image)


def sigmoid(data, penalty, tied=False):
    return autoencoder.one_layer_autoencoder(data.shape, n_hidden=1_024, penalty=penalty, tied=tied)


RECIPES = {
    "vae_784_400_2": Recipe(
        "VAE 784-400-2", partial(small_vae, latent_dim=2, centred=False), 22_000, 2e-3, ships=True),
    "vae_784_400_2_centred": Recipe(
        "VAE 784-400-2 from the mean image", partial(small_vae, latent_dim=2), 32_000, 3e-3),
    "vae_784_400_20_silu": Recipe(
        "VAE 784-400-20, SiLU, from the mean image", partial(small_vae, latent_dim=20, activation=nn.SiLU),
        34_000, 4e-3, 128, betas=(0.95, 0.99), warm_up=300),
    "ae_784_400_2": Recipe(
        "autoencoder 784-400-2", partial(small_ae, latent_dim=2), 10_000, 2e-3, binary=False, ships=True),
    "ae_784_400_32": Recipe(
        "autoencoder 784-400-32", partial(small_ae, latent_dim=32), 16_000, 2e-3, binary=False),
    "sparse": Recipe(
        "sparse autoencoder, 1024 units", partial(sigmoid, penalty=autoencoder.sparse_kl(0.5, 0.05)),
        4_000, 2e-3, binary=False),
    "contractive": Recipe(
        "contractive autoencoder, 1024 units", partial(sigmoid, penalty=autoencoder.contract_sigmoid(2.0), tied=True),
        4_000, 2e-3, binary=False),
    "vqvae": Recipe(
        "VQ-VAE with a PixelCNN over 7×7 words", lambda data: vqvae.conv_vqvae(data.shape, N_WORDS, width=24),
        4_000, 3e-3, 64, objective=vqvae.with_averaging),
}  # fmt: skip
