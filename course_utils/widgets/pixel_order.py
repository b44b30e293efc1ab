"""An image painted in an autoregressive order: context, receptive field and cost of each pixel. For chapter 02."""

import numpy as np
import torch
from matplotlib.figure import Figure

from course_utils.plots import PALETTE
from course_utils.widgets.demo import Demo, Slider

BLIND_SPOT = {
    "ask": "Guess first: a stack of masked 3×3 convolutions. Which earlier pixels does it never see, at any depth?",
    "options": ["none, depth reaches all", "some above, to the right", "some far to the left"], "right": 1,
    "answer": "A masked 3×3 window reaches one column to the right per row it climbs. What lies above and further "
              "right stays outside at any depth: the blind spot, red beyond the slanted edge. Two stacks cure it. (The "
              "other red pixels are only too far away for this depth.)",
}


def pixel_order(image, probabilities, contexts, orders=None, question=None):
    r"""Paint ``image`` pixel by pixel and see what each pixel may look at, :math:`p(x_i \mid x_{<i})` and its bits.

    ``image``: ``(H, W)`` integers in 0…K-1. The other arguments are dicts with one entry per model, same names:
    ``probabilities[name]``: ``(H, W, K)``, the model's prediction for every pixel given the true earlier ones;
    ``contexts[name]``: ``(H*W, H*W)`` bool, entry [i, j] says whether pixel i's prediction depends on pixel j (rows
    and columns count pixels in raster order); ``orders[name]``: ``(H*W,)`` pixels in the order they are painted, raster
    when left out. A pixel that looks at itself or ahead is drawn pink: a leak. ``question``: a dict like
    :data:`BLIND_SPOT`. Nothing is computed by a model here. Taught in chapter 02.
    """
    image = _integers(image)
    orders = orders or {}
    if not probabilities:
        raise ValueError("expected at least one model: probabilities={'name': tensor of shape (H, W, K)}, got none")
    if set(probabilities) != set(contexts) or not set(orders) <= set(contexts):
        raise ValueError("probabilities, contexts and orders must name the same models, got "
                         f"{sorted(probabilities)}, {sorted(contexts)} and {sorted(orders)}")
    views = [_view(name, image, probabilities[name], contexts[name], orders.get(name)) for name in probabilities]
    levels = views[0]["probabilities"].shape[-1]
    if any(view["probabilities"].shape[-1] != levels for view in views):
        every = {view["name"]: view["probabilities"].shape[-1] for view in views}
        raise ValueError(f"the models must share a number K of levels, got {every}")
    data = {"size": list(image.shape), "levels": levels, "image": image.astype(np.uint8), "views": views,
            "question": question or BLIND_SPOT}
    start = int(np.flatnonzero(views[0]["order"] == _busy(image))[0])               # painted up to there
    return Demo("pixel_order", sliders=[Slider("painted", "pixels painted", 0, image.size, start, 1)], data=data,
                picture=lambda values: _picture(image, views[0], **values), height=760,
                alt="An image painted up to one pixel, the earlier pixels this pixel looks at, and its probabilities.")


def _view(name, image, probabilities, context, order):
    probabilities, context = np.asarray(torch.as_tensor(probabilities)), np.asarray(torch.as_tensor(context))
    n = image.size
    order = np.arange(n) if order is None else np.asarray(torch.as_tensor(order))
    if probabilities.shape[:2] != image.shape or probabilities.ndim != 3 or image.max() >= probabilities.shape[2]:
        raise ValueError(f"{name}: expected probabilities (H, W, K) for an image {image.shape} with values up to "
                         f"{image.max()}, got {probabilities.shape}")
    if context.shape != (n, n):
        raise ValueError(f"{name}: expected a context of shape {(n, n)}, one row per pixel, got {context.shape}")
    if not np.array_equal(np.sort(order), np.arange(n)):
        raise ValueError(f"{name}: expected an order that names each of the {n} pixels once")
    return {"name": name, "order": order.astype(np.int32), "probabilities": probabilities.astype(np.float16),
            "context": context.astype(bool)}


def _integers(image):
    image = np.asarray(torch.as_tensor(image))
    if image.ndim != 2 or not np.array_equal(image, image.round()) or image.min() < 0 or image.max() > 255:
        raise ValueError(f"expected an image (H, W) of levels 0, 1, …, at most 255; got {image.dtype} {image.shape} "
                         f"with values from {image.min()} to {image.max()}")
    return image.astype(np.int64)


def _busy(image):
    """A pixel worth looking at first: in the middle column, half-way from the middle to the row below with most ink."""
    rows, columns = image.shape
    row = rows // 2 + int(image[rows // 2:].sum(1).argmax()) // 2
    return row * columns + columns // 2


def _picture(image, view, painted):
    rows, columns = image.shape
    n, painted = image.size, round(painted)
    pixel = view["order"][min(painted, n - 1)]
    rank = np.argsort(view["order"])
    seen, earlier = view["context"][pixel], rank < rank[pixel]
    levels = view["probabilities"].shape[-1]
    shade = np.repeat(1 - image.reshape(-1, 1) / (levels - 1), 3, axis=1)
    shade[rank >= painted] = (0.87, 0.89, 0.91)
    for where, colour in ((seen & earlier, PALETTE[5]), (earlier & ~seen, PALETTE[3]), (seen & ~earlier, PALETTE[4])):
        rgb = np.array([int(colour[k:k + 2], 16) for k in (1, 3, 5)]) / 255
        shade[where] = (shade[where] + rgb) / 2
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    paper, chart = figure.subplots(1, 2, width_ratios=(3, 2))
    paper.imshow(shade.reshape(rows, columns, 3), interpolation="nearest")
    paper.add_patch(_box(pixel % columns, pixel // columns))
    legend = "blue: looked at, red: earlier but never seen"
    legend += "\npink: a leak, not earlier" if (seen & ~earlier).any() else ""
    paper.set(title=f"{view['name']}: {painted} of {n} pixels painted\n{legend}")
    paper.set_axis_off()
    p = view["probabilities"][pixel // columns, pixel % columns].astype(float)
    colours = ["#9fb3c4"] * levels
    colours[image.flat[pixel]] = PALETTE[1]
    chart.bar(range(levels), p, color=colours)
    chart.set(title="Prediction for that pixel\n(orange: the image's level)", xlabel="level", ylabel="p",
              ylim=(0, 1.05), xticks=range(levels) if levels <= 20 else range(0, levels, 32))
    chart.spines[["top", "right"]].set_visible(False)
    return figure


def _box(column, row):
    from matplotlib.patches import Rectangle

    return Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor="#1f2933", linewidth=1.8)
