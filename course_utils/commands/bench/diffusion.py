"""Diffusion and flow matching measured: solvers, a density in the plane, latents, pixels, and what sampling costs."""

import time

import torch
from torch import nn

from course_utils import metrics, shipped, training
from course_utils.commands.bench.tables import clocks, since
from course_utils.data import densities, images
from course_utils.distributions import standard_normal
from course_utils.models import autoencoder, classifier
from course_utils.models.diffusion import flow_matching, process, samplers, schedule

N_JUDGED = 5_000  # images on each side of a distance


def follow(model, objective, batches, n_steps, lr, description, clip_norm=None):
    """Train with AdamW along half a cosine; the averaged model, and what it took."""
    ema = training.ema_of(model, half_life=max(1, n_steps / 12))
    optimizer, start = torch.optim.AdamW(model.parameters(), lr), clocks()
    training.fit(objective, optimizer, batches, n_steps, description=description, ema=ema, clip_norm=clip_norm,
                 scheduler=training.cosine(optimizer, n_steps))
    return ema.module.eval(), since(start)


def solver_errors():
    """Error at the end against a fine solution from the same noise, on an exact mixture: a row for each solver."""
    mixture, levels = densities.two_bumps(2.0, 0.25), schedule.cosine_schedule(3_200, 0.0, 1.0)
    x = torch.linspace(-1.8, 1.8, 61).double()

    def denoise(x, t):
        return mixture.clean_given(x.float(), levels.alpha_bar[t[0]].item()).mean.double()

    walk = list(range(3_040, 159, -1))
    fine = samplers.final(samplers.dpm_solver(denoise, x, levels, walk[::4]))
    for name, sampler in (("DDIM", samplers.ddim), ("DPM-Solver++(2M)", samplers.dpm_solver)):
        ends = {n: samplers.final(sampler(denoise, x, levels, walk[:: 2_880 // n])) for n in (5, 10, 20, 48)}
        yield {"what": f"{name}, error on a mixture",
               **{f"{n} steps": (end - fine).abs().mean().item() for n, end in ends.items()}}


def plane(n_steps):
    """KL(p||q) in nats of a learned flow on eight Gaussians, q by the ODE's likelihood."""
    p = densities.eight_gaussians()
    model = flow_matching.vector_flow(2, 128, 3, spread=2.0)
    model, took = follow(model, model.loss, iter(lambda: p.sample((512,)), None), n_steps, 4e-3, "plane")
    x = p.sample((500,))
    times = (1 - torch.linspace(1e-3, 1, 101) ** 2).tolist()
    log_q = samplers.ode_log_prob(model.velocity, x / 2.0, times, standard_normal(2)) - 2 * torch.tensor(2.0).log()
    return {"what": "flow matching, eight Gaussians", "KL, nats": (p.log_prob(x) - log_q).mean().item(), **took}


class Judge:
    """Distances to real images in the features of a shipped classifier."""

    def __init__(self, data, dataset, seed):
        self.network = classifier.feature_network(data.shape[0], len(data.classes)).to(data.test.images.device)
        training.load_weights(shipped.path(f"features_{dataset}.safetensors"), self.network)
        real = data.test.images
        if dataset == "handwriting":  # it can be drawn: a reference of its own, with a seed of its own
            real = images.load(dataset, n=2 * N_JUDGED, seed=seed + 1_000).train.images.to(real.device)
        self.real, _ = self.look(images.to_float(real[: 2 * N_JUDGED]))
        self.n = min(N_JUDGED, len(self.real) // 2)
        halves = torch.Generator().manual_seed(seed)
        self.floor, self.spread = metrics.half_against_half(metrics.frechet_distance, self.real, self.n, halves)

    def look(self, x):
        parts = x.clamp(0, 1).split(500)
        with training.evaluating(self.network):
            return (torch.cat([self.network.features(part) for part in parts]),
                    torch.cat([self.network(part).logits.argmax(1) for part in parts]))

    def __call__(self, x, y=None):
        features, seen = self.look(x)
        density, coverage = metrics.density_coverage(features, self.real[: len(x)])
        found = {"Fréchet / floor": metrics.frechet_distance(features, self.real) / self.floor,
                 "density": density, "coverage": coverage, "n": len(x)}
        return found if y is None else found | {"label": (seen == y).double().mean().item()}


def latent_rows(data, judge, n_ae, n_flow):
    """An autoencoder, a flow on its codes, and guidance at three strengths."""
    x = images.to_float(data.train.images)
    ae = autoencoder.mlp_autoencoder(data.shape, (512, 512), 32, activation=nn.SiLU, mean_image=x.mean(0),
                                     latent_noise=0.1, penalty=autoencoder.small_codes(0.05),
                                     error=autoencoder.cross_entropy).to(x.device)
    start = clocks()
    optimizer = torch.optim.Adam(ae.parameters(), 2e-3)
    training.fit(ae.loss, optimizer, images.batches(data.train.images, 100), n_ae, description="autoencoder",
                 scheduler=training.cosine(optimizer, n_ae))
    with training.evaluating(ae):
        codes = torch.cat([ae.encoder(part) for part in x.split(1_000)])
    flow = flow_matching.vector_flow(32, 256, 3, 10, codes.mean(0), codes.std(0)).to(x.device)
    flow, _ = follow(flow, flow.loss, images.batches(codes, 128, data.train.labels), n_flow, 2e-3, "flow on codes")
    took, model = since(start), flow_matching.Latent(ae.encoder, ae.decoder, flow)
    y = torch.arange(judge.n, device=x.device) % 10
    for s, n_steps in ((1.0, 5), (1.0, 10), (1.5, 10), (3.0, 10)):
        began = time.perf_counter()
        drawn = model.sample(judge.n, y, n_steps=n_steps, s=s)
        seconds = time.perf_counter() - began
        yield {"what": f"latent, s = {s:g}, {2 * n_steps} Heun calls", **judge(drawn, y),
               "sampling s / 1,000": 1_000 * seconds / judge.n, **took}


def pixel_rows(data, judge, n_steps, n_drawn):
    """A small U-Net on pixels, unconditional, and what a step costs by width."""
    model = process.unet_diffusion(data.shape).to(data.train.images.device)
    model, took = follow(model, model.loss, images.batches(data.train.images, 32), n_steps, 3e-3, "U-Net", 5.0)
    for n in (10, 20):
        noise = torch.randn(n_drawn, *data.shape, device=data.train.images.device)
        began = time.perf_counter()
        walk = samplers.dpm_solver(samplers.clipped(model.denoise), noise, model.schedule,
                                   schedule.trailing_steps(1_000, n))
        drawn = model.outside(samplers.final(walk))
        seconds = time.perf_counter() - began
        yield {"what": f"pixels, {n} DPM calls", **judge(drawn), "sampling s / 1,000": 1_000 * seconds / n_drawn,
               **took}


def benchmark(setting):
    """Solver errors, KL in the plane, distances over the floor in latents and pixels, seconds of sampling."""
    yield from solver_errors()
    scale = {"smoke": 0.01, "class": 1.0, "full": 10.0}[setting.budget]
    yield plane(int(1_500 * scale) or 1)
    data = images.load(setting.dataset, seed=setting.seed, data_dir=setting.data_dir).to(setting.device)
    judge = Judge(data, setting.dataset, setting.seed)
    yield {"what": f"floor, n = {judge.n}: {judge.floor:.2f} ± {judge.spread:.2f}"}
    yield from latent_rows(data, judge, int(1_500 * scale) or 1, int(4_000 * scale) or 1)
    yield from pixel_rows(data, judge, int(1_500 * scale) or 1, 100 if setting.budget == "smoke" else 500)
