"""A slider per latent and a pad with the encoded data; the decoders run in the browser. For chapters 03 and 04."""

import numpy as np
import torch
from matplotlib.figure import Figure

from course_utils import plots
from course_utils.widgets.demo import Demo, Slider
from course_utils.widgets.network import pack_network

COLOURS = (*plots.PALETTE[:6], "#b8a900", "#000000", "#7a5195", "#8c6d46")
HOLES = {
    "ask": "Guess first: put the knob between the clouds of dots. Which decoder still paints a readable image there?",
    "answer": "The autoencoder was never asked about codes between its dots, so it leaves holes. The VAE decodes a "
              "whole region for every image and pulls all regions together: little is left between. Try random code.",
}
FACTORS = {
    "ask": "Guess first: starting from one digit, what does a small step along one latent change?",
    "options": ["one pixel", "one part of the stroke", "the whole shape, a little"], "right": 2,
    "answer": "Every pixel depends on every latent. A small step bends the whole image a little; which property bends "
              "is what training happened to put on that axis.",
}


@torch.no_grad()
def latent_explorer(decoders, codes, labels, *, shape=(1, 28, 28), priors=("VAE",), latents=None, question=None):
    r"""Move through latent space by hand: sliders, a pad with the encoded images as dots, the decoded image live.

    ``decoders``: name -> network ``(B, L) -> pixels`` in [0, 1], for example ``{"AE": ae.decoder, "VAE":
    nn.Sequential(vae.decoder.network, nn.Sigmoid())}``. The browser runs it: see :func:`.network.pack_network` for the
    layers it knows. Of a longer output, such as mean and log-variance, the first C·H·W numbers are drawn.
    ``codes``: name -> ``(N, L)`` codes of the same N images; ``labels``: ``(N,)`` integers from 0. ``priors`` names the
    models whose codes have the prior N(0, I): these keep their units and get rings; the others are drawn in standard
    deviations around their mean code. ``latents``: which of the L get a slider (2 to 12; the most spread ones when left
    out), the others stay as the last jump left them. Nothing is trained. Taught in chapters 03 and 04.
    """
    labels = torch.as_tensor(labels).cpu()[:1500]
    codes = {name: torch.as_tensor(code).detach().cpu().float()[:1500] for name, code in codes.items()}
    if set(decoders) != set(codes):
        raise ValueError(f"decoders and codes must name the same models, got {sorted(decoders)} and {sorted(codes)}")
    models = [_describe(name, decoders[name], codes[name], name in priors) for name in decoders]
    n_latents = {code.shape[1] for code in codes.values()}
    if len(n_latents) != 1 or min(n_latents) < 2:
        raise ValueError(f"the models must share a number of latents, at least 2; got {sorted(n_latents)}")
    first = models[0]
    if latents is None:
        spread = ((codes[first["name"]] - first["shift"]) / first["scale"]).std(0)
        latents = spread.argsort(descending=True)[:12].sort().values.tolist()
    names = [f"z{latent + 1}" for latent in latents]
    start = _typical_point(codes[first["name"]], labels, first)
    sliders = [Slider(name, name, -3.5, 3.5, round(float(start[latent].clamp(-3.5, 3.5)), 2), 0.01)
               for name, latent in zip(names, latents, strict=True)]
    known = [m["name"] in priors for m in models]
    if question is None and len(models) > 1 and any(known):
        question = {**HOLES, "options": list(decoders), "right": known.index(True)}
    data = {"shape": list(shape), "models": models, "labels": labels.to(torch.int32), "latents": latents,
            "labels_of": names, "classes": [str(k) for k in range(int(labels.max()) + 1)], "reach": 3.5,
            "start": start.tolist(), "question": question or FACTORS}

    def picture(values):
        return _picture(decoders[first["name"]], first, codes[first["name"]], labels, latents, start, shape, values)

    return Demo("latent_explorer", needs=["network"], sliders=sliders, data=data, picture=picture, height=760,
                alt="Encoded images as coloured dots in latent space, and the image decoded at one place.")


def _describe(name, decoder, code, prior):
    shift, scale = (torch.zeros(code.shape[1]), torch.ones(code.shape[1])) if prior else (code.mean(0), code.std(0))
    scale = scale.clamp(min=1e-6)                                # a latent that never moves
    points = (code - shift) / scale
    gaps = torch.cdist(points, points).fill_diagonal_(torch.inf).min(1).values
    return {"name": name, "layers": pack_network(decoder), "codes": code.half(), "prior": prior,
            "shift": shift, "scale": scale, "typical": float(gaps.median())}


def _typical_point(code, labels, model):
    """The code nearest to the mean of the first class, in slider units: a start where something readable stands."""
    points = (code - model["shift"]) / model["scale"]
    mine = points[labels == labels.min()]
    return mine[(mine - mine.mean(0)).norm(dim=1).argmin()].clone()


@torch.no_grad()
def _picture(decoder, model, code, labels, latents, start, shape, values):
    shift, scale = model["shift"], model["scale"]
    point = start.clone()
    point[latents] = torch.tensor(list(values.values()))
    parameter = next(decoder.parameters())
    x = decoder((shift + scale * point)[None].to(parameter)).float().cpu().flatten()[:np.prod(shape)].reshape(1, *shape)
    points = (code - shift) / scale
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    pad, picture = figure.subplots(1, 2, width_ratios=(3, 2))
    for k in labels.unique().tolist():
        pad.scatter(*points[labels == k][:, latents[:2]].T.numpy(), s=4, color=COLOURS[k % 10], label=str(k))
    pad.scatter(*point[latents[:2]].tolist(), s=90, color="#1f2933", edgecolor="white", linewidth=1.5, zorder=3)
    names = list(values)
    pad.set(title=f"Codes of the {model['name']}, by class", xlabel=names[0], ylabel=names[1], xlim=(-3.5, 3.5),
            ylim=(-3.5, 3.5), aspect="equal")
    pad.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5), markerscale=2)
    pad.spines[["top", "right"]].set_visible(False)
    plots.draw_images(picture, x.clamp(0, 1), 1, title="Decoded at the black dot", background=0.85)
    return figure
