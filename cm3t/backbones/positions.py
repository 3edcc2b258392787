"""Position embeddings of a token grid, resampled to another grid."""

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, cat

Grid = tuple[int, int, int]


def resample(position: Tensor, old: Grid, new: Grid) -> Tensor:
    """Position embeddings (1, E + N, C) of grid `old` -> (1, E + N', C) of grid `new`; grids are (T, H, W) tokens.

    The first E rows (class tokens) stay as they are. Space is interpolated by an antialiased bicubic, as timm does it,
    time linearly; equal grids return the very tensor.

    Choice: antialiased in every layout, that of transformers' ViViT too. Its own code knows no such resampling: it
    reads the positions of all times and places as one square image, which fits no video of another size.
    """
    if tuple(old) == tuple(new):
        return position
    rows = old[0] * old[1] * old[2]
    extra, x = position[:, : position.shape[1] - rows], position[:, position.shape[1] - rows :]
    if old[1:] != new[1:]:
        x = rearrange(x.float(), "b (t h w) c -> (b t) c h w", t=old[0], h=old[1])
        x = F.interpolate(x, size=tuple(new[1:]), mode="bicubic", antialias=True)
        x = rearrange(x, "(b t) c h w -> b (t h w) c", t=old[0])
    if old[0] != new[0]:
        x = rearrange(x.float(), "b (t n) c -> (b n) c t", t=old[0])
        x = F.interpolate(x, size=new[0], mode="linear", align_corners=False)
        x = rearrange(x, "(b n) c t -> b (t n) c", n=new[1] * new[2])
    return cat([extra, x.to(extra.dtype)], dim=1)
