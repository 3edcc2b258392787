"""Weights of a backbone: the ones that ship, published ones by name, and files of every known layout, read safely."""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from importlib.resources import files
from itertools import zip_longest
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from cm3t.backbones import names
from cm3t.backbones.fitting import clips_of
from cm3t.backbones.formats import translate, widen
from cm3t.backbones.opening import WeightsError, clip_beside, opened
from cm3t.backbones.positions import Grid
from cm3t.backbones.report import Report
from cm3t.coerce import nearest
from cm3t.words import kind_of

LISTED = 10  # keys that an error names
UNREAD = {"Hugging Face CLIP": "take timm's file or OpenAI's own of the same weights: weights='openai' of clip_b"}


def shipped(name: str, protocol: str = "supervised") -> Path:
    """Path of the weights that ship for backbone `name`; raises WeightsError where none do, with the remedy."""
    path = _shipped_file(name, protocol)
    if path.is_file():
        return path
    if not name.endswith("_mini"):
        raise WeightsError(
            f"no weights ship for {name!r}: those that do are of the mini backbones; {remedy(name)}, "
            "or None for random weights"
        )
    others = f"{remedy(name)}, or make them" if known(name) else "Make them"
    raise WeightsError(
        f"no {protocol} weights ship for {name!r}: {others} (hours on a CPU, resumable):\n"
        f"  python -m cm3t.data.rooms source && python -m cm3t.pretrain --backbone {name} --protocol {protocol}\n"
        f"and put the result at cm3t/weights/{path.name}, or name it: --weights FILE; None is random weights"
    )


def _shipped_file(name: str, protocol: str) -> Path:
    file = name if protocol == names.PROTOCOLS[0] else f"{name}-{protocol}"
    return Path(str(files("cm3t") / "weights" / f"{file}.safetensors"))


def known(name: str) -> tuple[str, ...]:
    """The names of weights that a backbone has: those that ship, then the published ones."""
    shipping = [protocol for protocol in names.PROTOCOLS if _shipped_file(name, protocol).is_file()]
    usual = names.SHIPPED.get(name, names.PROTOCOLS[0])
    return ("default",) * (usual in shipping) + (*shipping, *names.NAMED.get(name, ()))


def remedy(name: str) -> str:
    """What to give as the weights of a backbone: "give weights='default' (also: supervised) or a file"."""
    first, *others = known(name) or (None,)
    also = f" (also: {', '.join(others)})" if others else ""
    return f"give weights={first!r}{also} or a file" if first else "give weights=FILE, none being published for it"


def resolve(name: str, weights: str | Path) -> Path:
    """The file behind `weights`: a published name is its (downloaded) file, all else a path. "default" is the shipped
    file (of clip_mini the contrastive one), or the usual one of the published (`names.called`).

    A folder stands for the model.safetensors in it, or the like. A repository of the Hugging Face hub ("org/name") and
    a name of timm's with its tag ("vit_base_patch16_224.dino") are downloaded as published names are; whether they fit,
    loading tells.

    The mini backbones' own are named by their protocol, supervised or contrastive. Raises WeightsError where nothing of
    the kind is known or can be had, with what to download and where to put it; TypeError for True.
    """
    if not isinstance(weights, str | Path):
        raise TypeError(f"weights={weights!r} is {kind_of(weights)}; {remedy(name)}, or None for random ones")
    text = names.called(name, str(weights))
    if text == "default" or text in names.PROTOCOLS:
        return shipped(name, names.PROTOCOLS[0] if text == "default" else text)
    path = Path(weights)
    if text not in names.NAMED.get(name, {}) and path.exists():
        if not path.is_dir():
            return path
        found = [path / file for file in names.FILES if (path / file).is_file()]
        if not found:
            raise WeightsError(f"{path} is a folder without {' or '.join(names.FILES)}; name the weights file itself")
        return found[0]
    if refusal := names.refusal(name, text):
        raise WeightsError(refusal)
    if source := names.source_of(name, text):
        try:
            return names.fetch(name, text, source)
        except FileNotFoundError as error:
            file = f"no weights file at {path}, and as a name of the hub: " if "/" in text else ""
            raise WeightsError(f"{file}{error}") from error
    what = f"no weights file at {path}" if path.suffix or path.name != text else f"{text!r} is no name of weights"
    if others := [other for other, known_there in names.NAMED.items() if text in known_there]:
        what += f" of {name}, but of {' and '.join(others)}"
    hint = nearest(text, known(name)) if known(name) else "known: no names"
    raise WeightsError(
        f"{what}; {hint}, a file, a repository of the hub, a name of timm's (arch.tag), and None (random)"
    )


def digest(path: Path) -> str:
    """The first 16 hex digits of the file's sha256: what a record calls its weights."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]


def read(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors (any shape) and metadata of a checkpoint: a safetensors file, or a torch file of tensors alone.

    Torch files are opened with `weights_only`, so that nothing in them can run; the usual wrappings (state_dict, model,
    teacher) are taken off, as are the prefixes of parallel and compiled models. Half precision is widened to float32.
    Raises WeightsError for what cannot be read safely, and for a file with several sets of parameters.
    """
    tensors, metadata = opened(Path(path))
    return widen(tensors), metadata


def misfits(own: Mapping[str, torch.Tensor], tensors: Mapping[str, torch.Tensor]) -> list[str]:
    """Every missing, unexpected and wrongly shaped key of `tensors`, a sentence each; empty where all fit."""
    return [line for kind in _kinds_of_misfits(own, tensors) for line in kind]


def _kinds_of_misfits(own: Mapping[str, torch.Tensor], tensors: Mapping[str, torch.Tensor]) -> list[list[str]]:
    """Missing keys, unexpected ones in the file's order, and those of tensors of another shape; a sentence each."""
    wrong = [k for k in own if k in tensors and tensors[k].shape != own[k].shape]
    return [
        [f"missing key {k}" for k in own if k not in tensors],
        [f"unexpected key {k}" for k in tensors if k not in own],
        [f"{k} has shape {tuple(tensors[k].shape)}, the model's is {tuple(own[k].shape)}" for k in wrong],
    ]


def _some_misfits(own: Mapping[str, torch.Tensor], tensors: Mapping[str, torch.Tensor]) -> list[str]:
    """`LISTED` keys that do not fit, of tensors of any shape, some of each kind; and how many more there are."""
    missing, unexpected, wrong = _kinds_of_misfits(own, tensors)
    kinds = (sorted(wrong), sorted(missing), unexpected)
    mixed = [line for row in zip_longest(*kinds) for line in row if line]
    shown, more = set(mixed[:LISTED]), len(mixed) - LISTED
    return [line for kind in kinds for line in kind if line in shown] + [f"and {more} more"] * (more > 0)


def load(
    model: nn.Module,
    path: Path,
    *,
    native: tuple[int, int, int] | None = None,
    told: tuple[int, int, int] | None = None,
) -> Report:
    """Load a checkpoint of any known layout into a backbone, strictly; returns what was mapped, dropped, interpolated.

    A headless model drops a file's head; a model with a head needs a head of its size in the file. `native` is the clip
    (T, H, W) that published weights were made for, `told` the clip of this very file, where it is known; a config.json
    of Hugging Face's beside the file takes the place of `native`. Raises WeightsError that says of what size file and
    model are, with the first keys that do not fit, and for weights that are integers or not finite.
    """
    tensors, metadata = opened(path)
    native = clip_beside(path) or native
    try:
        state, report = translate(tensors, model, native, told)
    except ValueError as error:
        raise WeightsError(f"{path}: {error}") from error
    own = model.state_dict()
    if differ := misfits(own, state):
        where = f"{path} ({report.layout} layout) does not fit {model.name}, {len(differ)} keys"
        lines = [f"{where}: {_why(model, own, state, report, native)}", *_some_misfits(own, state)]
        raise WeightsError("\n  ".join(lines))
    for key, value in state.items():
        if own[key].is_floating_point() and not value.is_floating_point():
            raise WeightsError(
                f"{path}: {key} is {value.dtype}; quantised weights are not read, give floating-point ones"
            )
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise WeightsError(
                f"{path}: {key} has values that are not finite; the file is damaged, or diverged as it was made"
            )
    model.load_state_dict(state)
    report.digest, report.protocol = digest(path), json.loads(metadata.get("cm3t", "{}")).get("protocol", "")
    return report


def _why(model: nn.Module, own: Mapping, state: Mapping, report: Report, native: Grid | None) -> str:
    """Why a file does not fit: a layout that is not read, another head, clip or size; with the remedy."""
    if report.layout in UNREAD:
        return f"such files are not read; {UNREAD[report.layout]}"
    if not (wrong := misfits(_body(own), _body(state))):
        classes = len(state["head.weight"]) if "head.weight" in state else None
        if classes and "head.bias" not in state and state["head.weight"].shape == own["head.weight"].shape:
            return (
                f"the file's classifier has no bias; add one of zeros, 'head.bias': torch.zeros({classes}), or load "
                "the features alone, num_classes=None, and put a head on them"
            )
        has = (
            f"a classifier of {classes}; give num_classes={classes}"
            if classes
            else "no classifier; give num_classes=None"
        )
        return f"the file has {has}, or load the features alone and put a head on them"
    rows, places = 0, math.prod(getattr(model, "grid", ()))
    if len(wrong) == 1 and "pos_embed" in state and state["pos_embed"].ndim == 3:
        rows = state["pos_embed"].shape[1] - own["pos_embed"].shape[1] + places
    if rows > 0 and rows != places:
        clips = [f"weights_clip={clip}" for clip in clips_of(rows, model, native)]
        return (
            f"the file has {rows} positions, the model {' x '.join(map(str, model.grid))} of them, and no file tells "
            "its clip; say which it was trained on: "
            f"cm3t.backbone({model.name!r}, weights=FILE, weights_clip=(T, H, W))"
            + (f", such as {' or '.join(clips)}" if clips else "")
        )
    there, here = sketch(state), sketch(own)
    if there == here:
        return f"both are {here}, but {len(wrong)} parameters differ"
    also = f", or {remedy(model.name)}" if known(model.name) else ""
    return f"the file holds {there}, the model is {here}; make a backbone of the file's size{also}"


def _body(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A state without its classifier; tensors of any shape."""
    return {k: v for k, v in state.items() if not k.startswith("head.")}


def sketch(state: Mapping[str, torch.Tensor]) -> str:
    """The architecture behind parameters of any shape by our names, in words: family, widths, blocks, patches."""
    stages: dict[str, list[int]] = {}
    for key, value in state.items():
        if m := re.fullmatch(r"(features\.\d+|blocks)\.\d+\.norm1\.weight", key):
            stages.setdefault(m[1], []).append(len(value))
    if not stages:
        return "no transformer that is known here"
    widths = ", ".join(str(max(blocks)) for blocks in stages.values())
    depths = ", ".join(str(len(blocks)) for blocks in stages.values())
    kernel = getattr(state.get("patch_embed.proj.weight"), "shape", ())[2:]
    patches = f" over patches of {' x '.join(map(str, kernel))}" if kernel else ""
    patches += " behind a convolutional stem" if any(key.startswith("patch_embed.layers.") for key in state) else ""
    return f"a {'ViT' if 'blocks' in stages else 'Swin'} of width {widths} with {depths} blocks{patches}"


def save(model: nn.Module, path: Path, *, metadata: dict, half: bool = True) -> str:
    """Write a backbone's parameters and buffers (float16 unless told), metadata as one JSON string; returns the digest.

    Index tables that follow from the architecture are left out.
    """
    tensors = {k: v for k, v in model.state_dict().items() if not k.endswith("relative_position_index")}
    tensors = {k: (v.half() if half and v.is_floating_point() else v).contiguous() for k, v in tensors.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path, metadata={"cm3t": json.dumps(metadata)})
    return digest(path)
