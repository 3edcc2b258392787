"""Plain vision transformers on the backbone contract: timm's blocks, opened, over tokens that may attend by groups."""

import math

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from timm.layers import Attention
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from cm3t.backbones.contract import Backbone, ContractError, check_clip, check_video
from cm3t.backbones.positions import Grid, resample
from cm3t.words import kind_of


class OpenAttention(nn.Module):
    """timm's self-attention over the same parameters, with room for prefix keys and values.

    softmax(q [P_k; K]^T / sqrt(d)) [P_v; V] by heads of width d; without a prefix it is timm's `Attention`, its norms
    of queries and keys (qk-norm), norm of the output and gate included.

    Shapes: x (n, N, C) -> (n, N, C); prefix = (k, v), each (l, C), the same for every sample and frame.

    Paper: Sec. 3.2.1; Eq. 5's gate is this concatenation.
    Choice: prefix keys pass the norm of keys, where there is one, as every other key does.
    """

    def __init__(self, attn: Attention):
        super().__init__()
        self.heads, self.dropout = attn.num_heads, attn.attn_drop.p
        for part in ("qkv", "q_norm", "k_norm", "norm", "gate", "proj", "proj_drop"):
            setattr(self, part, getattr(attn, part))

    def project_prefix(self, embedding: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (l, C) of a prefix embedding (l, C): E W_k and E W_v with the frozen slices of `qkv`.

        Choice: the slices' biases are left out; the text names the weight matrices alone.
        """
        _, w_k, w_v = self.qkv.weight.chunk(3)
        return F.linear(embedding, w_k), F.linear(embedding, w_v)

    def forward(self, x: Tensor, prefix: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """x (n, N, C) -> (n, N, C)."""
        q, k, v = rearrange(self.qkv(x), "n m (three h d) -> three n h m d", three=3, h=self.heads)
        if prefix is not None:
            p_k, p_v = (rearrange(p, "l (h d) -> h l d", h=self.heads).expand(len(x), -1, -1, -1) for p in prefix)
            k, v = torch.cat([p_k, k], dim=2), torch.cat([p_v, v], dim=2)
        q, k = self.q_norm(q), self.k_norm(k)
        out = F.scaled_dot_product_attention(q, k, v, dropout_p=self.dropout if self.training else 0.0)
        out = self.norm(rearrange(out, "n h m d -> n m (h d)"))
        if self.gate is not None:
            out = out * self.gate(x).sigmoid()
        return self.proj_drop(self.proj(out))


class OpenBlock(nn.Module):
    """A timm transformer block over the same parameters and names, its two branches open.

    Shapes: tokens (B, G, N, C) that attend in G groups, or a map (B, T, H, W, C), `span` frames of which attend
    together (all of them where it is None).

    Layer scale and stochastic depth belong to the branches. An attention that is not timm's plain one is kept as it
    is and takes no prefix.
    """

    def __init__(self, block: Block, *, span: int | None):
        super().__init__()
        self.span = span
        for part in ("norm1", "ls1", "drop_path1", "norm2", "mlp", "ls2", "drop_path2"):
            setattr(self, part, getattr(block, part))
        self.attn = OpenAttention(block.attn) if type(block.attn) is Attention else block.attn

    def attention(self, x: Tensor, prefix: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """The attention branch, shaped as x (B, G, N, C) or (B, T, H, W, C); prefix = (k, v), each (l, C)."""
        normed, shape = self.norm1(x), x.shape
        groups = shape[1] if x.ndim == 4 else shape[1] // (self.span or shape[1])
        tokens = rearrange(normed.flatten(1, -2), "b (g n) c -> (b g) n c", g=groups)
        out = self.attn(tokens) if prefix is None else self.attn(tokens, prefix)
        return self.drop_path1(self.ls1(out.reshape(shape)))

    def feedforward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(norm2(x), branch), both shaped as x (B, ..., C): the normed input, and the MLP branch to be added."""
        normed = self.norm2(x)
        return normed, self.drop_path2(self.ls2(self.mlp(normed)))

    def forward(self, x: Tensor) -> Tensor:
        """The block without plugins: tokens (B, G, N, C) or a map (B, T, H, W, C) to the same."""
        x = x + self.attention(x)
        return x + self.feedforward(x)[1]


class TokenBackbone(nn.Module, Backbone):
    """What plain transformers share: extra tokens, positions, blocks, the contract's `split` and `join`.

    Blocks pass on tokens (B, G, E + N / G, C): G groups that attend within themselves, each with E extra tokens (class
    token, registers) before its part of the map. Joint space-time has one group, frame-wise attention a group a frame.
    Without extra tokens they pass on the map itself.

    parts  patch_embed, cls_token (1, 1, C), reg_token (1, R, C), pos_embed (1, [E +] N, C) (each a parameter or None),
           norm_pre, blocks (timm's `Block`), norm, and pos_drop where there is a dropout after the positions
    grid   (T, H, W) tokens that pos_embed covers; T is 1 where every frame has the same
    span   frames of tokens that attend together: 1 by frame, None all

    Choice: clips of another length or size than the backbone's own get interpolated position embeddings, at every
    forward (`positions.resample`). `seen` remembers the grid of the last embedded video, which the shape of its tokens
    does not tell.
    """

    def __init__(
        self,
        parts: nn.Module,
        *,
        name: str,
        clip: Grid,
        patch: Grid,
        grid: Grid,
        span: int | None,
        prefix_length: int,
        source_classes: int,
    ):
        super().__init__()
        check_clip(clip, name, patch)
        self.name, self.clip, self.patch, self.grid, self.span = name, tuple(clip), patch, grid, span
        self.prefix_length, self.source_classes = prefix_length, source_classes
        self.cls_token, self.reg_token, self.pos_embed = parts.cls_token, parts.reg_token, parts.pos_embed
        self.patch_embed, self.norm_pre, self.norm = parts.patch_embed, parts.norm_pre, parts.norm
        self.pos_drop = getattr(parts, "pos_drop", nn.Identity())
        self.blocks = nn.ModuleList(_open(i, block, name, span) for i, block in enumerate(parts.blocks))
        self.width = self.blocks[0].norm1.weight.shape[0]
        self.extra = sum(0 if token is None else token.shape[1] for token in (self.cls_token, self.reg_token))
        self.seen = grid
        self.head = nn.Identity()

    @property
    def widths(self) -> list[int]:
        """Width C of each block: the same in all."""
        return [block.norm1.weight.shape[0] for block in self.blocks]

    def patches(self, video: Tensor) -> Tensor:
        """Video (B, 3, T, H, W) -> token map (B, T', H', W', C), without positions."""
        return self.patch_embed(video)

    def embed(self, video: Tensor) -> Tensor:
        """Video (B, 3, T, H, W) -> tokens (B, G, E + N / G, C), or the map, with their positions."""
        check_video(video, self.name, self.patch, weights=next(self.parameters()))
        x = self.patches(video)
        self.seen = tuple(x.shape[1:4])
        own = None
        if self.pos_embed is not None:
            new = (1 if self.grid[0] == 1 else self.seen[0], *self.seen[1:])
            position = resample(self.pos_embed, self.grid, new)
            rows = position.shape[1] - math.prod(new)  # for the extra tokens: all of them, or none
            own, position = position[:, :rows], position[:, rows:]
            x = x + rearrange(position, "b (t h w) c -> b t h w c", h=new[1], w=new[2])
        return self.norm_pre(self.pos_drop(self.place(self.join(x, self.extras(x, own)))))

    def extras(self, x: Tensor, position: Tensor | None) -> Tensor | None:
        """Extra tokens (B, G * E, C) beside a map x (B, T, H, W, C), with their `position` (1, E or 0, C)."""
        tokens = [token for token in (self.cls_token, self.reg_token) if token is not None]
        if not tokens:
            return None
        tokens = torch.cat(tokens, dim=1)
        if position is not None and position.shape[1]:
            tokens = tokens + position
        return repeat(tokens, "1 e c -> b (g e) c", b=len(x), g=self._groups(x))

    def place(self, x: Tensor) -> Tensor:
        """Tokens (B, G, N, C) or map with further positions: none here."""
        return x

    def _groups(self, x: Tensor) -> int:
        """Groups G that a map (B, T, H, W, C) attends in."""
        return x.shape[1] // (self.span or x.shape[1])

    def advance(self, i: int, x: Tensor) -> Tensor:
        """What block i reads, (B, G, N, C): x itself, there being no stages."""
        return x

    def split(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """(map (B, T, H, W, C), extra (B, G * E, C) or None) of tokens (B, G, E + N / G, C) of the last video."""
        if not self.extra:
            return x, None
        t, h, w = self.seen
        if x.shape[1] * (x.shape[2] - self.extra) != t * h * w:
            raise ValueError(f"{self.name}: tokens of shape {tuple(x.shape)} are not of the last video, {self.seen}")
        fmap = rearrange(x[:, :, self.extra :], "b g (t h w) c -> b (g t) h w c", h=h, w=w)
        return fmap, rearrange(x[:, :, : self.extra], "b g e c -> b (g e) c")

    def join(self, x: Tensor, extra: Tensor | None) -> Tensor:
        """Tokens (B, G, E + N / G, C) of a map (B, T, H, W, C) and its extra tokens (B, G * E, C)."""
        if extra is None:
            return x
        groups = self._groups(x)
        x = rearrange(x, "b (g t) h w c -> b g (t h w) c", g=groups)
        return torch.cat([rearrange(extra, "b (g e) c -> b g e c", g=groups), x], dim=2)

    def pool(self, x: Tensor) -> Tensor:
        """The last tokens (B, G, N, C) -> features (B, D): norm, the class token, its mean over groups."""
        return self.norm(x[:, :, 0]).mean(dim=1)

    def forward(self, video: Tensor) -> Tensor:
        """Video (B, 3, T, H, W) -> features (B, D), or logits where there is a head."""
        return self.head(self.features_of(video))


def _open(i: int, block: nn.Module, name: str, span: int | None) -> OpenBlock:
    """timm's block opened; ContractError naming the block where it is another kind."""
    if type(block) is not Block:
        raise ContractError(
            f"block {i} of {name!r} is {kind_of(block)}: only timm's pre-norm `Block` (attention, then MLP, "
            "without rotary positions) has the two branches that plugins stand beside"
        )
    return OpenBlock(block, span=span)


def init_small(model: nn.Module) -> None:
    """Fan-in scaled weights for widths under 200 (in place). Choice: the usual std of 0.02 is far too small there."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
