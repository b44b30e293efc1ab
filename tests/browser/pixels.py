"""What a canvas shows, pixel by pixel."""

import torch

# The red of a small image in the middle of its pixels, as it is drawn at (x, y), `width` of the canvas' `units` wide.
RED = """(canvas, [units, x, y, width, rows, columns]) => {
  const scale = canvas.width / units, ctx = canvas.getContext("2d");
  const at = (corner, i) => Math.floor((corner + (i + 0.5) * width / columns) * scale);
  return Array.from({ length: rows * columns },
    (_, j) => ctx.getImageData(at(x, j % columns), at(y, Math.floor(j / columns)), 1, 1).data[0]);
}"""


def is_drawn(canvas, image, units, x, y, width):
    """Whether a grey ``image`` ``(H, W)`` in [0, 1] stands there, ink dark, to one grey level and its rounding."""
    red = canvas.evaluate(RED, [units, x, y, width, *image.shape])
    return bool((torch.tensor(red).view(image.shape) - 255 * (1 - image)).abs().max() < 1.6)
