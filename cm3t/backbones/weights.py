"""Weights of a backbone: the ones that ship with the package, and safetensors files of the same parameter names."""

import hashlib
import json
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn


class WeightsError(ValueError):
    """A weights file that is missing, unsafe, or does not fit the backbone; the message lists what differs."""


def shipped(name: str) -> Path:
    """Path of the weights that ship for backbone `name`; raises WeightsError where none do."""
    path = Path(str(files("cm3t") / "weights" / f"{name}.safetensors"))
    if not path.is_file():
        raise WeightsError(
            f"no weights ship for {name!r}: weights='default' is for the mini backbones; "
            "give a safetensors file, or None for random weights"
        )
    return path


def resolve(name: str, weights: str | Path) -> Path:
    """The file behind `weights`: "default" is the shipped one, anything else a path."""
    return shipped(name) if str(weights) == "default" else Path(weights)


def digest(path: Path) -> str:
    """The first 16 hex digits of the file's sha256: what a record calls its weights."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]


def read(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file; float16 is widened to float32. Pickles are refused."""
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"no weights file at {path}")
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}
            metadata = file.metadata() or {}
    except SafetensorError as error:
        raise WeightsError(
            f"{path} is not a safetensors file ({error}). Pickled checkpoints (.pt, .pth, .bin) can run code when "
            "they are opened, so they are refused: convert them where you trust them, with safetensors.torch.save_file"
        ) from error
    return {k: v.float() if v.dtype == torch.float16 else v for k, v in tensors.items()}, metadata


def misfits(own: Mapping[str, torch.Tensor], tensors: Mapping[str, torch.Tensor]) -> list[str]:
    """Every missing, unexpected and wrongly shaped key of `tensors`, a sentence each; empty where all fit."""
    differ = [f"missing key {k}" for k in own if k not in tensors]
    differ += [f"unexpected key {k}" for k in tensors if k not in own]
    return differ + [
        f"{k} has shape {tuple(tensors[k].shape)}, the model's is {tuple(own[k].shape)}"
        for k in own
        if k in tensors and tensors[k].shape != own[k].shape
    ]


def load(model: nn.Module, path: Path) -> str:
    """Load a safetensors file into a backbone, strictly; returns the file's digest.

    A headless model takes a file with a head: the keys `head.*` alone may be left over.
    """
    tensors, _ = read(path)
    own = model.state_dict()
    tensors = {k: v for k, v in tensors.items() if k in own or not k.startswith("head.")}
    indices = {k: v for k, v in own.items() if k.endswith("relative_position_index")}
    tensors = indices | tensors
    if differ := misfits(own, tensors):
        raise WeightsError(f"{path} does not fit {model.name} ({len(differ)} keys):\n  " + "\n  ".join(sorted(differ)))
    model.load_state_dict(tensors)
    return digest(path)


def save(model: nn.Module, path: Path, *, metadata: dict, half: bool = True) -> str:
    """Write a backbone's parameters and buffers (float16 unless told), metadata as one JSON string; returns the digest.

    Index tables that follow from the architecture are left out.
    """
    tensors = {k: v for k, v in model.state_dict().items() if not k.endswith("relative_position_index")}
    tensors = {k: (v.half() if half and v.is_floating_point() else v).contiguous() for k, v in tensors.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path, metadata={"cm3t": json.dumps(metadata)})
    return digest(path)
