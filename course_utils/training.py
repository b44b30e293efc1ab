"""Training: the visible loop, a progress bar, averaged weights, and files of trained weights.

``steps`` is the loop itself. ``fit`` runs it to its end with a progress bar and gives back the curves. ``cached``
trains once and remembers the result. Nothing here knows a model: an objective is any callable that turns a batch
into a scalar loss, or into a dictionary of scalars with a ``"loss"``.
"""

import contextlib
import html
import json
import os
import re
import sys
import time
from pathlib import Path
from typing import NamedTuple

import safetensors
import safetensors.torch
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from course_utils.files import write_bytes
from course_utils.fingerprint import fingerprint

# ---------------------------------------------------------------------------------------------------- the loop


class Record(NamedTuple):
    """What ``steps`` yields after an update. The numbers are scalar tensors: ``float(record.loss)`` reads one."""

    step: int  # 1 for the first update
    loss: torch.Tensor
    terms: dict[str, torch.Tensor]  # everything the objective returned, "loss" included


def terms_of(output, step):
    """The objective's output as a dictionary of scalars with a differentiable, finite ``"loss"``, or a clear error."""
    terms = output if isinstance(output, dict) else {"loss": output}
    if "loss" not in terms:
        raise ValueError(f'the objective returned {sorted(terms)} without a "loss": call what is minimised "loss"')
    for name, value in terms.items():
        if not isinstance(value, torch.Tensor) or value.ndim:
            shape = f"shape {tuple(value.shape)}" if isinstance(value, torch.Tensor) else type(value).__name__
            raise ValueError(f'the objective\'s "{name}" must be a scalar tensor, got {shape}: average over the batch')
    if not terms["loss"].requires_grad:
        raise ValueError("the loss depends on no parameter that wants a gradient: was it detached, or under no_grad?")
    if not torch.isfinite(terms["loss"]):
        raise FloatingPointError(f"the loss is {terms['loss'].item()} at step {step}; the weights are those before it")
    return terms


def steps(objective, optimizer, batches, n_steps, *, clip_norm=None, scheduler=None):
    """Minimise ``objective(batch)`` for ``n_steps`` updates; yield a ``Record`` after each one.  Taught in chapter 01.

    objective: callable, batch -> scalar tensor, or dict of scalar tensors with ``"loss"``.
    batches: any iterable that gives at least ``n_steps`` batches.  clip_norm: largest norm of the whole gradient.
    scheduler: stepped once per update.  Stop early by leaving the ``for`` loop.
    Errors: FloatingPointError when the loss is not finite (the weights stay as they were before that step; looking
    costs one wait for the device per step); ValueError when the objective returns something else, or batches run out.
    """
    step = 0
    for step, batch in zip(range(1, n_steps + 1), batches, strict=False):
        terms = terms_of(objective(batch), step)
        optimizer.zero_grad()
        terms["loss"].backward()
        if clip_norm is not None:
            weights = [weight for group in optimizer.param_groups for weight in group["params"]]
            nn.utils.clip_grad_norm_(weights, clip_norm)
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
        terms = {name: value.detach() for name, value in terms.items()}
        yield Record(step, terms["loss"], terms)
    if step < n_steps:
        raise ValueError(f"batches ended after {step} of {n_steps} steps: give an endless iterable, or fewer steps")


class History(dict):
    """The curves of a training, name -> (n_steps,) float tensor; ``stopped_at`` is the step of a Ctrl-C, else None."""

    def __init__(self, curves=(), stopped_at=None):
        super().__init__(curves)
        self.stopped_at = stopped_at


def fit(objective, optimizer, batches, n_steps, *, description="training", ema=None, callback=None, clip_norm=None,
        scheduler=None):
    """Run ``steps`` to the end behind a progress bar; return a ``History``: each term as (n_steps,) float32, CPU.

    ema: what ``ema_of`` made; it follows the model after each update.  callback: called with each ``Record``.
    Ctrl-C stops the training, says at which step, and returns the history so far; the model keeps what it learned.
    """
    curves, stopped_at, step = {}, None, 0

    def recent():
        return f"loss {curves['loss'][max(0, step - 50) : step].mean():.4g}"

    with Bar(n_steps, description) as bar:
        try:
            for record in steps(objective, optimizer, batches, n_steps, clip_norm=clip_norm, scheduler=scheduler):
                # One long tensor a curve. A list of small ones would lie between the batches of later steps in memory,
                # and keep the room around them from being used again: gigabytes after some ten thousand steps.
                step = record.step
                if not curves:
                    curves = {name: torch.empty(n_steps, dtype=torch.float32, device=term.device)
                              for name, term in record.terms.items()}
                if set(record.terms) != set(curves):
                    raise ValueError("the objective must return the same terms at every step: first "
                                     f"{list(curves)}, at step {step} {list(record.terms)}")
                for name, term in record.terms.items():
                    curves[name][step - 1] = term
                if ema is not None:
                    ema.update()
                bar.update(step, recent)
                if callback is not None:
                    callback(record)
        except KeyboardInterrupt:
            stopped_at = step
            bar.stop("stopped by you; the model keeps what it learned")
    return History({name: curve[:step].cpu().clone() for name, curve in curves.items()}, stopped_at)


# ------------------------------------------------------------------------------------------------ the progress bar


class Bar:
    """A progress bar: an updated HTML display in Jupyter (it survives papermill and saving), a text line elsewhere."""

    def __init__(self, total, description, seconds_between=0.2):
        self.total, self.description, self.seconds_between = total, description, seconds_between
        self.done, self.note, self.ending = 0, lambda: "", ""
        self.start = self.drawn = time.monotonic()

    def __enter__(self):
        self.handle = self.line = None
        if in_jupyter():
            from IPython.display import display

            self.handle = display(self.bundle(), raw=True, display_id=True)
        else:
            from tqdm import tqdm

            often = self.seconds_between if sys.stderr.isatty() else 60
            self.line = tqdm(total=self.total, desc=self.description, mininterval=often, leave=True)
        return self

    def update(self, done, note=lambda: ""):
        """``done`` of ``total`` are finished; ``note()`` gives words, and is called only when the bar is drawn."""
        self.done, self.note = done, note
        now = time.monotonic()
        if now - self.drawn >= self.seconds_between:
            self.drawn = now
            self.draw()

    def stop(self, why):
        """Say on the bar that the work ended before its end."""
        self.ending = why

    def draw(self):
        if self.handle is not None:
            self.handle.update(self.bundle(), raw=True)
        else:
            self.line.set_postfix_str(" · ".join(filter(None, [self.note(), self.ending])), refresh=False)
            self.line.update(self.done - self.line.n)

    def __exit__(self, kind, error, trace):
        if kind is not None and not self.ending:  # a `break` out of the loop closes the generator
            self.ending = "left early" if kind is GeneratorExit else f"stopped by {kind.__name__}"
        self.draw()
        if self.line is not None:
            self.line.close()

    def bundle(self):
        total = "" if self.total is None else f" of {self.total:,}"
        seconds = f"{time.monotonic() - self.start:.1f} s"
        words = " · ".join(filter(None, [f"{self.done:,}{total}", self.note(), seconds, self.ending]))
        text, label = f"{self.description}: {words}", html.escape(self.description)
        amount = f'value="{self.done}" max="{max(self.total, 1)}"' if self.total is not None else ""
        bar = f'<progress {amount} aria-label="{label}" style="width: 16em"></progress>'
        return {"text/plain": text, "text/html": f"<div>{label} {bar} {html.escape(words)}</div>"}


def in_jupyter():
    """Whether this process is a Jupyter kernel."""
    ipython = sys.modules.get("IPython")  # a kernel has imported it; nothing else needs to
    shell = ipython.get_ipython() if ipython else None
    return getattr(shell, "kernel", None) is not None


def progress(iterable, total=None, description="working"):
    """Yield the items of ``iterable`` and show how many are done. total: their number, when ``len`` cannot say it."""
    if total is None and hasattr(iterable, "__len__"):
        total = len(iterable)
    with Bar(total, description) as bar:
        for done, item in enumerate(iterable, start=1):
            yield item
            bar.update(done)


# ------------------------------------------------------------------------------------------- modes and averages


@contextlib.contextmanager
def evaluating(*models):
    """Evaluation mode and no gradients inside; afterwards every submodule has the mode it had, also after an error."""
    modes = [(module, module.training) for model in models for module in model.modules()]
    for model in models:
        model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


class Ema(AveragedModel):
    """torch's averaged model that remembers whom it follows."""

    def __init__(self, model, decay, buffers=False):
        super().__init__(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=buffers)
        self.followed = (model,)  # in a tuple, so that its weights are not registered as ours

    def update(self):
        self.update_parameters(self.followed[0])


def ema_of(model, decay=None, *, half_life=None, buffers=False):
    r"""A copy of the model whose weights are the running average of the model's own.

    $$\bar\theta_1 = \theta_1, \qquad \bar\theta_k = d\,\bar\theta_{k-1} + (1-d)\,\theta_k$$

    Say either the decay d in [0, 1), 0.999 when left out, or the ``half_life`` in updates after which a weight of the
    past counts half: d = 2^(-1 / half_life).  buffers: average these too, such as the running statistics of batch
    norm; otherwise they are the model's newest. Give it to ``fit(..., ema=...)``; ``ema_of(model).module`` is the
    averaged model.
    """
    if decay is not None and half_life is not None:
        raise ValueError(f"give a decay or a half_life, not both; got {decay} and {half_life}")
    if half_life is not None:
        if not half_life > 0:
            raise ValueError(f"half_life is a number of updates above 0, got {half_life}")
        decay = 0.5 ** (1 / half_life)
    return Ema(model, 0.999 if decay is None else decay, buffers)


# ---------------------------------------------------------------------------------------------- files of weights


def save_weights(path, model, metadata, dtype=None):
    """Write the model's state to a safetensors file, whole or not at all.

    metadata: a dict that JSON can hold (say the command, seed, data and metrics that made the weights).
    dtype: store floating weights in this type (``torch.float16`` halves the file); ``load_weights`` converts back.
    """
    tensors = {}
    for name, value in model.state_dict().items():
        stored = value.detach().cpu()
        if dtype is not None and stored.is_floating_point():
            stored = stored.to(dtype)
            if not torch.equal(stored.isfinite(), value.detach().cpu().isfinite()):
                raise ValueError(f"{name} does not fit into {dtype}: its largest value is {value.abs().max():.3g}")
        tensors[name] = stored
    write_tensors(path, tensors, metadata)


def load_weights(path, model):
    """Load what ``save_weights`` wrote into the model (into its own types and device); return the metadata.

    Errors: FileNotFoundError; ValueError when the file is damaged or its weights are not those of this model.
    """
    tensors, metadata = read_tensors(path)
    put_weights(model, tensors, path)
    return metadata


def put_weights(model, tensors, path):
    own = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in tensors.items()}
    problems = [f"{name} is missing" for name in own if name not in found]
    problems += [f"{name} is not in the model" for name in found if name not in own]
    problems += [f"{name} has shape {found[name]}, the model wants {own[name]}"
                 for name in own if name in found and found[name] != own[name]]
    if problems:
        more = f" (and {len(problems) - 6} more)" if len(problems) > 6 else ""
        raise ValueError(f"{path} does not fit {type(model).__name__}: " + "; ".join(problems[:6]) + more)
    model.load_state_dict(tensors)


def write_tensors(path, tensors, metadata):
    """One safetensors file, atomically: it appears under its name only when it is complete."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}  # unties shared ones
    content = safetensors.torch.save(tensors, {name: json.dumps(value) for name, value in metadata.items()})
    write_bytes(path, content)


def read_tensors(path):
    """The tensors and the metadata of a file that ``write_tensors`` made."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"no file of weights at {path}")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = {name: json.loads(value) for name, value in (file.metadata() or {}).items()}
            return {name: file.get_tensor(name) for name in file.keys()}, metadata  # noqa: SIM118 (not a dict)
    except (safetensors.SafetensorError, ValueError) as error:
        raise ValueError(f"{path} is damaged ({error}): delete it, and make or download it again") from error


# ------------------------------------------------------------------------------------------------ cached training


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
    root = Path(__file__).resolve().parents[1]
    if (root / "pyproject.toml").is_file() and (root / "notebooks").is_dir():
        return root / "build" / "cache"
    home = Path.home()
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
