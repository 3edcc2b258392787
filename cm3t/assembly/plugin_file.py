"""The file that plugins and heads are kept in: safetensors and a description, written whole or not at all."""

import hashlib
import json
import os
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from cm3t.backbones import weights
from cm3t.backbones.weights import WeightsError

FORMAT = 1  # raised when an older reader could misread a newer file


def state_digest(module: nn.Module) -> str:
    """The first 12 hex digits of the sha256 over names, types, shapes and bytes of a module's state."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        tensor = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:12]


def write(path: Path, tensors: dict[str, Tensor], about: dict) -> Path:
    """Write tensors and their description; a disk that fills leaves an older file of that name as it was."""
    tensors = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".part")
    try:
        save_file(tensors, unfinished, metadata={"cm3t": json.dumps({"format": FORMAT} | about)})
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path


def read(path: Path) -> tuple[dict, dict[str, Tensor]]:
    """Description and tensors; WeightsError for a pickle, a cut-off file, and one that holds no plugins."""
    tensors, metadata = weights.read(path)
    about = json.loads(metadata.get("cm3t", "{}"))
    if "format" not in about:
        raise WeightsError(f"{path} does not say what it holds; write plugins with model.save_plugins")
    if about["format"] > FORMAT:
        found = about["format"]
        raise WeightsError(f"{path} has format {found}, this version reads up to {FORMAT}: update cm3t")
    return about, tensors
