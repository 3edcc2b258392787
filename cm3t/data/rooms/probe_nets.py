"""The small networks of the difficulty probes: bodies for pictures and for sequences, and how their scores meet."""

from __future__ import annotations

import torch
from einops import rearrange, reduce
from torch import Tensor, nn

FRAMES, HALVED = 8, 2  # pictures are averaged over 2 x 2 pixels: enough for a bound, four times cheaper
MET = 64  # width in which pictures and a modality meet


class Frame(nn.Module):
    """One frame, uint8 (B, 3, H, W) -> (B, 96 * 9): a small 2-D convolutional network with a 3 x 3 map."""

    width = 96 * 9

    def __init__(self):
        super().__init__()
        widths, layers = (3, 24, 48, 96, 96), []
        for before, after in zip(widths, widths[1:], strict=False):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
        self.net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Dropout(0.3))

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 -> (B, width)."""
        return self.net(x.float() / 127.5 - 1)


class Stack(nn.Module):
    """All frames at once, uint8 (B, 3, T, H, W) -> (B, 96 * 9): what stays in colour, what moves in grey, then 2-D."""

    width = 96 * 9

    def __init__(self, frames: int = FRAMES):
        super().__init__()
        widths, layers = (3 + frames, 32, 64, 96, 96), []
        for before, after in zip(widths, widths[1:], strict=False):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
        self.net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Dropout(0.3))

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, T, H, W) uint8 -> (B, width)."""
        x = x.float() / 127.5 - 1
        still, grey = x.mean(2), x.mean(1)
        return self.net(torch.cat([still, 4 * (grey - grey.mean(1, keepdim=True))], 1))


class Tokens(nn.Module):
    """A sequence float (B, L, d) -> (B, 256): convolutions over time, then mean and maximum."""

    width = 256

    def __init__(self, channels: int):
        super().__init__()
        self.norm = nn.BatchNorm1d(channels)
        self.net = nn.Sequential(
            nn.Conv1d(channels, 128, 3, padding=1), nn.BatchNorm1d(128), nn.ReLU(),
            nn.Conv1d(128, 128, 3, padding=1), nn.BatchNorm1d(128), nn.ReLU(),
        )  # fmt: skip
        self.drop = nn.Dropout(0.3)

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, d) -> (B, width)."""
        y = self.net(self.norm(rearrange(x.float(), "b l d -> b d l")))
        return self.drop(torch.cat([reduce(y, "b c l -> b c", "mean"), reduce(y, "b c l -> b c", "max")], 1))


class Probe(nn.Module):
    """Scores of every head from pictures, from modalities, or from all: their own scores, added.

    With `kept`, pictures and each modality also meet in products of features, and of a modality only so many numbers
    are kept: with many, the two together learn the training clips by heart.
    Shapes: pictures uint8 (B, 3, [T,] H, W), or of any form where there is no body for them; side {name: float
    (B, L, d)} and present {name: bool (B,)} -> {head: (B, classes)}. What is absent, there or in a clip, adds nothing.
    """

    def __init__(
        self,
        classes: dict[str, int],
        pictures: nn.Module | None = None,
        sides: dict[str, nn.Module] | None = None,
        kept: int | None = None,
    ):
        super().__init__()
        self.classes, total = dict(classes), sum(classes.values())
        self.pictures, self.sides = pictures, nn.ModuleDict(sides or {})
        kept = kept if pictures is not None else None
        self.widths = {name: kept or body.width for name, body in self.sides.items()}
        if pictures is not None:
            self.by_sight = nn.Linear(pictures.width, total)
        self.by_side = nn.ModuleDict({name: nn.Linear(width, total) for name, width in self.widths.items()})
        self.narrow, self.see, self.meet, self.both = (nn.ModuleDict() for _ in range(4))
        for name, body in self.sides.items() if kept else ():
            self.narrow[name] = nn.Sequential(nn.Linear(body.width, kept), nn.Tanh(), nn.Dropout(0.2))
            self.see[name] = nn.Sequential(nn.Linear(pictures.width, MET), nn.LayerNorm(MET), nn.ReLU())
            self.meet[name] = nn.Linear(kept, MET, bias=False)
            self.both[name] = nn.Linear(MET, total, bias=False)

    def _told(self, name: str, tokens: Tensor, present: Tensor) -> Tensor:
        told = self.sides[name](tokens)
        return (self.narrow[name](told) if self.narrow else told) * present[:, None]

    def forward(self, pictures: Tensor, side: dict[str, Tensor], present: dict[str, Tensor]) -> dict[str, Tensor]:
        """{head: scores (B, classes)}."""
        seen = None if self.pictures is None else self.pictures(pictures)
        scores = 0.0 if seen is None else self.by_sight(seen)
        for name, width in self.widths.items():
            there = name in side
            told = self._told(name, side[name], present[name]) if there else torch.zeros(len(pictures), width)
            scores = scores + self.by_side[name](told)
            if self.narrow:
                scores = scores + self.both[name](self.see[name](seen) * self.meet[name](told))
        return dict(zip(self.classes, scores.split(list(self.classes.values()), 1), strict=True))


def pooled_sound(tokens: Tensor, parts: int = 40) -> Tensor:
    """Log-mel (n, L, d) -> (n, parts, d), averaged over equal spans."""
    return rearrange(nn.functional.adaptive_avg_pool1d(rearrange(tokens, "n l d -> n d l"), parts), "n d l -> n l d")


def halved(videos: Tensor) -> Tensor:
    """Pictures uint8 (n, 3, T, H, W) -> uint8 (n, 3, T, H / 2, W / 2), averaged."""
    form = "n c t (h i) (w j) -> n c t h w"
    return torch.cat([reduce(v.float(), form, "mean", i=HALVED, j=HALVED).byte() for v in videos.split(64)])


def shifted(x: Tensor, generator: torch.Generator, most: int = 3) -> Tensor:
    """Pictures (B, ..., H, W), all moved by one random offset of up to ``most`` pixels (edges repeat)."""
    down, right = (int(v) for v in torch.randint(-most, most + 1, (2,), generator=generator))
    h = (torch.arange(x.shape[-2]) + down).clamp(0, x.shape[-2] - 1)
    w = (torch.arange(x.shape[-1]) + right).clamp(0, x.shape[-1] - 1)
    return x[..., h, :][..., w]
