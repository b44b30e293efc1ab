"""Labels that come with images, or do not: what the models of this folder share."""

from course_utils import expect


def check_images(model, x):
    """Images that ``model`` can score: floats (B, C, H, W) of its shape and of its weights' dtype."""
    return expect.floats(x, "images", "B", *model.shape, like=model)


def check_label(n_classes, y, n="B"):
    """``y`` as int64 (n,), or None. A conditional model needs labels and an unconditional one takes none."""
    if (y is None) != (expect.count(n_classes, "n_classes", 0) == 0):
        want = "labels y, (B,) integers" if n_classes else "no y: this model is not class-conditional"
        raise ValueError(f"expected {want}; got {'none' if y is None else 'labels'}")
    return None if y is None else expect.labels(y, n, n_classes)
