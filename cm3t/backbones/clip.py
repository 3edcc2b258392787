"""Image transformers on video: every frame by itself, then the mean over time (CLIP's and a supervised ViT-B/16).

Sources: Dosovitskiy et al., ViT, ICLR 2021; Radford et al., CLIP, ICML 2021. The models are timm's `VisionTransformer`,
parameter by parameter and name by name; ours are the temporal position embedding and the mean. `clip_b` has the
QuickGELU that OpenAI's weights were trained with. No file tells its activation, timm's names do: weights trained with
GELU (LAION's) are refused by name, and timm's own model can be wrapped.

Frames meet nowhere but in the mean. Plugins stand inside frames too, so that on weights without positions in time
(all published ones) the model cannot tell the order of frames; full fine-tuning, which trains the positions, can.
"""

import timm
import torch
from einops import rearrange
from timm.layers import PatchEmbed
from timm.models.vision_transformer import VisionTransformer, global_pool_nlc
from torch import Tensor, nn

from cm3t.backbones.contract import ContractError
from cm3t.backbones.positions import Grid, resample
from cm3t.backbones.stem import TokenStem
from cm3t.backbones.tokens import TokenBackbone, init_small
from cm3t.words import kind_of


class FrameViT(TokenBackbone):
    """A timm `VisionTransformer` frame by frame on the backbone contract, features averaged over time.

    Shapes: video (B, 3, T, H, W) -> features (B, D), or logits where it is given a head.

    temporal_embed (1, T, C) is added to all tokens of a frame. Choice: it starts at 0, so that without training the
    features are the mean of the image model's, and clips of another length get it interpolated. Pooling inside a frame
    is the image model's own (class token, average or attention pooling).

    `temporal=False` leaves the temporal embedding out. The image model is taken apart: its modules become this one's.
    """

    def __init__(self, vit: VisionTransformer, *, name: str, clip: Grid, temporal: bool = True, **contract):
        if type(vit) is not VisionTransformer:
            raise ContractError(f"{name!r} is {kind_of(vit)}, not timm's VisionTransformer itself")
        if not isinstance(vit.patch_embed, PatchEmbed | TokenStem):
            raise ContractError(f"{name!r} has {kind_of(vit.patch_embed)} as `patch_embed`, not timm's")
        if not isinstance(vit.patch_drop, nn.Identity):
            raise ContractError(f"{name!r} drops patches (`patch_drop`): the map would lose its grid; set it to 0")
        side = vit.patch_embed.patch_size
        grid = (1, clip[1] // side[0], clip[2] // side[1])
        if vit.pos_embed is not None:
            grid = (1, *vit.patch_embed.grid_size)
        super().__init__(vit, name=name, clip=clip, patch=(1, *side), grid=grid, span=1, **contract)
        self.temporal_embed = nn.Parameter(torch.zeros(1, clip[0], self.width)) if temporal else None
        self.fc_norm, self.attn_pool = vit.fc_norm, vit.attn_pool
        self.pooling, self.pool_extra = vit.global_pool, vit.pool_include_prefix

    def patches(self, video: Tensor) -> Tensor:
        """Video (B, 3, T, H, W) -> token map (B, T, H', W', C), without positions."""
        x = rearrange(video, "b c t h w -> (b t) c h w")
        if isinstance(self.patch_embed, PatchEmbed):  # its own forward insists on one image size
            x = self.patch_embed.norm(rearrange(self.patch_embed.proj(x), "n c h w -> n h w c"))
        else:
            x = self.patch_embed(x)
        return rearrange(x, "(b t) h w c -> b t h w c", b=len(video))

    def place(self, x: Tensor) -> Tensor:
        """Tokens (B, T, N, C), or the map, plus their positions in time."""
        if self.temporal_embed is None:
            return x
        time = resample(self.temporal_embed, (self.clip[0], 1, 1), (x.shape[1], 1, 1))
        return x + rearrange(time, "b t c -> b t 1 c" if x.ndim == 4 else "b t c -> b t 1 1 c")

    def pool(self, x: Tensor) -> Tensor:
        """The last tokens (B, T, N, C) or map -> features (B, D): frames pooled as the image model does, their mean."""
        frames = self.norm(x.flatten(0, 1).flatten(1, -2))
        if self.attn_pool is not None:
            frames = self.attn_pool(frames if self.pool_extra else frames[:, self.extra :])
        else:
            options = dict(num_prefix_tokens=self.extra, reduce_include_prefix=self.pool_extra)
            frames = global_pool_nlc(frames, pool_type=self.pooling, **options)
        return rearrange(self.fc_norm(frames), "(b t) c -> b t c", b=len(x)).mean(dim=1)


def frame_vit(
    *,
    name: str,
    clip: Grid,
    image_model: str,
    image: dict | None = None,
    stem: bool = False,
    num_classes: int | None = None,
    **contract,
) -> FrameViT:
    """One of the project's frame-wise backbones: timm's `image_model` with the options `image`.

    Video (B, 3, T, H, W) -> features (B, D), or logits (B, num_classes). `stem` (the mini size) puts convolutions in
    the patches' place and scales the weights by their fan-in.
    """
    vit = timm.create_model(image_model, pretrained=False, num_classes=0, img_size=clip[1:], **(image or {}))
    if stem:
        grid = vit.patch_embed.grid_size
        vit.patch_embed = TokenStem(vit.embed_dim, frames=True)
        vit.patch_embed.grid_size = grid
    model = FrameViT(vit, name=name, clip=clip, **contract)
    if num_classes is not None:
        model.head = nn.Linear(model.width, num_classes)
        nn.init.trunc_normal_(model.head.weight, std=0.02)
    if stem:
        nn.init.trunc_normal_(model.cls_token, std=0.02)
        init_small(model)
    return model
