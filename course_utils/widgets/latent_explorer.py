"""A slider per latent and a pad with the encoded data; the decoders run in the browser. For chapters 03 and 04."""

import torch
from matplotlib.figure import Figure

from course_utils import plots
from course_utils.widgets.demo import Demo, Slider
from course_utils.widgets.network import Decoder, pack_network

COLOURS = plots.CLASSES.colors
REACH = 3.5  # how far the sliders go, in prior or code standard deviations
HOLES = {
    "ask": "Guess first: press “random code” ten times with each decoder. Which draws more pictures that are no digit?",
    "answer": "The autoencoder: nobody chose the region that its codes fill, so a random code often lands where none "
              "lies (the line under the picture says when). A walk from one class to the next shows few holes in "
              "either. There the codes of several classes are crowded, and the decoder draws blends.",
}
FACTORS = {
    "ask": "Guess first: starting from one digit, what does a small step along one latent change?",
    "options": ["one pixel", "one part of the stroke", "the whole shape, a little"], "right": 2,
    "answer": "Every pixel depends on every latent. A small step bends the whole image a little; which property bends "
              "is what training happened to put on that axis.",
}


@torch.no_grad()
def latent_explorer(decoders, codes, labels, *, shape=(1, 28, 28), priors=("VAE",), drawn=(),
                    latents=None, question=None):
    r"""Move through latent space by hand: sliders, a pad with the encoded images as dots, the decoded image live.

    ``decoders``: name -> network ``(B, L) -> pixels`` in [0, 1], for example ``{"AE": ae.decoder, "VAE":
    nn.Sequential(vae.decoder.network, nn.Sigmoid())}``. The browser runs it when it knows all its layers (see
    :func:`.network.pack_network`). Otherwise Python decodes; without a kernel the nearest of some frames is shown that
    were decoded beforehand. Of a longer output, such as mean and log-variance, the first C·H·W numbers are drawn.
    ``codes``: name -> ``(N, L)`` codes of the same N images; ``labels``: ``(N,)`` integers from 0. ``priors`` names the
    models whose codes have the prior N(0, I): these keep their units and get rings; the others are drawn in standard
    deviations around their mean code. ``drawn`` names those without an encoder, a GAN's: their codes are draws,
    spread evenly, and there are no rings and no holes to speak of. ``latents``: which of the L get a slider (2 to 12;
    the most spread ones when left out), the others stay as the last jump left them. Nothing is trained. Taught in
    chapters 03, 04 and 05.
    """
    labels = torch.as_tensor(labels).cpu()
    codes = {name: torch.as_tensor(code).detach().cpu().float() for name, code in codes.items()}
    _check(decoders, codes, labels, shape, latents)
    if unknown := {*drawn} - {*decoders}:
        raise ValueError(f"expected drawn to name some of {sorted(decoders)}, got {sorted(unknown)}")
    labels, codes = labels[:1500], {name: code[:1500] for name, code in codes.items()}
    models = [_describe(name, codes[name], name in priors, name in drawn) for name in decoders]
    first = models[0]
    if latents is None:
        spread = ((codes[first["name"]] - first["shift"]) / first["scale"]).std(0)
        latents = spread.argsort(descending=True)[:12].sort().values.tolist()
    decode = {m["name"]: _Painter(decoders[m["name"]], m["shift"], m["scale"], shape) for m in models}
    names = [f"z{latent + 1}" for latent in latents]
    start = _typical_point(codes[first["name"]], labels, first)
    sliders = [Slider(name, name, -REACH, REACH, float(start[latent].clamp(-REACH, REACH)), 0.01)
               for name, latent in zip(names, latents, strict=True)]
    for m in models:
        m |= _pictures(decode[m["name"]], start, latents)
    known = [m["name"] in priors for m in models]
    if question is None and len(models) > 1 and any(known) and not all(known):
        question = {**HOLES, "options": list(decoders), "right": known.index(False)}
    data = {"shape": list(shape), "models": models, "labels": labels.to(torch.int32), "latents": latents,
            "labels_of": names, "classes": [str(k) for k in range(int(labels.max()) + 1)], "reach": REACH,
            "start": start.tolist(), "question": question or FACTORS}

    def picture(values):
        return _picture(decode[first["name"]], first, codes[first["name"]], labels, latents, start, values)

    def answer(question):
        return decode[models[question["model"]]["name"]](torch.tensor(question["point"])[None])[0]

    return Demo("latent_explorer", needs=["network"], sliders=sliders, data=data, picture=picture, answer=answer,
                height=760, alt="Encoded images as coloured dots in latent space, and the image decoded at one place.")


class _Painter:
    """``(B, L)`` points in slider units to uint8 pixels ``(B, C, H, W)``, by torch."""

    def __init__(self, network, shift, scale, shape):
        self.decoder, self.shift, self.scale = Decoder(network, shape), shift, scale

    def __call__(self, points):
        return (255 * self.decoder(self.shift + self.scale * points)).round().to(torch.uint8)


def _check(decoders, codes, labels, shape, latents):
    """Everything that the browser would draw wrongly, or not at all."""
    if set(decoders) != set(codes) or not codes:
        raise ValueError(f"decoders and codes must name the same models, got {sorted(decoders)} and {sorted(codes)}")
    sizes = {name: tuple(code.shape) for name, code in codes.items()}
    if any(len(size) != 2 or size[:1] != labels.shape for size in sizes.values()):
        raise ValueError(f"expected codes (N, L) and labels (N,) of the same N images, got codes {sizes} and labels "
                         f"{tuple(labels.shape)}")
    n_latents = {size[1] for size in sizes.values()}
    if len(n_latents) != 1 or min(n_latents) < 2:
        raise ValueError(f"the models must share a number of latents, at least 2; got {sorted(n_latents)}")
    if len(shape) != 3 or shape[0] not in (1, 3):
        raise ValueError(f"expected the shape (1, H, W) or (3, H, W) of an image, got {tuple(shape)}")
    there = range(min(n_latents))
    if latents is not None and not (2 <= len(set(latents)) == len(latents) <= 12 and set(latents) <= set(there)):
        raise ValueError(f"expected 2 to 12 different latents from 0 to {there[-1]}, got {list(latents)}")


def _pictures(decode, start, latents, n=15):
    """The layers for the browser; where it cannot run them, n × n frames over the first two latents in their place."""
    decode(start[None])                                          # does it fit codes and shape?
    try:
        return {"layers": pack_network(decode.decoder.network), "frames": None}
    except ValueError:
        axis = torch.linspace(-REACH, REACH, n)
        points = start.repeat(n * n, 1)
        points[:, latents[:2]] = torch.cartesian_prod(axis, axis)
        return {"layers": None, "frames": decode(points)}


def _describe(name, code, prior, drawn):
    shift, scale = (torch.zeros(code.shape[1]), torch.ones(code.shape[1])) if prior else (code.mean(0), code.std(0))
    scale = scale.clamp(min=1e-6)                                # a latent that never moves
    points = (code - shift) / scale
    gaps = torch.cdist(points, points).fill_diagonal_(torch.inf).min(1).values
    return {"name": name, "codes": code.half(), "prior": prior, "drawn": drawn, "shift": shift, "scale": scale,
            "typical": float(gaps.median())}


def _typical_point(code, labels, model):
    """The code nearest to the mean of the first class, in slider units: a start where something readable stands."""
    points = (code - model["shift"]) / model["scale"]
    mine = points[labels == labels.min()]
    return mine[(mine - mine.mean(0)).norm(dim=1).argmin()].clone()


def _picture(decode, model, code, labels, latents, start, values):
    point = start.clone()
    point[latents] = torch.tensor(list(values.values()))
    points = (code - model["shift"]) / model["scale"]
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    pad, picture = figure.subplots(1, 2, width_ratios=(3, 2))
    for k in labels.unique().tolist():
        pad.scatter(*points[labels == k][:, latents[:2]].T.numpy(), s=4, color=COLOURS[k % 10], label=str(k))
    pad.scatter(*point[latents[:2]].tolist(), s=90, color="#1f2933", edgecolor="white", linewidth=1.5, zorder=3)
    names = list(values)
    pad.set(title=f"Codes of the {model['name']}, by class", xlabel=names[0], ylabel=names[1], xlim=(-REACH, REACH),
            ylim=(-REACH, REACH), aspect="equal")
    pad.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5), markerscale=2)
    pad.spines[["top", "right"]].set_visible(False)
    plots.draw_images(picture, decode(point[None]) / 255, 1, title="Decoded at the black dot", background=0.85)
    return figure
