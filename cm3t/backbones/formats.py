"""Other people's checkpoint layouts, translated to the parameter names of the backbones here, tensor by tensor."""

import re
from collections.abc import Mapping

import torch
from einops import rearrange
from torch import Tensor, nn

from cm3t.backbones.fitting import fit
from cm3t.backbones.positions import Grid
from cm3t.backbones.report import Report

State = dict[str, Tensor]
DERIVED = ("relative_position_index", "attn_mask")  # tables that follow from the architecture


_VIVIT = [
    (r"^vivit\.", ""),
    (r"^embeddings\.cls_token$", "cls_token"),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^(encoder\.layer|layers)\.(\d+)\.", r"blocks.\2."),
    (r"\.attention\.(attention\.)?(query|key|value|[qkv]_proj)\.", lambda m: f".attn.{m[2][0]}."),
    (r"\.attention\.(output\.dense|o_proj)\.", ".attn.proj."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"\.output\.dense\.", ".mlp.fc2."),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
    (r"^layernorm\.", "norm."),
    (r"^classifier\.", "head."),
]
_CLIP = [
    (r"^visual\.", ""),
    (r"^conv1\.", "patch_embed.proj."),
    (r"^class_embedding$", "cls_token"),
    (r"^positional_embedding$", "pos_embed"),
    (r"^ln_pre\.", "norm_pre."),
    (r"^ln_post\.", "norm."),
    (r"^transformer\.resblocks\.", "blocks."),
    (r"\.ln_([12])\.", r".norm\1."),
    (r"\.attn\.in_proj_", ".attn.qkv."),
    (r"\.attn\.out_proj\.", ".attn.proj."),
    (r"\.mlp\.c_fc\.", ".mlp.fc1."),
    (r"\.mlp\.c_proj\.", ".mlp.fc2."),
    (r"^proj$", "head.weight"),
]
_SWIN = [
    (r"^backbone\.", ""),
    (r"^layers\.(\d+)\.blocks\.(\d+)\.", lambda m: f"features.{2 * int(m[1])}.{m[2]}."),
    (r"\.mlp\.fc1\.", ".mlp.0."),
    (r"\.mlp\.fc2\.", ".mlp.3."),
    (r"^(cls_head\.fc_cls|head\.fc)\.", "head."),
]

_IMAGE_SWIN = [
    (r"^features\.0\.0\.", "patch_embed.proj."),
    (r"^features\.0\.2\.", "patch_embed.norm."),
    (r"^features\.(\d+)\.", lambda m: f"features.{int(m[1]) - 1}."),
]


def translate(
    tensors: Mapping[str, Tensor], model: nn.Module, native: Grid | None = None, told: Grid | None = None
) -> tuple[State, Report]:
    """A checkpoint's tensors, of whatever known layout and shape, under the names of `model`, and what was done.

    `native` is the clip (T, H, W) in pixels that the backbone's published weights were made for, `told` the one that
    this file is said to have: they tell the grid of position embeddings of another size. What fits nowhere keeps its
    name and shape, for `weights.misfits` to list. ValueError where the file cannot have the clip that was told.
    """
    tensors = dict(tensors)
    report = Report(layout="own")
    report.widened = sum(map(_half, tensors.values()))
    own = model.state_dict()
    tensors, report.prefix = _without_prefix(tensors, own)
    state, theirs = _rename(widen(tensors), report)
    report.strange = len(report.dropped)
    headless = not any(k.startswith("head.") for k in own)
    for key in [k for k in state if k.endswith(DERIVED) or (headless and k.startswith("head."))]:
        if key in theirs:  # else it was made here, a bias that the file does not have
            report.dropped.append(theirs[key])
        del state[key]
    report.dropped = [report.prefix + key for key in report.dropped]
    image = getattr(state.get("patch_embed.proj.weight"), "ndim", 5) == 4  # a model of images, which has no time
    for key, value in list(state.items()):
        if key in own and (value.shape != own[key].shape or key == "pos_embed"):  # 7 x 28 tokens are not 14 x 14
            state[key] = fit(key, value, own[key], model, report, image=image, native=native, told=told)
    report.mapped = len(state)
    doubles = [k for k, v in state.items() if v.dtype == torch.float64]
    report.narrowed = sum(k in own and own[k].dtype == torch.float32 for k in doubles)
    for key, value in own.items():
        if key.endswith("relative_position_index"):
            state[key] = value
        elif key == "temporal_embed" and key not in state:
            state[key] = torch.zeros_like(value)
            report.kept.append(f"{key} (starts at 0)")
    return state, report


def _without_prefix(tensors: State, own: State) -> tuple[State, str]:
    """Tensors of any shape without the prefix that all their names share, where only so their layout is known; it.

    Trainers put one before a network's names: Lightning's "model.", or "model.backbone.".
    """
    prefix = ""
    while tensors and not _known(tensors, own):
        first = {key.partition(".")[0] for key in tensors}
        if len(first) > 1 or any("." not in key for key in tensors):
            return {prefix + key: value for key, value in tensors.items()}, ""
        prefix += f"{first.pop()}."
        tensors = {key.partition(".")[2]: value for key, value in tensors.items()}
    return tensors, prefix


def _known(tensors: State, own: State) -> bool:
    """Are these names of a layout that is known here, or the model's own?"""
    found = Report(layout="own")
    _rename({key: value.to("meta") for key, value in tensors.items()}, found)
    return found.layout != "own" or not own.keys().isdisjoint(tensors)


def widen(tensors: Mapping[str, Tensor]) -> State:
    """Tensors of any shape, those of half precision as float32."""
    return {k: v.float() if _half(v) else v for k, v in tensors.items()}


def _half(value: Tensor) -> bool:
    return value.is_floating_point() and value.element_size() < 4


def _rename(tensors: State, report: Report) -> tuple[State, dict[str, str]]:
    """Tensors under our names, and the file's names by ours; the layout is found by a key that no other has."""
    theirs: dict[str, str] = {}
    if any(k.startswith(("vivit.", "encoder.layer.", "embeddings.patch_embeddings.")) for k in tensors):
        report.layout = "Hugging Face ViViT"
        report.dropped += [k for k in tensors if ".pooler." in f".{k}"]
        kept = {k: v for k, v in tensors.items() if ".pooler." not in f".{k}"}
        return _fuse(_apply(_VIVIT, kept, theirs)), theirs
    if any(".self_attn.q_proj." in k or k.startswith("vision_model.") for k in tensors):
        report.layout = "Hugging Face CLIP"
        return tensors, theirs
    if "visual.class_embedding" in tensors:  # its ResNets have none
        report.layout = "OpenAI CLIP"
        report.dropped += [k for k in tensors if not k.startswith("visual.")]
        state = _apply(_CLIP, {k: v for k, v in tensors.items() if k.startswith("visual.")}, theirs)
        state["cls_token"] = rearrange(state["cls_token"], "c -> 1 1 c")
        state["pos_embed"] = rearrange(state["pos_embed"], "n c -> 1 n c")
        if "head.weight" in state:  # the projection, x @ proj without a bias
            state["head.weight"] = state["head.weight"].T.contiguous()
            state["head.bias"] = torch.zeros(len(state["head.weight"]))
        return state, theirs
    if any(re.match(r"(backbone\.)?layers\.\d+\.blocks\.", k) for k in tensors):
        stages = 1 + max(int(m[1]) for m in (re.match(r"(?:backbone\.)?layers\.(\d+)\.", k) for k in tensors) if m)
        late = any(f"layers.{stages - 1}.downsample." in k for k in tensors)  # timm merges where a stage begins
        report.layout = "timm Swin" if late else "official Swin"
        merge = (r"^layers\.(\d+)\.downsample\.", lambda m: f"features.{2 * int(m[1]) + (-1 if late else 1)}.")
        return _apply([*_SWIN, merge], tensors, theirs), theirs
    if getattr(tensors.get("features.0.0.weight"), "ndim", 0) == 4:  # of images: patches are the first of its features
        report.layout = "torchvision 2-D Swin"
        return _apply(_IMAGE_SWIN, tensors, theirs), theirs
    if any(k.startswith("backbone.blocks.") for k in tensors):  # of self-supervision: a network, and a head on it
        report.layout = "timm ViT"
        return _apply([(r"^backbone\.", "")], tensors, theirs), theirs
    if any(k.startswith("features.") for k in tensors):
        report.layout = "torchvision Swin"
    elif any(k.startswith("blocks.") for k in tensors):
        report.layout = "timm ViT"
    return tensors, {key: key for key in tensors}


def _apply(rules: list, tensors: State, theirs: dict[str, str]) -> State:
    """Tensors under their new names; `theirs` is told the old name of each."""
    state = {}
    for old, value in tensors.items():
        key = old
        for pattern, new in rules:
            key = re.sub(pattern, new, key)
        state[key], theirs[key] = value, old
    return state


def _fuse(state: State) -> State:
    """Separate queries, keys and values, `attn.q|k|v`, in one `attn.qkv`."""
    for key in [k for k in state if ".attn.q." in k]:
        names = [key.replace(".attn.q.", f".attn.{part}.") for part in "qkv"]
        if all(name in state for name in names):
            state[key.replace(".attn.q.", ".attn.qkv.")] = torch.cat([state.pop(name) for name in names])
    return state
