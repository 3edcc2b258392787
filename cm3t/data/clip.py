"""What every data set gives (`Clip`), what the model takes (`Batch`), and the way from one to the other.

A clip may lack a modality: its place in the batch then holds zeros, and `Batch.present` says so. No clip is ever
left out for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace

import torch
from einops import rearrange
from torch import Tensor

from cm3t.words import kind_of

MEAN = (0.485, 0.456, 0.406)  # of ImageNet, red green blue in 0..1: what video backbones are pretrained with
STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Clip:
    """One labelled segment.

    Shapes: video uint8 (3, T, H, W); side {modality: float (L, d)}, only those the clip has;
    target {head: int or tensor}; id names the segment, group the person seen or heard in it.
    """

    video: Tensor
    side: Mapping[str, Tensor] = field(default_factory=dict)
    target: Mapping[str, int | Tensor] = field(default_factory=dict)
    id: str = ""
    group: str = ""


@dataclass(frozen=True)
class Batch:
    """Clips side by side.

    Shapes: video uint8 (B, 3, T, H, W); side {modality: float32 (B, L, d)}; present {modality: bool (B,)};
    target {head: (B,) or (B, ...)}; ids and groups: B strings.
    """

    video: Tensor
    side: Mapping[str, Tensor] = field(default_factory=dict)
    present: Mapping[str, Tensor] = field(default_factory=dict)
    target: Mapping[str, Tensor] = field(default_factory=dict)
    ids: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()

    def __len__(self) -> int:
        """The number of clips, B."""
        return len(self.video)

    def to(self, device: str | torch.device, non_blocking: bool = False) -> Batch:
        """The same batch with every tensor on a device."""

        def moved(value):
            if isinstance(value, Tensor):
                return value.to(device, non_blocking=non_blocking)
            return {k: moved(v) for k, v in value.items()} if isinstance(value, Mapping) else value

        return replace(self, **{f.name: moved(getattr(self, f.name)) for f in fields(self)})


def collate(clips: Sequence[Clip], modalities: Iterable[str] | Mapping[str, int] = ()) -> Batch:
    """Put clips side by side.

    Shapes: B clips -> `Batch`. modalities: the names wanted, or {name: width d}. A clip without one gets zeros and
    False in `present`. With its width declared, a modality may be absent from the whole batch: zeros (B, 1, d).
    Errors: ValueError for no clips; for clips whose videos, targets or side tokens differ in shape (ids are named);
    for tokens with NaN or infinity; for a modality that no clip of the batch has and whose width was not declared.
    """
    clips = list(clips)
    if not clips:
        raise ValueError("a batch needs at least one clip")
    widths = dict(modalities) if isinstance(modalities, Mapping) else dict.fromkeys(modalities)
    side, present = {}, {}
    for name, width in widths.items():
        side[name], present[name] = _side(clips, name, width)
    heads = clips[0].target
    odd = next((clip.id for clip in clips if clip.target.keys() != heads.keys()), None)
    if odd is not None:
        raise ValueError(f"clips {clips[0].id} and {odd} have targets for different heads")
    return Batch(
        video=_stacked([clip.video for clip in clips], clips, "video"),
        side=side,
        present=present,
        target={
            head: _stacked([torch.as_tensor(clip.target[head]) for clip in clips], clips, f"target {head}")
            for head in heads
        },
        ids=tuple(clip.id for clip in clips),
        groups=tuple(clip.group for clip in clips),
    )


def _side(clips: list[Clip], name: str, width: int | None) -> tuple[Tensor, Tensor]:
    """(B, L, d) and (B,): the tokens of one modality, zeros where a clip has none."""
    given = [clip.side.get(name) for clip in clips]
    first = next((tokens for tokens in given if tokens is not None), None)
    if first is None:
        if width is None:
            raise ValueError(
                f"no clip of this batch has {name!r} (first: {clips[0].id}): declare its width, "
                f"collate(clips, {{{name!r}: d}}), or leave the modality out"
            )
        first = torch.zeros(1, width)
    blank = torch.zeros_like(first, dtype=torch.float32)
    tokens = [blank if t is None else t.to(torch.float32) for t in given]
    bad = next((clip.id for clip, t in zip(clips, tokens, strict=True) if not t.isfinite().all()), None)
    if bad is not None:
        raise ValueError(
            f"{name!r} of clip {bad} holds NaN or infinity: make it anew, or leave it out of the clip's side, which "
            "then lacks it"
        )
    if blank.ndim != 2 or (width is not None and blank.shape[-1] != width):
        raise ValueError(f"{name!r} tokens must be (L, {width or 'd'}), got {tuple(blank.shape)}")
    return _stacked(tokens, clips, name), torch.tensor([t is not None for t in given])


def _stacked(tensors: list[Tensor], clips: list[Clip], what: str) -> Tensor:
    for tensor, clip in zip(tensors, clips, strict=True):
        if tensor.shape != tensors[0].shape:
            raise ValueError(
                f"{what} of clip {clip.id} is {tuple(tensor.shape)}, of {clips[0].id} {tuple(tensors[0].shape)}: "
                "clips of one batch must agree; read them with the same number of frames, size and length"
            )
    return torch.stack(tensors)


def normalise(video: Tensor, mean: Sequence[float] = MEAN, std: Sequence[float] = STD) -> Tensor:
    """Bytes to the numbers a backbone takes: (x / 255 - mean) / std per colour, by default with ImageNet's.

    What a backbone was pretrained with is its `pixels`, (mean, std): normalise(video, *model.backbone.pixels).
    Shapes: uint8 (B, 3, T, H, W) or (3, T, H, W) -> float32, same shape and device. Errors: TypeError unless the video
    is a tensor of uint8, ValueError where the colours are not before the frames, as decoders give them.
    """
    if not isinstance(video, Tensor):
        raise TypeError(f"normalise takes a tensor, got {kind_of(video)}: torch.from_numpy makes one of an array")
    if video.ndim not in (4, 5) or video.shape[-4] != 3:
        there = "c h w" if video.ndim > 2 and video.shape[-3] == 3 else "h w c"
        raise ValueError(
            f"normalise takes video (B, 3, T, H, W), colours before frames, got {tuple(video.shape)}: "
            f"bring it into that order first, einops.rearrange(video, '... t {there} -> ... c t h w')"
        )
    if video.dtype != torch.uint8:
        raise TypeError(f"normalise takes uint8 video, got {video.dtype}: was it normalised already?")
    mean, std = (rearrange(video.new_tensor(v, dtype=torch.float32), "c -> c 1 1 1") for v in (mean, std))
    return (video.float() - 255.0 * mean) / (255.0 * std)


def augment(video: Tensor, generator: torch.Generator, anchored: bool = True) -> Tensor:
    """Light augmentation, one draw per clip (all its frames alike): a shift, brightness and contrast by up to 20 %.

    anchored=True shifts by up to 1/24 of the side (4 of 96 px), so that things stay where they are. anchored=False
    first takes their places away: `unanchor`.
    Shapes: uint8 (B, 3, T, H, W) -> the same. The draws come from a CPU generator, whatever the video's device, so
    equal generators give equal results. Errors: TypeError unless the video is uint8.
    Choice: the paper names no augmentation for the adaptation stage.
    """
    _check_bytes(video)
    if not anchored:
        video = unanchor(video, generator)
    batch, _, _, height, width = video.shape
    video = _shifted(video, _draw(generator, batch, height // 24), _draw(generator, batch, width // 24))
    gain, light = 0.8 + 0.4 * torch.rand(2, batch, generator=generator).to(video.device)
    pixels = video.float()
    centre = pixels.mean((1, 2, 3, 4))
    offset = centre * (light - gain)  # contrast turns about the clip's mean, brightness moves the mean
    gain, offset = (rearrange(v, "b -> b 1 1 1 1") for v in (gain, offset))
    return pixels.mul_(gain).add_(offset).round_().clamp_(0, 255).to(torch.uint8)


def unanchor(video: Tensor, generator: torch.Generator) -> Tensor:
    """Take the places of things away: per clip a shift by up to a quarter of the side and, by a coin, a mirror image.

    For evaluation without anchoring it is applied alone (`augment(anchored=False)` includes it).
    Shapes, generator and errors: as `augment`.
    """
    _check_bytes(video)
    batch, _, _, height, width = video.shape
    down, right = _draw(generator, batch, height // 4), _draw(generator, batch, width // 4)
    mirror = torch.rand(batch, generator=generator) < 0.5
    return _shifted(video, down, right, mirror)


def subsample(video: Tensor, frames: int, generator: torch.Generator | None = None) -> Tensor:
    """Pick frames out of clips that were decoded with more than are used: one from each of `frames` equal spans.

    Without a generator the middle of each span; with one a random frame of it, drawn per clip (temporal jitter).
    Shapes: (B, 3, S, H, W), S >= frames -> (B, 3, frames, H, W). Errors: ValueError for S < frames.
    """
    batch, stored = video.shape[0], video.shape[2]
    if stored < frames:
        raise ValueError(f"cannot take {frames} frames out of {stored}; decode at least as many as are used")
    if stored == frames:
        return video
    within = torch.full((batch, frames), 0.5)
    if generator is not None:
        within = torch.rand(batch, frames, generator=generator)
    picks = ((torch.arange(frames) + within) * (stored / frames)).long().clamp(max=stored - 1)
    return torch.stack([clip[:, pick] for clip, pick in zip(video, picks.to(video.device), strict=True)])


def _check_bytes(video: Tensor) -> None:
    if video.dtype != torch.uint8 or video.ndim != 5:
        raise TypeError(f"augmentation takes uint8 video (B, 3, T, H, W), got {video.dtype} {tuple(video.shape)}")


def _draw(generator: torch.Generator, batch: int, most: int) -> Tensor:
    """(B,) whole numbers, uniform in -most..most."""
    return torch.randint(-most, most + 1, (batch,), generator=generator)


def _shifted(video: Tensor, down: Tensor, right: Tensor, mirror: Tensor | None = None) -> Tensor:
    """Each clip moved by whole pixels, its edge pixels repeated into the gap; then mirrored where asked."""
    height, width = video.shape[-2:]
    rows = (torch.arange(height) - down[:, None]).clamp(0, height - 1)
    columns = (torch.arange(width) - right[:, None]).clamp(0, width - 1)
    if mirror is not None:
        columns = torch.where(mirror[:, None], columns.flip(-1), columns)
    moved = torch.empty_like(video)
    for clip, row, column, out in zip(video, rows.to(video.device), columns.to(video.device), moved, strict=True):
        out.copy_(clip.index_select(-2, row).index_select(-1, column))
    return moved
