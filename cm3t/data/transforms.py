"""Augmentations beyond `clip.augment`, by words: torchvision's transforms, one draw for all frames of a clip.

    transform = ClipTransform("crop+flip+colour", size=96)
    EpicKitchens(root, transform=transform).clip(0, generator)

Choice: the paper names no augmentation for the adaptation stage; these are the ones common in training on video.
"""

from __future__ import annotations

from difflib import get_close_matches

import numpy as np
import torch
from einops import rearrange
from torch import Tensor, nn
from torchvision.transforms import v2

WORDS = ("crop", "flip", "colour", "blur", "randaugment", "erase")


class ClipTransform:
    """The augmentations named in `words`, joined by +, in their order.

    crop: 0.5 to 1 of the area, form 3/4 to 4/3, scaled to `size`. flip: left and right by a coin (not for data whose
    classes tell them apart). colour: brightness, contrast, saturation by up to 40 %, hue by 10 %. blur: sigma 0.1 to 2.
    randaugment: 2 operations of magnitude 9. erase: by a coin one rectangle of 2 to 20 % of the area goes black.

    transform(video, generator): uint8 (3, T, H, W) -> uint8 (3, T, H', W'). Equal numpy generators give equal results,
    and torch's own random state is left as it was.
    Errors: ValueError for an unknown word, and for a crop without `size`.
    """

    def __init__(self, words: str, size: int | tuple[int, int] | None = None):
        names = [word.strip() for word in words.split("+")]
        for name in names:
            if name not in WORDS:
                near = get_close_matches(name, WORDS, n=1)
                hint = f"did you mean {near[0]!r}? " if near else ""
                raise ValueError(f"unknown augmentation {name!r}: {hint}known are {', '.join(WORDS)}")
        if "crop" in names and size is None:
            raise ValueError("the augmentation crop needs size=pixels")
        self.steps = nn.Sequential(*(_made(name, size) for name in names))

    def __call__(self, video: Tensor, generator: np.random.Generator) -> Tensor:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(generator.integers(2**62)))
            return rearrange(self.steps(rearrange(video, "c t h w -> t c h w")), "t c h w -> c t h w").contiguous()


def _made(name: str, size: int | tuple[int, int] | None) -> nn.Module:
    if name == "crop":
        return v2.RandomResizedCrop((size, size) if isinstance(size, int) else size, scale=(0.5, 1.0), antialias=True)
    return {
        "flip": lambda: v2.RandomHorizontalFlip(),
        "colour": lambda: v2.ColorJitter(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1),
        "blur": lambda: v2.GaussianBlur(5, sigma=(0.1, 2.0)),
        "randaugment": lambda: v2.RandAugment(num_ops=2, magnitude=9),
        "erase": lambda: v2.RandomErasing(p=0.5, scale=(0.02, 0.2)),
    }[name]()
