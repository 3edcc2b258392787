"""Files of weights, opened so that nothing in them can run, and freed of what other programs put around parameters."""

import json
import re
import zipfile
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from cm3t.backbones.positions import Grid

# Keys under which parameters are kept; one of the second kind is read where it is alone and there is none of the first.
WRAPPINGS = ("state_dict", "model_state_dict", "model", "model_state", "module", "net")
AVERAGED = ("teacher", "student", "model_ema", "state_dict_ema")


class WeightsError(ValueError):
    """A weights file that is missing, unsafe, or does not fit the backbone; the message lists what differs."""


def opened(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors, of whatever shape and precision, and metadata of a checkpoint; WeightsError where it is not safe."""
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"no weights file at {path}")
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}
            metadata = file.metadata() or {}
    except SafetensorError:
        tensors, metadata = _torch_file(path), {}
    names_of = {key: key.replace("_orig_mod.", "").removeprefix("module.") for key in tensors}
    return {names_of[key]: value for key, value in tensors.items()}, metadata


def clip_beside(path: Path) -> Grid | None:
    """(T, H, W) in pixels of the clips of a video model, as Hugging Face's config.json beside its file has them.

    None where there is none, where it is damaged, and where it is of a model of images.
    """
    try:
        about = json.loads((Path(path).parent / "config.json").read_text(encoding="utf-8"))
        side = about["image_size"]
        height, width = side if isinstance(side, list) else (side, side)
        clip = about["num_frames"], height, width
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return clip if all(type(n) is int and n > 0 for n in clip) and "tubelet_size" in about else None


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
        culprit = re.search(r"GLOBAL (\S+)", str(error))
        state = 'torch.load(PICKLE, weights_only=False)["state_dict"]'
        why = f"it holds {culprit[1]}" if culprit else type(error).__name__
        raise WeightsError(
            f"{path} is neither a safetensors file nor a torch file of tensors alone ({why}). "
            f"Other pickles can run code when they are opened: {remedy.format(state)} (or whatever key holds them)"
        ) from error
    tensors = _unwrapped(content, path)
    if not tensors:
        raise WeightsError(f"{path} holds no parameters by name; save a model's state_dict")
    return tensors


def _unwrapped(content: object, path: Path) -> dict[str, torch.Tensor]:
    """The parameters by name, of any shape, in what a torch file holds; WeightsError where it has several sets."""
    if not isinstance(content, dict):
        return {}
    for keys in (WRAPPINGS, AVERAGED):
        found = {key: inside for key in keys if (inside := _unwrapped(content.get(key), path))}
        if len(found) > 1:
            one = next(iter(found))
            raise WeightsError(
                f"{path} holds {len(found)} sets of parameters: {', '.join(found)}; save the one that is meant: "
                f"torch.save(torch.load(FILE)[{one!r}], NEW)"
            )
        if found:
            return next(iter(found.values()))
    return {k: v for k, v in content.items() if isinstance(k, str) and isinstance(v, torch.Tensor)}
