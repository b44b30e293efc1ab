"""Endings of a half-hidden image at many temperatures, drawn beforehand by a model. For chapter 02."""

import numpy as np
import torch
from matplotlib.figure import Figure

from course_utils import plots
from course_utils.widgets.demo import Demo, Slider


def completion(originals, known, endings, temperatures, bits=None, levels=2, order=None):
    r"""Move the temperature and watch the endings a model paints for the hidden part of an image.

    ``originals``: ``(D, H, W)`` levels 0…K-1; ``known``: ``(H, W)`` bool, true where pixels are given; ``endings``:
    ``(D, T, M, H, W)``, M completions of each image at each of T temperatures. Draw them from shared uniforms, so that
    only the temperature changes. ``temperatures``: T numbers, rising; ``bits``: ``(D, T, M)``, what each ending costs
    under the model at temperature 1, in bits; ``order``: all pixels, or the hidden ones, in the order they are painted,
    raster when left out.
    Nothing is sampled here. Taught in chapter 02.
    """
    originals, known, endings = (np.asarray(torch.as_tensor(a)) for a in (originals, known, endings))
    known = known.astype(bool)
    temperatures = [round(float(t), 4) for t in temperatures]
    d, h, w = originals.shape
    if endings.shape[:2] != (d, len(temperatures)) or endings.shape[3:] != (h, w) or known.shape != (h, w):
        raise ValueError(f"expected endings {(d, len(temperatures), 'M', h, w)} and known {(h, w)} for {d} images and "
                         f"{len(temperatures)} temperatures, got {endings.shape} and {known.shape}")
    if sorted(temperatures) != temperatures or len(temperatures) < 2:
        raise ValueError(f"expected two or more temperatures in rising order, got {temperatures}")
    order = np.arange(h * w) if order is None else np.asarray(torch.as_tensor(order))
    order = order[~np.isin(order, np.flatnonzero(known))]                           # hidden pixels, as they are painted
    if not np.array_equal(np.sort(order), np.flatnonzero(~known)):
        raise ValueError(f"expected an order that names each of the {int((~known).sum())} hidden pixels once")
    bits = None if bits is None else np.asarray(torch.as_tensor(bits), np.float32)
    if bits is not None and bits.shape != endings.shape[:3]:
        raise ValueError(f"expected bits for each ending, {endings.shape[:3]}, got {bits.shape}")
    kind = bool if levels == 2 else np.uint8                                        # bits travel eight to a byte
    data = {"size": [h, w], "levels": levels, "counts": [d, len(temperatures), endings.shape[2]],
            "originals": originals.astype(kind), "known": known, "endings": endings.astype(kind),
            "temperatures": temperatures, "order": order.astype(np.int32),
            "bits": bits}
    one = min(temperatures, key=lambda t: abs(t - 1))
    sliders = (Slider("temperature", "temperature T", temperatures[0], temperatures[-1], one, 0.05),
               Slider("painted", "painted, %", 0, 100, 100, 1))

    def picture(values):
        return _picture(originals, known, endings, temperatures, order, levels, **values)

    return Demo("completion", sliders=sliders, data=data, picture=picture, height=640,
                alt="The upper half of an image, and several endings that a model painted for its lower half.")


def _picture(originals, known, endings, temperatures, order, levels, temperature, painted):
    step = int(np.argmin(np.abs(np.array(temperatures) - temperature)))
    shown = known.copy()
    shown.flat[order[:round(painted / 100 * len(order))]] = True
    given, painted_ones = np.where(known, originals[0], 0)[None], np.where(shown, endings[0, step], 0)
    drawn = np.concatenate([given, painted_ones]) / (levels - 1)
    captions = ["given", *(f"ending {m + 1}" for m in range(len(drawn) - 1))]
    figure = Figure(figsize=(7, 3.4), layout="constrained")
    columns = -(-len(drawn) // 2)
    axes = figure.subplots(2, columns, squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    for ax, image, caption in zip(axes.flat, drawn, captions, strict=False):
        plots.draw_images(ax, torch.as_tensor(image)[None, None].float(), 1)
        ax.set_title(caption, fontsize=9)
    figure.suptitle(f"Endings painted at temperature {temperatures[step]}")
    return figure
