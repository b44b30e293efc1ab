"""Training once: weights, curves and random state stored under a fingerprint of all that made them."""

import os
import re
import sys
import tempfile
from pathlib import Path

import torch

from course_utils.fingerprint import fingerprint
from course_utils.training.loop import History, steps
from course_utils.training.weights import put_weights, read_tensors, write_tensors


def cached(name, model, train, *, folder=None, **key):
    """Train once: ``train()`` changes the model and returns what ``fit`` returned; later calls load the result.

    Weights, modes, curves and the random state that training leaves are stored, so that a notebook gives the same
    figures either way. The result is used again only if all of this is unchanged: the model (classes, structure,
    attributes, first weights), the random state before training, ``key`` (data set, seed, n_steps, ...), what ``train``
    reads (its code, numbers, data), this package's code, and torch's version. A damaged file is trained again; a
    training stopped by Ctrl-C or an error is not stored. Make batches and optimisers inside ``train``.

    folder: where the files lie; None is ``cache_folder()``. Of each name the newest four stay. Only torch's random
    state is kept, not NumPy's. ``course run`` gives each run a cache of its own, so that it trains.
    """
    folder = cache_folder() if folder is None else Path(folder)
    before = fingerprint(name, model, train, steps, key, torch.__version__, random_state(model))
    stem = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")
    path = folder / f"{stem}-{before[:16]}.safetensors"
    if path.exists():
        try:
            history = restore(path, model, before)
        except (ValueError, KeyError, OSError) as error:
            print(f"{name}: the stored training is not usable, training again ({error})")
        else:
            print(f"{name}: trained before; weights, curves and random state loaded")
            return history
    history = train()
    if not isinstance(history, History):
        raise ValueError(f"train() must return the History that fit() gives, it returned {type(history).__name__}")
    if history.stopped_at is None:
        try:
            store(path, model, before, history)
            same = [file for file in folder.glob(f"{stem}-*.safetensors") if file.stem[: -len("-") - 16] == stem]
            for file in sorted(same, key=lambda file: file.stat().st_mtime)[:-4]:
                file.unlink(missing_ok=True)
        except OSError as error:
            print(f"{name}: trained, but not stored for the next time ({error})")
    return history


def cache_folder():
    """``$COURSE_CACHE``, else ``build/cache`` of the checkout this package runs from, else the user's cache folder."""
    if os.environ.get("COURSE_CACHE"):
        return Path(os.environ["COURSE_CACHE"])
    root = Path(__file__).resolve().parents[2]
    if (root / "pyproject.toml").is_file() and (root / "notebooks").is_dir():
        return root / "build" / "cache"
    try:
        home = Path.home()
    except RuntimeError:                                             # no HOME, and a user without an entry
        return Path(tempfile.gettempdir()) / "deep-generative-course"
    by_platform = {"darwin": home / "Library" / "Caches", "win32": home / "AppData" / "Local"}
    return by_platform.get(sys.platform, home / ".cache") / "deep-generative-course"


def random_state(model):
    """The states of torch's generators that training uses: the CPU's, and those of the model's CUDA devices."""
    devices = sorted({str(value.device) for value in model.parameters() if value.device.type == "cuda"})
    return {"cpu": torch.get_rng_state()} | {device: torch.cuda.get_rng_state(device) for device in devices}


def store(path, model, before, history):
    tensors = {f"weights/{name}": value for name, value in model.state_dict().items()}
    tensors |= {f"history/{name}": value for name, value in history.items()}
    tensors |= {f"random/{device}": state for device, state in random_state(model).items()}
    tensors = {name: value.detach().cpu() for name, value in tensors.items()}
    modes, curves = [module.training for module in model.modules()], list(history)
    after = fingerprint(sorted(tensors.items()), modes, curves)
    write_tensors(path, tensors, {"before": before, "after": after, "modes": modes, "curves": curves})


def restore(path, model, before):
    tensors, metadata = read_tensors(path)
    modes, curves = metadata["modes"], metadata["curves"]
    # Everything is checked before the model is touched: what is trained again must start from the first weights.
    if metadata["before"] != before or metadata["after"] != fingerprint(sorted(tensors.items()), modes, curves):
        raise ValueError(f"{path} is damaged")
    parts = {"weights": {}, "history": {}, "random": {}}
    for name, value in tensors.items():
        part, _, rest = name.partition("/")
        parts[part][rest] = value
    put_weights(model, parts["weights"], path)
    for module, mode in zip(model.modules(), modes, strict=True):
        module.training = mode
    torch.set_rng_state(parts["random"].pop("cpu"))
    for device, state in parts["random"].items():
        torch.cuda.set_rng_state(state, device)
    return History({name: parts["history"][name] for name in curves})
