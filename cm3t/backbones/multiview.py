"""Multiview transformer (MTV): one transformer a view, views being tubelets of different length; a global encoder.

Source: Yan et al., Multiview Transformers for Video Recognition, CVPR 2022, in the configuration of its public code. A
view such as "B/2" is a transformer of size B over tubelets of 2 x 16 x 16; longer tubelets have smaller transformers.
"""

from functools import partial

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from cm3t.backbones.contract import check_video
from cm3t.backbones.positions import Grid, resample
from cm3t.backbones.tokens import OpenBlock, TokenBackbone
from cm3t.backbones.vivit import Tubelets

SIZES = {"Ti": (192, 12, 3), "S": (384, 12, 6), "B": (768, 12, 12)}  # width, depth, heads

_NORM = partial(nn.LayerNorm, eps=1e-6)
_BLOCK = dict(qkv_bias=True, norm_layer=_NORM, act_layer=partial(nn.GELU, "tanh"))


class CrossView(nn.Module):
    """Cross-view attention: one view's tokens x read another's, MHA(q = x, kv = y).

    Shapes: x (n, N, C), y (n, M, C'), both normed -> the branch (n, N, C), to be added to the reading view. Heads and
    widths are the reading view's. The projection out is zero at first: the views start apart.
    """

    def __init__(self, width: int, other: int, heads: int):
        super().__init__()
        self.heads = heads
        self.q, self.kv, self.proj = nn.Linear(width, width), nn.Linear(other, 2 * width), nn.Linear(width, width)
        nn.init.zeros_(self.proj.weight)
        nn.init.zeros_(self.proj.bias)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """x (n, N, C), y (n, M, C') -> (n, N, C)."""
        q = rearrange(self.q(x), "n m (h d) -> n h m d", h=self.heads)
        k, v = rearrange(self.kv(y), "n m (two h d) -> two n h m d", two=2, h=self.heads)
        return self.proj(rearrange(F.scaled_dot_product_attention(q, k, v), "n h m d -> n m (h d)"))


class View(TokenBackbone):
    """One view: tubelets of `length` x 16 x 16; those of `chunk` frames of the video attend together.

    Shapes: video (B, 3, T, H, W) -> tokens (B, G, E + N / G, C), G = T / chunk, with E = chunk / length class tokens:
    one for every moment of the view's own, with one position for all. Positions are of space alone.
    """

    def __init__(self, size: str, *, clip: Grid, length: int, chunk: int, **contract):
        width, depth, heads = SIZES[size]
        grid = (1, clip[1] // 16, clip[2] // 16)
        parts = nn.Module()
        parts.cls_token, parts.reg_token = nn.Parameter(torch.zeros(1, clip[0] // length, width)), None
        parts.pos_embed = nn.Parameter(torch.zeros(1, 1 + grid[1] * grid[2], width))
        parts.patch_embed, parts.norm_pre, parts.norm = Tubelets(width, (length, 16, 16)), nn.Identity(), nn.Identity()
        parts.blocks = [Block(width, heads, **_BLOCK) for _ in range(depth)]
        super().__init__(parts, clip=clip, patch=(length, 16, 16), grid=grid, span=chunk // length, **contract)
        self.extra, self.heads = self.span, heads
        nn.init.trunc_normal_(self.pos_embed, std=0.02)

    def extras(self, x: Tensor, position: Tensor | None) -> Tensor:
        """Class tokens (B, T', C) beside a map x (B, T', H', W', C), with their `position` (1, 1, C)."""
        tokens = resample(self.cls_token, (self.cls_token.shape[1], 1, 1), (x.shape[1], 1, 1))
        return repeat(tokens + position, "1 t c -> b t c", b=len(x))


class MTV(View):
    """MTV on the backbone contract: plugins stand beside the finest view, whose blocks these are.

    Shapes: video (B, 3, T, H, W) -> features (B, D), D the sum of the views' widths, or logits (B, num_classes).

    Every view cuts the clip into the same groups, as many as the coarsest view has moments, and attends within them.
    Before the layers in `fusion` each view reads the next finer one by cross-view attention. The views' class tokens,
    concatenated moment by moment (the coarser views' sequences repeated), go through a global encoder.

    views  (size, tubelet length), finest first: two or three of them, each length dividing the last

    Choice: the finest view hears no other, so it runs first, with the plugins: `advance` keeps what it hands on, and
    `pool` runs the other views and the global encoder on that, as they come. No published file is known to fit: weights
    are random or of this layout.
    """

    def __init__(
        self,
        *,
        name: str,
        clip: Grid,
        views: tuple[tuple[str, int], ...] = (("B", 2), ("S", 4), ("Ti", 8)),
        fusion: tuple[int, ...] = (5, 11),
        depth: int = 12,
        heads: int = 8,
        mlp: int = 3072,
        num_classes: int | None = None,
        **contract,
    ):
        chunk = views[-1][1]
        if not 2 <= len(views) <= 3 or any(chunk % length for _, length in views):
            raise ValueError(f"{name}: needs two or three views, finest first, tubelets dividing the last; got {views}")
        shape = dict(clip=clip, chunk=chunk, **contract)
        super().__init__(views[0][0], name=name, length=views[0][1], **shape)
        self.chunk, self.fusion = chunk, fusion
        self.views = nn.ModuleList(View(size, name=f"{name} {size}/{t}", length=t, **shape) for size, t in views[1:])
        widths = [SIZES[size][0] for size, _ in views]
        self.cross_norm = _by_layer(fusion, [_NORM(width) for width in widths for _ in fusion])
        cross = [
            CrossView(view.width, w, view.heads) for view, w in zip(self.views, widths, strict=False) for _ in fusion
        ]
        self.cross = _by_layer(fusion, cross)
        self.width = sum(widths)
        blocks = [Block(self.width, heads, mlp_ratio=mlp / self.width, **_BLOCK) for _ in range(depth)]
        self.encoder = nn.ModuleList(OpenBlock(block, span=None) for block in blocks)
        self.encoder_norm = _NORM(self.width)
        self.encoder_cls = nn.Parameter(torch.zeros(1, 1, self.width))
        self.encoder_pos = nn.Parameter(torch.zeros(1, 1 + clip[0] // views[0][1], self.width))
        nn.init.trunc_normal_(self.encoder_pos, std=0.02)
        if num_classes is not None:
            self.head = nn.Linear(self.width, num_classes)
        self.heard: dict[int, Tensor] = {}
        self.waiting: list[Tensor] = []

    def embed(self, video: Tensor) -> Tensor:
        """Video (B, 3, T, H, W) -> the finest view's tokens (B, G, N, C); the other views' wait for `pool`."""
        check_video(video, self.name, (self.chunk, 16, 16))
        self.heard, self.waiting = {}, [view.embed(video) for view in self.views]
        return super().embed(video)

    def advance(self, i: int, x: Tensor) -> Tensor:
        """What block i reads, (B, G, N, C): x itself; where the next view listens, it is kept for it."""
        if i in self.fusion:
            self.heard[i] = x
        return x

    def pool(self, x: Tensor) -> Tensor:
        """The finest view's last tokens (B, G, N, C) -> features (B, D): the other views, then the global encoder."""
        said, heard = [self.split(x)[1]], self.heard
        for v, (view, y) in enumerate(zip(self.views, self.waiting, strict=True)):
            handed_on = {}
            for i, block in enumerate(view.blocks):
                if i in self.fusion:
                    handed_on[i] = y
                    y = y + self._read(i, v, y, heard[i])
                y = block(y)
            said.append(view.split(y)[1])
            heard = handed_on
        self.heard, self.waiting = {}, []
        moments = said[0].shape[1]
        tokens = [repeat(one, "b t c -> b (n t) c", n=moments // one.shape[1]) for one in said]
        tokens = torch.cat([self.encoder_cls.expand(len(x), -1, -1), torch.cat(tokens, dim=-1)], dim=1)
        tokens = tokens + resample(self.encoder_pos, (self.encoder_pos.shape[1] - 1, 1, 1), (moments, 1, 1))
        tokens = rearrange(tokens, "b n c -> b 1 n c")  # one group
        for block in self.encoder:
            tokens = block(tokens)
        return self.encoder_norm(tokens[:, 0, 0])

    def _read(self, i: int, v: int, x: Tensor, y: Tensor) -> Tensor:
        """What view v + 1, tokens x (B, G, N, C), reads before layer i of view v, tokens y (B, G, M, C')."""
        norms = self.cross_norm[str(i)]
        q, kv = (rearrange(norm(one), "b g n c -> (b g) n c") for norm, one in ((norms[v + 1], x), (norms[v], y)))
        return rearrange(self.cross[str(i)][v](q, kv), "(b g) n c -> b g n c", b=len(x))


def _by_layer(layers: tuple[int, ...], modules: list[nn.Module]) -> nn.ModuleDict:
    """Modules listed view by view and layer by layer as {layer: [of each view]}."""
    step = len(layers)
    return nn.ModuleDict({str(i): nn.ModuleList(modules[k::step]) for k, i in enumerate(layers)})
