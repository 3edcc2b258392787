"""Video Swin Transformer: torchvision's skeleton and parameter names, with a window attention that takes prefixes.

Source: Liu et al., Video Swin Transformer, CVPR 2022. Patch embedding, patch merging, MLP, norms, stage layout and
every parameter name are torchvision's `SwinTransformer3d`, whose K400 checkpoints therefore load without a map.
Ours are the window attention (`WindowAttention3d`) and the mini size with its convolutional stem.
"""

from functools import lru_cache

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor, nn
from torchvision.models.swin_transformer import SwinTransformerBlock
from torchvision.models.video.swin_transformer import SwinTransformer3d

from cm3t.backbones.contract import Backbone, check_video

Size = tuple[int, int, int]

MASKED = -100.0  # torchvision's and the official code's logit for a pair that the cyclic shift brought together


@lru_cache(maxsize=64)
def _kept(window: Size, clipped: Size) -> Tensor:
    """Positions (N',) of a clipped window's tokens among the N tokens of the full window, in raster order."""
    grid = torch.arange(window[0] * window[1] * window[2], device="cpu").reshape(window)
    return grid[: clipped[0], : clipped[1], : clipped[2]].flatten()


@lru_cache(maxsize=64)
def _shift_mask(size: Size, window: Size, shift: Size, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Additive mask (n_windows, N, N): `MASKED` between tokens that are neighbours only through the cyclic shift."""
    region = torch.zeros(size, dtype=torch.int64, device="cpu")
    for axis, (w, s) in enumerate(zip(window, shift, strict=True)):
        part = torch.zeros(size[axis], dtype=torch.int64, device="cpu")
        part[size[axis] - w :] = 1
        part[size[axis] - s :] = 2 if s else 1
        region = region * 3 + part.reshape([-1 if a == axis else 1 for a in range(3)])
    region = rearrange(region, "(t i) (h j) (w k) -> (t h w) (i j k)", i=window[0], j=window[1], k=window[2])
    apart = region[:, :, None] != region[:, None, :]
    return torch.zeros(apart.shape, dtype=dtype, device="cpu").masked_fill(apart, MASKED).to(device)


class WindowAttention3d(nn.Module):
    """Self-attention inside (shifted) 3-D windows, with room for prefix keys and values.

    softmax(q [P_k; K]^T / sqrt(C / h) + [0; bias + shift mask]) [P_v; V], a window at a time; without a prefix it
    is torchvision's `ShiftedWindowAttention3d` with the same parameters.

    Shapes: x (B, T, H, W, C) -> (B, T, H, W, C); prefix = (k, v), each (l, C), the same in every window.

    Paper: Sec. 3.2.1, "added in parallel to each head of multi-head attention"; Eq. 5's gate is this concatenation.
    Choice: relative position bias and shift mask are zero on the prefix columns (a prefix has no position).
    A map smaller than the window clips the window and drops the shift along that axis, as torchvision does. Where
    height or width is clipped torchvision indexes the bias table as if only the depth had been: its relative positions
    are wrong there. Ours are right, so the two agree only while height and width hold a whole window.
    """

    def __init__(self, dim: int, *, window: Size, shift: Size, heads: int, dropout: float = 0.0):
        super().__init__()
        self.window, self.shift, self.heads, self.dropout = tuple(window), tuple(shift), heads, dropout
        self.qkv = nn.Linear(dim, dim * 3)
        self.proj = nn.Linear(dim, dim)
        spans = [2 * w - 1 for w in self.window]
        self.relative_position_bias_table = nn.Parameter(torch.zeros(spans[0] * spans[1] * spans[2], heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        grid = torch.meshgrid(*(torch.arange(w) for w in self.window), indexing="ij")
        coords = torch.stack([axis.flatten() for axis in grid])  # (3, N)
        apart = coords[:, :, None] - coords[:, None, :]  # (3, N, N), from -(w - 1) to w - 1
        apart = apart + torch.tensor(self.window).sub(1)[:, None, None]
        self.register_buffer("relative_position_index", (apart[0] * spans[1] + apart[1]) * spans[2] + apart[2])

    def bias(self, window: Size) -> Tensor:
        """Relative position bias (h, N, N) of a window of this size, at most the module's own."""
        index = self.relative_position_index
        if window != self.window:
            kept = _kept(self.window, window).to(index.device)
            index = index[kept][:, kept]
        return rearrange(self.relative_position_bias_table[index], "n m h -> h n m").contiguous()

    def project_prefix(self, embedding: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (l, C) of a prefix embedding (l, C): E W_k and E W_v with the frozen slices of `qkv`.

        Paper: Sec. 3.2.1. Choice: the slices' biases are left out; the text names the weight matrices alone.
        """
        _, w_k, w_v = self.qkv.weight.chunk(3)
        return F.linear(embedding, w_k), F.linear(embedding, w_v)

    def forward(self, x: Tensor, prefix: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """x (B, T, H, W, C) -> (B, T, H, W, C)."""
        size = x.shape[1:4]
        window = tuple(min(s, w) for s, w in zip(size, self.window, strict=True))
        shift = tuple(0 if s <= w else a for s, w, a in zip(size, self.window, self.shift, strict=True))
        pad = [-s % w for s, w in zip(size, window, strict=True)]
        if any(pad):
            x = F.pad(x, (0, 0, 0, pad[2], 0, pad[1], 0, pad[0]))
        if any(shift):
            x = torch.roll(x, [-s for s in shift], (1, 2, 3))
        whole = tuple(x.shape[1:4])
        n = dict(zip("thw", (a // b for a, b in zip(whole, window, strict=True)), strict=True))
        split = "b (t i) (h j) (w k) c"
        x = rearrange(x, f"{split} -> b (t h w) (i j k) c", **n)
        mask = self.bias(window)[None]  # (1, h, N, N)
        if any(shift):
            mask = mask + _shift_mask(whole, window, shift, x.dtype, x.device)[:, None]  # (n_windows, h, N, N)
        x = self.attend(x, mask, prefix)
        axes = dict(i=window[0], j=window[1], k=window[2])
        x = rearrange(x, f"b (t h w) (i j k) c -> {split}", **n, **axes)
        if any(shift):
            x = torch.roll(x, shift, (1, 2, 3))
        return x[:, : size[0], : size[1], : size[2]]

    def attend(self, x: Tensor, mask: Tensor, prefix: tuple[Tensor, Tensor] | None) -> Tensor:
        """Attention of windows x (B, n, N, C) under an additive mask (1 or n, h, N, N) -> (B, n, N, C).

        The fused kernels keep the mask for the backward pass, so it must not grow with the batch. Where all windows
        share one they join the batch axis; where each has its own they join the heads, over which clips share it.
        torch's fused CPU kernel takes four axes, and a mask that needs no gradient.
        """
        b, n = x.shape[:2]
        apart = b > 1 and len(mask) > 1
        axes = {"b": b, "n": n, "h": self.heads}
        merged = "b (n h)" if apart else "(b n) h"
        q, k, v = rearrange(self.qkv(x), f"b n m (three h d) -> three {merged} m d", three=3, h=self.heads)
        mask = mask.to(q.dtype)  # before it is expanded: autocast would write out what is expanded
        if prefix is not None:
            p_k, p_v = (repeat(p, f"l (h d) -> {merged} l d", **axes) for p in prefix)
            k, v = torch.cat([p_k, k], dim=2), torch.cat([p_v, v], dim=2)
            mask = F.pad(mask, (p_k.shape[2], 0))
        mask = rearrange(mask, "n h m k -> 1 (n h) m k") if apart else mask
        mask = mask.expand(len(q), -1, -1, -1)
        out = F.scaled_dot_product_attention(q, k, v, mask, dropout_p=self.dropout if self.training else 0.0)
        return self.proj(rearrange(out, f"{merged} m d -> b n m (h d)", **axes))


class SwinBlock(SwinTransformerBlock):
    """One block: x + attention(norm1 x), then x + mlp(norm2 x), each branch open to plugins. Maps (B, T, H, W, C)."""

    def __init__(self, dim: int, heads: int, **options):
        super().__init__(dim, heads, **(options | {"attn_layer": _attention}))

    def attention(self, x: Tensor, prefix: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """The attention branch (B, T, H, W, C) of x, to be added to it; prefix = (k, v), each (l, C)."""
        return self.stochastic_depth(self.attn(self.norm1(x), prefix))

    def feedforward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(norm2(x), branch): the normed input, that an adapter reads, and the MLP branch to be added to x."""
        normed = self.norm2(x)
        return normed, self.stochastic_depth(self.mlp(normed))

    def forward(self, x: Tensor) -> Tensor:
        """The block without plugins, (B, T, H, W, C) -> (B, T, H, W, C)."""
        x = x + self.attention(x)
        return x + self.feedforward(x)[1]


def _attention(dim, window_size, shift_size, heads, *, attention_dropout: float, dropout: float) -> WindowAttention3d:
    """Our attention under the signature with which torchvision's block builds its own."""
    if dropout:
        raise ValueError("dropout after the attention's projection is not supported; use stochastic_depth_prob")
    return WindowAttention3d(dim, window=window_size, shift=shift_size, heads=heads, dropout=attention_dropout)


class ConvStem(nn.Module):
    """Two strided convolutions with batch norm in the place of the patch embedding.

    Shapes: (B, 3, T, H, W) -> (B, T / 2, H / 8, W / 8, C).

    Choice: ours, for the mini size alone: a patch of raw pixels does not train from scratch on a small source set.
    Strides (2, 8, 8) in all, like a patch of that size. Its batch norms stay in eval mode in every method.
    """

    def __init__(self, patch_size, embed_dim: int, norm_layer, in_channels: int = 3):
        super().__init__()
        if tuple(patch_size) != (2, 8, 8):
            raise ValueError(f"ConvStem has strides (2, 8, 8); got patch_size {tuple(patch_size)}")
        narrow = embed_dim * 2 // 3
        self.layers = nn.Sequential(
            *self._layer(in_channels, narrow, (3, 5, 5), (2, 4, 4)),
            *self._layer(narrow, embed_dim, (3, 3, 3), (1, 2, 2)),
        )
        self.norm = norm_layer(embed_dim)

    @staticmethod
    def _layer(c_in: int, c_out: int, kernel: Size, stride: Size) -> tuple[nn.Module, ...]:
        pad = tuple(k // 2 for k in kernel)
        return nn.Conv3d(c_in, c_out, kernel, stride, pad, bias=False), nn.BatchNorm3d(c_out), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Video (B, 3, T, H, W) -> token map (B, T/2, H/8, W/8, C)."""
        return self.norm(rearrange(self.layers(x), "b c t h w -> b t h w c"))


class VideoSwin(SwinTransformer3d, Backbone):
    """Video Swin on the backbone contract; with `num_classes` it is torchvision's classifier, else video -> features.

    Shapes: video (B, 3, T, H, W) -> features (B, D), or logits (B, num_classes).

    Clips that patches or windows do not divide are padded with zeros behind their end, as torchvision does it; only
    frames smaller than one patch are refused.
    """

    def __init__(
        self,
        *,
        name: str,
        clip: Size,
        patch_size: Size = (2, 4, 4),
        window: Size = (8, 7, 7),
        stem: type[nn.Module] | None = None,
        prefix_length: int = 32,
        source_classes: int = 400,
        num_classes: int | None = None,
        **skeleton,
    ):
        super().__init__(
            patch_size=list(patch_size),
            window_size=list(window),
            num_classes=num_classes or 1,
            block=SwinBlock,
            patch_embed=stem,
            **skeleton,
        )
        if num_classes is None:
            self.head = nn.Identity()
        self.name, self.clip, self.prefix_length, self.source_classes = name, clip, prefix_length, source_classes
        self.patch = tuple(patch_size)
        stages = [stage for stage in self.features if isinstance(stage, nn.Sequential)]
        merges = [layer for layer in self.features if not isinstance(layer, nn.Sequential)]
        self._flat = [
            (block, merges[i - 1] if i and j == 0 else None)
            for i, stage in enumerate(stages)
            for j, block in enumerate(stage)
        ]
        self.width = self.num_features
        if stem is not None:
            self._init_small()

    def _init_small(self) -> None:
        """Fan-in scaled weights. Choice: torchvision's std of 0.02 is far too small at widths under 200."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)

    @property
    def blocks(self) -> list[SwinBlock]:
        """The blocks in order, the stages' boundaries left out (`advance` crosses them)."""
        return [block for block, _ in self._flat]

    @property
    def widths(self) -> list[int]:
        """Width C of each block's map."""
        return [block.norm1.normalized_shape[0] for block in self.blocks]

    def embed(self, video: Tensor) -> Tensor:
        """Video (B, 3, T, H, W) -> the first token map (B, T', H', W', C); what the patches do not divide is padded."""
        check_video(video, self.name, self.patch, weights=next(self.parameters()), padded=True)
        return self.pos_drop(self.patch_embed(video))

    def advance(self, i: int, x: Tensor) -> Tensor:
        """The map (B, T, H, W, C) that block i reads: patch merging where a stage begins, else x itself."""
        merge = self._flat[i][1]
        return x if merge is None else merge(x)

    def pool(self, x: Tensor) -> Tensor:
        """The last map (B, T, H, W, C) -> features (B, D): norm, then the mean over all tokens."""
        return self.norm(x).mean(dim=(1, 2, 3))

    def forward(self, x: Tensor) -> Tensor:
        """Video (B, 3, T, H, W) -> features (B, D), or logits (B, num_classes) where there is a head."""
        return self.head(self.features_of(x))


def mini(**options) -> VideoSwin:
    """The mini size: `VideoSwin` on a convolutional stem, video (B, 3, T, H, W) -> features (B, D)."""
    return VideoSwin(stem=ConvStem, **options)
