"""ViViT, model 1: joint space-time attention over tubelets, with a class token.

Source: Arnab et al., ViViT, ICCV 2021; the layout of the published ViViT-B 16x2 (a class token, 32 frames, tubelets of
2 x 16 x 16, GELU by its tanh formula). Blocks are timm's, so parameters have timm's names.
"""

from functools import partial

import torch
from einops import rearrange
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from cm3t.backbones.positions import Grid
from cm3t.backbones.stem import TokenStem
from cm3t.backbones.tokens import TokenBackbone, init_small


class Tubelets(nn.Module):
    """Tubelet embedding: one convolution whose stride is its kernel. (B, 3, T, H, W) -> (B, T', H', W', C)."""

    def __init__(self, width: int, patch: Grid):
        super().__init__()
        self.proj = nn.Conv3d(3, width, patch, patch)

    def forward(self, video: Tensor) -> Tensor:
        """Video (B, 3, T, H, W) -> token map (B, T', H', W', C)."""
        return rearrange(self.proj(video), "b c t h w -> b t h w c")


class ViViT(TokenBackbone):
    """ViViT on the backbone contract; with `num_classes` the classifier, else video -> features.

    Shapes: video (B, 3, T, H, W) -> features (B, D) (the class token's), or logits (B, num_classes).

    Choice: `stem` (the mini size) puts convolutions in the tubelets' place and scales its weights by their fan-in.
    """

    def __init__(
        self,
        *,
        name: str,
        clip: Grid,
        width: int,
        depth: int,
        heads: int,
        patch: Grid = (2, 16, 16),
        stem: bool = False,
        drop_path: float = 0.0,
        num_classes: int | None = None,
        **contract,
    ):
        grid = tuple(n // p for n, p in zip(clip, patch, strict=True))
        parts = nn.Module()
        parts.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        parts.reg_token = None
        parts.pos_embed = nn.Parameter(torch.zeros(1, 1 + grid[0] * grid[1] * grid[2], width))
        parts.patch_embed = TokenStem(width, frames=False) if stem else Tubelets(width, patch)
        parts.norm_pre, parts.norm = nn.Identity(), nn.LayerNorm(width, eps=1e-6)
        options = dict(qkv_bias=True, act_layer=partial(nn.GELU, "tanh"), norm_layer=partial(nn.LayerNorm, eps=1e-6))
        rates = [drop_path * i / max(1, depth - 1) for i in range(depth)]
        parts.blocks = [Block(width, heads, drop_path=rate, **options) for rate in rates]
        super().__init__(parts, name=name, clip=clip, patch=patch, grid=grid, span=None, **contract)
        for p in (self.cls_token, self.pos_embed):
            nn.init.trunc_normal_(p, std=0.02)
        if num_classes is not None:
            self.head = nn.Linear(width, num_classes)
        if stem:
            init_small(self)
