"""Side encoders: the tokens of a modality, as its reader gives them, to the tokens that vision attends to."""

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from timm.models.vision_transformer import Block
from torch import Tensor, nn

ENCODERS = (None, "linear", "transformer")
TOKENS = 32  # a transformer merges longer sequences down to about this many


class SideEncoder(nn.Module):
    """What changes within a clip, token by token, and the clip's mean as a token of its own before them.

        tokens  Linear([LN(m_t - mean), level(m_t - mean)])    of k neighbours at a time
        mean    Linear(LN(mean))                               mean over the clip's tokens
        + learned positions, then `blocks` transformer blocks

    Shapes: (B, L, d) -> (B, 1 + ceil(L / k), e) for any L from 1 to `length`; a last group that is not full is filled
    up with zeros.

    width   d of the incoming tokens
    embed   e of the tokens handed on
    length  the most tokens that will come
    merge   k
    blocks  transformer blocks behind the embedding

    Paper: "given an embedding corresponding to features of the new modality"; where it comes from is not counted and
    not said. Choice: small, trained with the adapters, counted as a part of its own in `summary`.
    Choice: of a spectrogram the mean is the room and the microphone, and what happens is the rest (speech recognition
    subtracts it too); of a flow the mean is where things go. So both are kept, apart. Layer norm takes away how loud
    or fast a token is; `level` gives it back: its mean and spread, each as sign(a) log(1 + |a|).

    Raises ValueError in forward for more tokens than `length`.
    """

    def __init__(self, width: int, embed: int, *, length: int, merge: int = 1, blocks: int = 0):
        super().__init__()
        self.length, self.merge = length, merge
        self.norm = nn.LayerNorm(width)
        self.embed = nn.Linear(merge * (width + 2), embed)
        self.mean = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, embed))
        self.position_embedding = nn.Parameter(torch.empty(1 + math.ceil(length / merge), embed))
        self.blocks = nn.ModuleList(_block(embed) for _ in range(blocks))
        nn.init.normal_(self.position_embedding, std=0.02)

    def forward(self, side: Tensor) -> Tensor:
        """(B, L, d) -> (B, 1 + ceil(L / k), e)."""
        if side.shape[1] > self.length:
            raise ValueError(f"{side.shape[1]} side tokens came; the encoder was built for at most {self.length}")
        mean = side.mean(1, keepdim=True)
        rest = side - mean
        x = torch.cat([self.norm(rest), level(rest)], dim=-1)
        x = F.pad(x, (0, 0, 0, -x.shape[1] % self.merge))
        x = self.embed(rearrange(x, "b (l k) d -> b l (k d)", k=self.merge))
        x = torch.cat([self.mean(mean), x], dim=1)
        x = x + self.position_embedding[: x.shape[1]]
        for block in self.blocks:
            x = block(x)
        return x


def level(side: Tensor) -> Tensor:
    """Mean and spread of each token (B, L, d), compressed to sign(a) log(1 + |a|): (B, L, 2)."""
    found = torch.stack([side.mean(-1), side.std(-1, unbiased=False)], dim=-1)
    return found.sign() * found.abs().log1p()


def _block(width: int) -> Block:
    """timm's pre-norm transformer block, (B, L, e) -> (B, L, e): four heads where they divide e, an MLP of 2 e."""
    heads = next(heads for heads in (4, 2, 1) if width % heads == 0)
    return Block(width, heads, mlp_ratio=2, qkv_bias=True, norm_layer=nn.LayerNorm)


def side_encoder(kind: str | None, *, width: int, embed: int, length: int | None) -> SideEncoder | None:
    """The encoder of a modality: tokens (B, L, width) -> (B, L', embed); None hands tokens on as they are.

    "linear" keeps every token; "transformer" merges long sequences to about 32 tokens and adds one block.
    Raises ValueError for an unknown kind, and where the length, which the positions need, is not given.
    """
    if kind not in ENCODERS:
        raise ValueError(f"encoder={kind!r} is not known; use one of {', '.join(map(str, ENCODERS))}")
    if kind is None:
        return None
    if length is None:
        raise ValueError(f"encoder={kind!r} learns positions: give length=, the most tokens a clip will have")
    if kind == "linear":
        return SideEncoder(width, embed, length=length)
    return SideEncoder(width, embed, length=length, merge=math.ceil(length / TOKENS), blocks=1)
