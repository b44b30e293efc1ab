"""Training: the visible loop, a progress bar, averaged weights, and files of trained weights.

``steps`` is the loop itself. ``fit`` runs it to its end with a progress bar and gives back the curves. ``cached``
trains once and remembers the result. Nothing here knows a model: an objective is any callable that turns a batch
into a scalar loss, or into a dictionary of scalars with a ``"loss"``.

* ``loop``: ``steps``, ``fit`` and what they return
* ``schedules``: learning rates that change
* ``adversarial``: the same two for a pair of networks
* ``bar``: progress, in a notebook and in a terminal
* ``modes``: evaluation mode for a while, running averages of weights
* ``weights``: files of weights
* ``cache``: train once
"""

from course_utils.training.adversarial import adversarial_fit, adversarial_steps
from course_utils.training.bar import progress
from course_utils.training.cache import cache_folder, cached
from course_utils.training.loop import History, Record, fit, steps
from course_utils.training.modes import ema_of, evaluating
from course_utils.training.schedules import cosine
from course_utils.training.weights import load_weights, read_tensors, save_weights, write_tensors

__all__ = ["History", "Record", "adversarial_fit", "adversarial_steps", "cache_folder", "cached", "cosine", "ema_of",
           "evaluating", "fit", "load_weights", "progress", "read_tensors", "save_weights", "steps", "write_tensors"]
