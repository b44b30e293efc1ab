"""Files of trained weights: safetensors with what made them, whole or absent."""

import json
from pathlib import Path

import safetensors
import safetensors.torch
import torch

from course_utils.files import write_bytes


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
