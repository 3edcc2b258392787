"""Weights of a backbone: the ones that ship, published ones by name, and files of every known layout, read safely."""

import hashlib
import json
import re
import zipfile
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from cm3t.backbones import names
from cm3t.backbones.formats import Report, translate, widen
from cm3t.coerce import nearest
from cm3t.words import kind_of


class WeightsError(ValueError):
    """A weights file that is missing, unsafe, or does not fit the backbone; the message lists what differs."""


LISTED = 10  # keys that an error names
UNREAD = {"Hugging Face CLIP": "take timm's file or OpenAI's own of the same weights: weights='openai' of clip_b"}
PROTOCOLS = ("supervised", "contrastive")  # by which the mini backbones were pretrained


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
    file = name if protocol == PROTOCOLS[0] else f"{name}-{protocol}"
    return Path(str(files("cm3t") / "weights" / f"{file}.safetensors"))


def known(name: str) -> tuple[str, ...]:
    """The names of weights that a backbone has: those that ship, then the published ones."""
    shipping = [protocol for protocol in PROTOCOLS if _shipped_file(name, protocol).is_file()]
    return ("default",) * (PROTOCOLS[0] in shipping) + (*shipping, *names.NAMED.get(name, ()))


def remedy(name: str) -> str:
    """What to give as the weights of a backbone: "give weights='default' (also: supervised) or a file"."""
    first, *others = known(name) or (None,)
    also = f" (also: {', '.join(others)})" if others else ""
    return f"give weights={first!r}{also} or a file" if first else "give weights=FILE, none being published for it"


def resolve(name: str, weights: str | Path) -> Path:
    """The file behind `weights`: "default" is the shipped one, a published name its (downloaded) file, else a path.

    A folder stands for the model.safetensors in it, or the like. A repository of the Hugging Face hub ("org/name") and
    a name of timm's with its tag ("vit_base_patch16_224.dino") are downloaded as published names are; whether they fit,
    loading tells.

    The mini backbones' own are named by their protocol, supervised (the default) or contrastive. Raises WeightsError
    where nothing of the kind is known or can be had, with what to download and where to put it; TypeError for True.
    """
    if not isinstance(weights, str | Path):
        raise TypeError(f"weights={weights!r} is {kind_of(weights)}; {remedy(name)}, or None for random ones")
    text = str(weights)
    if text == "default" or text in PROTOCOLS:
        return shipped(name, PROTOCOLS[0] if text == "default" else text)
    path = Path(weights)
    if text not in names.NAMED.get(name, {}) and path.exists():
        if not path.is_dir():
            return path
        found = [path / file for file in names.FILES if (path / file).is_file()]
        if not found:
            raise WeightsError(f"{path} is a folder without {' or '.join(names.FILES)}; name the weights file itself")
        return found[0]
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

    Torch files are opened with `weights_only`, so that nothing in them can run; the usual wrappings (state_dict, model)
    are taken off. Half precision is widened to float32. Raises WeightsError for what cannot be read safely.
    """
    tensors, metadata = _open(Path(path))
    return widen(tensors), metadata


def _open(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors, of whatever precision, and metadata of a checkpoint."""
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"no weights file at {path}")
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}
            metadata = file.metadata() or {}
    except SafetensorError:
        tensors, metadata = _torch_file(path), {}
    return tensors, metadata


def _no_torch_file(path: Path) -> str | None:
    """What a file is that is not even the beginning of a torch file, or a torn one; None where it may be whole."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        start = file.read(64)
    again = f"{size:,} bytes; download it again"
    if start.startswith(b"PK"):
        return None if zipfile.is_zipfile(path) else f"truncated, {again}"
    if start.startswith(b"\x80"):  # how a pickle begins
        return None
    if start.lstrip().startswith(b"<"):
        return f"a web page, {again} from the address of the file itself"
    if start.startswith(b"version https://git-lfs"):
        return f"a git-lfs pointer to the file, {size:,} bytes; fetch the file itself: git lfs pull"
    return f"truncated or not a weights file, {again}"


def _torch_file(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a file of `torch.save`, opened with `weights_only`."""
    if what := _no_torch_file(path):
        raise WeightsError(f"{path} is neither a safetensors file nor a torch file: {what}")
    remedy = "convert it where you trust it, and name the result:\n  safetensors.torch.save_file({}, FILE)"
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if any(name.endswith("constants.pkl") for name in archive.namelist()):
                code = remedy.format('torch.jit.load(path, "cpu").state_dict()')
                raise WeightsError(f"{path} is a TorchScript archive, which holds code: it is refused; {code}")
    try:
        with open(path, "rb") as file:  # by its name torch would take another format
            content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling fails in many ways; every one of them is a refusal
        raise WeightsError(
            f"{path} is neither a safetensors file nor a torch file of tensors alone ({type(error).__name__}). "
            f"Other pickles can run code when they are opened: {remedy.format('state_dict')}"
        ) from error
    for key in ("state_dict", "model", "model_state"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    tensors = {k: v for k, v in content.items() if isinstance(v, torch.Tensor)} if isinstance(content, dict) else {}
    if not tensors:
        raise WeightsError(f"{path} holds no parameters by name; save a model's state_dict")
    return {k.removeprefix("module."): v for k, v in tensors.items()}


def misfits(own: Mapping[str, torch.Tensor], tensors: Mapping[str, torch.Tensor]) -> list[str]:
    """Every missing, unexpected and wrongly shaped key of `tensors`, a sentence each; empty where all fit."""
    differ = [f"missing key {k}" for k in own if k not in tensors]
    differ += [f"unexpected key {k}" for k in tensors if k not in own]
    return differ + [
        f"{k} has shape {tuple(tensors[k].shape)}, the model's is {tuple(own[k].shape)}"
        for k in own
        if k in tensors and tensors[k].shape != own[k].shape
    ]


def load(model: nn.Module, path: Path, *, native: tuple[int, int, int] | None = None) -> Report:
    """Load a checkpoint of any known layout into a backbone, strictly; returns what was mapped, dropped, interpolated.

    A headless model drops a file's head; a model with a head needs a head of its size in the file. `native` is the clip
    (T, H, W) that published weights were made for. Raises WeightsError that says of what size file and model are, with
    the first keys that do not fit, and for weights that are integers or not finite.
    """
    state, report = translate(_open(path)[0], model, native)
    own = model.state_dict()
    if differ := misfits(own, state):
        more = [f"and {len(differ) - LISTED} more"] if len(differ) > LISTED else []
        where = f"{path} ({report.layout} layout) does not fit {model.name}, {len(differ)} keys"
        lines = [f"{where}: {_why(own, state, report, model.name)}", *sorted(differ)[:LISTED], *more]
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
    report.digest = digest(path)
    return report


def _why(own: Mapping, state: Mapping, report: Report, name: str) -> str:
    """Why a file does not fit: a layout that is not read, a head of other classes, or another size; with the remedy."""
    if report.layout in UNREAD:
        return f"such files are not read; {UNREAD[report.layout]}"
    if not (wrong := misfits(_body(own), _body(state))):
        classes = len(state["head.weight"]) if "head.weight" in state else None
        has = (
            f"a classifier of {classes}; give num_classes={classes}"
            if classes
            else "no classifier; give num_classes=None"
        )
        return f"the file has {has}, or load the features alone and put a head on them"
    there, here = sketch(state), sketch(own)
    if there == here:
        return f"both are {here}, but {len(wrong)} parameters differ"
    also = f", or {remedy(name)}" if known(name) else ""
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
