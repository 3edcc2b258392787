"""What is frozen: the video transformers, by name."""

from pathlib import Path

from torch import nn

from cm3t.backbones import weights as weights_file
from cm3t.backbones.contract import Backbone, ContractError, check
from cm3t.backbones.video_swin import ConvStem, VideoSwin

__all__ = ["Backbone", "ContractError", "NAMES", "backbone", "check"]

_SWIN = dict(clip=(32, 224, 224), patch_size=(2, 4, 4), window=(8, 7, 7))

_SPECS = {
    "video_swin_mini": dict(
        clip=(8, 96, 96),
        patch_size=(2, 8, 8),
        window=(4, 3, 3),
        stem=ConvStem,
        embed_dim=48,
        depths=[2, 4, 2],
        num_heads=[3, 6, 12],
        stochastic_depth_prob=0.05,
        prefix_length=4,
        source_classes=75,
    ),
    "video_swin_t": dict(**_SWIN, embed_dim=96, depths=[2, 2, 6, 2], num_heads=[3, 6, 12, 24]),
    "video_swin_s": dict(**_SWIN, embed_dim=96, depths=[2, 2, 18, 2], num_heads=[3, 6, 12, 24]),
    "video_swin_b": dict(**_SWIN, embed_dim=128, depths=[2, 2, 18, 2], num_heads=[4, 8, 16, 32]),
}

NAMES = tuple(_SPECS)


def backbone(name: str, *, num_classes: int | None = None, weights: str | Path | None = None) -> nn.Module:
    """The frozen part alone, by name: video (B, 3, T, H, W) -> features (B, D), or logits with `num_classes`.

    `weights` is None (random), "default" (shipped with the package: the mini sizes) or a safetensors file.
    Raises ValueError for an unknown name, listing the known ones.
    """
    if name not in _SPECS:
        raise ValueError(f"unknown backbone {name!r}; known are {', '.join(NAMES)}")
    path = weights_file.resolve(name, weights) if weights is not None else None
    model = VideoSwin(name=name, num_classes=num_classes, **_SPECS[name])
    if path is not None:
        weights_file.load(model, path)
    return model
