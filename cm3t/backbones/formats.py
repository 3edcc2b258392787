"""Other people's checkpoint layouts, translated to the parameter names of the backbones here, tensor by tensor."""

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

import torch
from einops import rearrange, repeat
from torch import Tensor, nn

from cm3t.backbones.positions import Grid, resample

State = dict[str, Tensor]
DERIVED = ("relative_position_index", "attn_mask")  # tables that follow from the architecture


@dataclass
class Report:
    """What became of a checkpoint on its way into a backbone; `print` it, or `line()` of it.

    layout        whose names the file has
    mapped        tensors that went in
    dropped       the file's keys that have no place here (a head, a text tower, tables that the architecture tells)
    strange       how many of those are neither of a head nor such tables
    kept          parameters the file does not have, left as they start
    interpolated  what was resampled to another grid, with both shapes
    inflated      what was spread over time, with both shapes
    widened       tensors of half precision, read as float32
    narrowed      tensors of double precision, stored as float32
    window        (T, H, W) of the file's attention windows, where a model with others had to interpolate their tables
    digest        the first 16 hex digits of the file's sha256
    """

    layout: str
    mapped: int = 0
    dropped: list[str] = field(default_factory=list)
    strange: int = 0
    kept: list[str] = field(default_factory=list)
    interpolated: list[str] = field(default_factory=list)
    inflated: list[str] = field(default_factory=list)
    widened: int = 0
    narrowed: int = 0
    window: Grid | None = None
    digest: str = ""

    @property
    def plain(self) -> bool:
        """Did every tensor go in as it was, but for a classifier and tables that follow from the architecture?"""
        return not (self.strange or self.kept or self.interpolated or self.inflated or self.narrowed)

    def _parts(self, shown: int) -> list[str]:
        """What happened beside the mapping, a phrase each that names the first few tensors."""
        parts = []
        for name in ("dropped", "kept", "interpolated", "inflated"):
            items = getattr(self, name)
            more = f" and {len(items) - shown} more" if len(items) > shown else ""
            parts += [f"{name} ({len(items)}): {', '.join(items[:shown])}{more}"] if items else []
        return parts + [f"{self.narrowed} narrowed from float64 to float32"] * bool(self.narrowed)

    def __str__(self) -> str:
        lines = [f"{self.layout} layout: {self.mapped} tensors mapped; {self.widened} of the file's widened to float32"]
        return "\n  ".join(lines + self._parts(6))

    def line(self) -> str:
        """The same in one line, for a log."""
        return "; ".join([f"{self.layout} layout, {self.mapped} tensors mapped", *self._parts(2)])

    def brief(self) -> dict:
        """The same for a record; of long lists the first dozen, and how many there are."""
        found = asdict(self)
        for name, items in found.items():
            if isinstance(items, list) and len(items) > 12:
                found[name] = [*items[:12], f"and {len(items) - 12} more"]
        return found


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


def translate(tensors: Mapping[str, Tensor], model: nn.Module, native: Grid | None = None) -> tuple[State, Report]:
    """A checkpoint's tensors, of whatever known layout and shape, under the names of `model`, and what was done.

    `native` is the clip (T, H, W) in pixels that the backbone's published weights were made for: it tells the grid of
    position embeddings of another size. What fits nowhere keeps its name and shape, for `weights.misfits` to list.
    """
    tensors = dict(tensors)
    report = Report(layout="own")
    report.widened = sum(map(_half, tensors.values()))
    state, theirs = _rename(widen(tensors), report)
    report.strange = len(report.dropped)
    own = model.state_dict()
    headless = not any(k.startswith("head.") for k in own)
    for key in [k for k in state if k.endswith(DERIVED) or (headless and k.startswith("head."))]:
        if key in theirs:  # else it was made here, a bias that the file does not have
            report.dropped.append(theirs[key])
        del state[key]
    image = getattr(state.get("patch_embed.proj.weight"), "ndim", 5) == 4  # a model of images, which has no time
    for key, value in list(state.items()):
        if key in own and (value.shape != own[key].shape or key == "pos_embed"):  # 7 x 28 tokens are not 14 x 14
            state[key] = _fit(key, value, own[key], model, native, image, report)
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


def _fit(
    key: str, value: Tensor, own: Tensor, model: nn.Module, native: Grid | None, image: bool, report: Report
) -> Tensor:
    """A tensor of another shape inflated over time or resampled to the model's, if it is one of those that can be."""
    fitted, how = value, report.interpolated
    if key == "patch_embed.proj.weight" and value.ndim == 4 and own.ndim == 5:
        fitted, how = inflate(value, own.shape[2], central=hasattr(model, "grid")), report.inflated
    elif key.endswith("relative_position_bias_table"):
        spans = tuple(2 * w - 1 for w in model.get_submodule(key.rpartition(".")[0]).window)
        old = _table_grid(len(value), spans, image)
        if old is not None:
            fitted = _spread(value, old, spans)
            if old[0] == 1 < spans[0]:
                how = report.inflated
            elif old != spans:
                report.window = tuple((n + 1) // 2 for n in old)
    elif key == "pos_embed":
        extra = own.shape[1] - math.prod(model.grid)
        old = _position_grid(value.shape[1] - extra, model, native, image)
        if old is not None:
            still = value
            if old[0] == 1 < model.grid[0]:
                still = repeat(value[:, extra:], "b n c -> b (t n) c", t=model.grid[0])
                still = torch.cat([value[:, :extra], still], dim=1)
                old, how = (model.grid[0], *old[1:]), report.inflated
            fitted = resample(still, old, model.grid)
    elif key == "temporal_embed":
        fitted = resample(value, (value.shape[1], 1, 1), (own.shape[1], 1, 1))
    if fitted is value:
        return value
    if fitted.shape == own.shape:
        how.append(f"{key} {tuple(value.shape)} -> {tuple(own.shape)}")
        return fitted
    return value


def inflate(weight: Tensor, frames: int, *, central: bool) -> Tensor:
    """A 2-D convolution's weight (C', C, h, w) over time, (C', C, t, h, w).

    Central: all of it on the frame in the middle (ViViT's initialisation); else an equal part on every frame (Swin's).
    On a clip of equal frames both give what the 2-D convolution gave.
    """
    if not central:
        return repeat(weight / frames, "o c h w -> o c t h w", t=frames)
    out = weight.new_zeros(*weight.shape[:2], frames, *weight.shape[2:])
    out[:, :, frames // 2] = weight
    return out


def _table_grid(rows: int, spans: Grid, image: bool) -> Grid | None:
    """(T, H, W) spans of a bias table with so many rows: a 2-D one, or one of another window length."""
    side = math.isqrt(rows)
    if rows % (spans[1] * spans[2]) == 0 and not image:
        return rows // (spans[1] * spans[2]), spans[1], spans[2]
    return (1, side, side) if side * side == rows else None


def _spread(table: Tensor, old: Grid, new: Grid) -> Tensor:
    """A bias table (rows, h) of spans `old` on spans `new`: a 2-D one is repeated over time, others interpolated."""
    if old[0] == 1:
        plane = resample(table[None], old, (1, *new[1:]))[0]
        return plane.repeat(new[0], 1)
    return resample(table[None], old, new)[0]


def _position_grid(rows: int, model: nn.Module, native: Grid | None, image: bool) -> Grid | None:
    """(T, H, W) of position embeddings with so many rows: the published grid, or ours, or ours at another size."""
    t, h, w = model.grid
    if native is not None:
        published = tuple(n // p for n, p in zip(native, model.patch, strict=True))
        published = (1, *published[1:]) if image or model.span == 1 else published
        if math.prod(published) == rows:
            return published
    if rows == t * h * w:
        return t, h, w
    time = 1 if image else t
    side = math.isqrt(rows // time)
    if time * side * side == rows:
        return time, side, side
    return (rows // (h * w), h, w) if rows % (h * w) == 0 else None
