"""Stand-ins for data sets and backbones: a few bright squares, decoded in no time, learned by a tiny transformer."""

import torch

from cm3t import backbones
from cm3t.training import sets
from cm3t.training.sets import ClipSet

SMALL_SWIN = dict(patch_size=(2, 4, 4), window=(1, 3, 3), embed_dim=16, depths=[1, 1], num_heads=[2, 2])
SPLITS = ["train", "tune", "validation"]


class Toy:
    """Clips whose bright half is the verb and whose colour is the noun; sound tells the verb, a word the noun."""

    split, task = "train", "actions"

    def __init__(self, clips: int, seed: int, gaps=()):
        self.clips = clips
        self.classes, self.gaps, self.digest = {"verb": 2, "noun": 3}, gaps, "toy"
        rng = torch.Generator().manual_seed(seed)
        self.targets = {name: torch.randint(n, (clips,), generator=rng) for name, n in self.classes.items()}
        self.verb, self.noun = self.targets["verb"], self.targets["noun"]
        self.subsets = {"all": torch.ones(clips, dtype=torch.bool), "unseen": torch.arange(clips) % 2 == 0}

    def __len__(self) -> int:
        return self.clips

    def decode_all(self) -> torch.Tensor:
        """(n, 3, 2, 24, 24)."""
        video = torch.full((self.clips, 3, 2, 24, 24), 60, dtype=torch.uint8)
        for clip, verb, noun in zip(video, self.verb, self.noun, strict=True):
            clip[noun, :, :, verb * 12 : verb * 12 + 12] = 220
        return video

    def decode_side(self, name: str):
        """Sound (n, 5, 8), whose loud half is the verb; flow (n, 2, 4), lacking in every fourth clip."""
        if name == "audio":
            tokens = torch.zeros(self.clips, 5, 8)
            for row, verb in zip(tokens, self.verb, strict=True):
                row[:, verb * 4 : verb * 4 + 4] = 2
            return tokens, torch.ones(self.clips, dtype=torch.bool)
        if name == "flow":
            tokens = torch.nn.functional.one_hot(self.noun, 4).float()
            return tokens[:, None].repeat(1, 2, 1), torch.arange(self.clips) % 4 > 0
        raise ValueError(f"unknown modality {name!r}; known are audio, flow")


class Dark(Toy):
    """The same, in the dark: only sound tells the verb."""

    def decode_all(self) -> torch.Tensor:
        """(n, 3, 2, 24, 24), all alike."""
        return torch.full((self.clips, 3, 2, 24, 24), 60, dtype=torch.uint8)


class Behaviours(Toy):
    """The same clips with three behaviours: the first is the verb, the second never happens, the third always."""

    task = "behaviours"

    def __init__(self, clips: int, seed: int, gaps=()):
        super().__init__(clips, seed, gaps)
        happens = torch.stack([self.verb, torch.zeros(clips), torch.ones(clips)], dim=1)
        self.classes, self.targets = {"behaviour": 3}, {"behaviour": happens.float()}


class Traits(Toy):
    """Clips of four people; how bright a clip is, is what the person is like."""

    task = "traits"

    def __init__(self, clips: int, seed: int, gaps=()):
        super().__init__(clips, seed, gaps)
        people = torch.arange(clips) % 4
        self.groups = [f"{p:03}" for p in people.tolist()]
        self.units = [f"{p}/0/T" for p in self.groups]
        self.light = (people.float() - 1.5) / 1.5
        self.classes, self.targets = {"traits": 5}, {"traits": self.light[:, None].repeat(1, 5)}

    def decode_all(self) -> torch.Tensor:
        """(n, 3, 2, 24, 24)."""
        light = (128 + 90 * self.light).to(torch.uint8)
        return light[:, None, None, None, None].expand(-1, 3, 2, 24, 24).contiguous()


def clip_set(toy: Toy, side: tuple[str, ...] = ()) -> ClipSet:
    """A toy, decoded."""
    return sets.decode(toy, side)


def small_world(monkeypatch, kind: type[Toy] = Toy):
    """Every data set is a toy and the backbone is tiny; nothing is remembered from one test to the next."""

    def open_toy(name, root=None, split="train", gap=0, limit=None, **options):
        toy = kind(limit or 24, seed=SPLITS.index(split) + 10 * gap, gaps=(1,) if split == "validation" else ())
        toy.split = split
        return toy

    monkeypatch.setattr(sets, "open_data", open_toy)
    spec = SMALL_SWIN | dict(make="video_swin:VideoSwin", clip=(2, 24, 24), prefix_length=2)
    monkeypatch.setitem(backbones._SPECS, "video_swin_mini", spec)
    for remembered in (sets._open_set, sets._video, sets.side_tokens):
        remembered.cache_clear()


def quiet(line: str) -> None:
    """Say nothing."""
