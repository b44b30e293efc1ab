"""Labels that come with images, or do not: what the models of this folder share."""


def as_pair(batch):
    """A batch is x or (x, y): give (x, y), with y = None where there are no labels."""
    return batch if isinstance(batch, (tuple, list)) else (batch, None)


def check_label(n_classes, y):
    """A conditional model needs labels and an unconditional one takes none: raises a ValueError that says which."""
    if (y is None) != (n_classes == 0):
        want = "labels y, (B,) integers" if n_classes else "no y: this model is not class-conditional"
        raise ValueError(f"expected {want}; got {'none' if y is None else 'labels'}")
