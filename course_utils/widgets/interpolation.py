"""The way between two encoded images, through codes and through pixels. For chapter 04."""

import torch
from matplotlib.figure import Figure

from course_utils import plots
from course_utils.widgets.demo import Demo, Slider
from course_utils.widgets.network import Decoder, pack_network


def interpolation(decoder, codes, images, labels):
    r"""Choose two images and walk between them: :math:`(1-t) z_A + t z_B` decoded, beside the cross-fade of pixels.

    ``decoder``: network ``(B, L) -> pixels`` in [0, 1] (layers as in :func:`.network.pack_network`); ``codes``:
    ``(M, L)`` of the M ``images`` ``(M, C, H, W)``, 20 to 100 are plenty; ``labels``: ``(M,)`` integers, for the
    colours. For L > 2 the dots stand where the two main directions of the codes put them. Taught in chapter 04.
    """
    codes, images = (torch.as_tensor(a).detach().cpu().float() for a in (codes, images))
    labels = torch.as_tensor(labels).cpu().to(torch.int32)
    if not len(codes) == len(images) == len(labels) or len(codes) < 3:
        raise ValueError(f"expected codes, images and labels of the same 3 or more images, got {len(codes)}, "
                         f"{len(images)}, {len(labels)}")
    if codes.dim() != 2 or codes.shape[1] < 2 or images.dim() != 4:
        raise ValueError("expected codes (M, L) with 2 or more latents and images (M, C, H, W), got "
                         f"{tuple(codes.shape)} and {tuple(images.shape)}")
    paint = Decoder(decoder, images.shape[1:])
    paint(codes[:1])                                                                # does it fit codes and images?
    places = _plane(codes)
    low, high = places.min(0).values, places.max(0).values
    a = int(labels.argmin())
    b = int(((places - places[a]).norm(dim=1) * (labels != labels[a])).argmax())    # far away, of another class
    last = len(codes) - 1
    sliders = (Slider("t", "place t", 0, 1, 0.5, 0.01), Slider("start", "image A", 0, last, a, 1),
               Slider("end", "image B", 0, last, b, 1))
    data = {"shape": list(images.shape[1:]), "layers": pack_network(decoder), "codes": codes, "images": images.half(),
            "labels": labels, "places": places, "frame": [*zip(low.tolist(), high.tolist(), strict=True)]}
    data["frame"] = [bound for pair in data["frame"] for bound in pair]

    def picture(values):
        return _picture(paint, codes, images, **values)

    return Demo("interpolation", needs=["network"], sliders=sliders, data=data, picture=picture, height=600,
                alt="Seven images on the way from A to B, decoded from mixed codes, and below mixed pixel by pixel.")


def _plane(codes):
    """Two coordinates per code: the code itself, or its two principal components."""
    if codes.shape[1] == 2:
        return codes
    centred = codes - codes.mean(0)
    return centred @ torch.linalg.svd(centred, full_matrices=False).Vh[:2].T


def _picture(paint, codes, images, t, start, end):
    a, b = round(start), round(end)
    ways = torch.cat([torch.linspace(0, 1, 6), torch.tensor([t])]).sort().values[:, None]
    decoded = paint((1 - ways) * codes[a] + ways * codes[b])
    ways = ways[..., None, None]
    figure = Figure(figsize=(7, 2.9), layout="constrained")
    through_codes, through_pixels = figure.subplots(2, 1)
    plots.draw_images(through_codes, decoded, 7, title="From A to B through codes", background=0.85)
    plots.draw_images(through_pixels, (1 - ways) * images[a] + ways * images[b], 7,
                      title="From A to B through pixels", background=0.85)
    return figure
