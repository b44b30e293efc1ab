"""Frames under a slider: what only a trained network can draw, drawn beforehand. For chapters 07 and 08."""

import torch
from matplotlib.figure import Figure

from course_utils import plots
from course_utils.widgets.demo import Demo, Slider


def film(frames, *, values, axis, names, columns=8, start=0, ask=None, options=(), right=0, answer=""):
    r"""Slide through ``frames`` ``(F, P, N, C, H, W)``, images in [0, 1]: P sheets of N images side by side.

    One channel is ink on white paper, three are red, green and blue.

    ``values``: F numbers, what the slider stands for at each frame; ``axis``: their name. ``names``: P titles.
    ``columns``: images in a row of a sheet. ``start``: the first frame shown. ``ask, options, right, answer``: a
    question before the drag. Taught in chapters 07 and 08.
    """
    frames = torch.as_tensor(frames).detach().cpu().float()
    fits = frames.dim() == 6 and frames.shape[3] in (1, 3)
    if not fits or len(values) != len(frames) or len(names) != frames.shape[1]:
        raise ValueError(f"expected frames (F, P, N, C, H, W) of 1 or 3 channels with F values and P names, got "
                         f"{tuple(frames.shape)}, {len(values)} values and {len(names)} names")
    if len(frames) < 2 or not 0 <= start < len(frames):
        raise ValueError(f"expected at least two frames and a start among them, got {len(frames)} and start={start}")
    sheets = torch.stack([torch.stack([plots.tile(sheet, columns, background=0.5) for sheet in frame])
                          for frame in frames])
    sheets = (sheets.clamp(0, 1) * 255).round().to(torch.uint8)  # (F, P, H, W, C)
    question = None if ask is None else {"ask": ask, "options": list(options), "right": right, "answer": answer}
    data = {"sheets": sheets, "values": [float(v) for v in values], "axis": axis, "names": list(names),
            "question": question}

    def picture(chosen):
        k = round(chosen["moment"])
        figure = Figure(figsize=(7, 0.7 + 7 / len(names) * sheets.shape[2] / sheets.shape[3]), layout="constrained")
        for axes, sheet, name in zip(figure.subplots(1, len(names), squeeze=False)[0], sheets[k], names, strict=True):
            axes.imshow(sheet.squeeze(-1).numpy(), cmap="gray_r", vmin=0, vmax=255)
            axes.set_title(name, fontsize=9)
            axes.set_axis_off()
        figure.suptitle(f"{axis} = {values[k]:g}", fontsize=10)
        return figure

    return Demo("film", sliders=[Slider("moment", "frame", 0, len(frames) - 1, start, 1)], data=data, picture=picture,
                height=420, alt=f"Sheets of images ({', '.join(names)}) under a slider for {axis}.")
