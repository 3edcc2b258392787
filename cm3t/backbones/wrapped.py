"""Any timm ViT or Swin as a frame-wise video backbone, in one call; or a precise reason why not."""

import timm
from einops import rearrange
from timm.layers import PatchEmbed
from timm.models.swin_transformer import SwinTransformer, SwinTransformerBlock
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from cm3t.backbones.clip import FrameViT
from cm3t.backbones.contract import Backbone, ContractError, FixedSizeError, check_video
from cm3t.words import kind_of


def wrap(model: nn.Module, *, frames: int, name: str | None = None, prefix_length: int | None = None) -> nn.Module:
    """A timm ViT or Swin frame by frame on the backbone contract: video (B, 3, T, H, W) -> features (B, D).

        vit = timm.create_model("vit_small_patch14_reg4_dinov2", pretrained=True, img_size=224)
        backbone = cm3t.backbones.wrap(vit, frames=8)
        model = cm3t.CM3T(backbone, "mhva+pt", {"verb": 97})

    Features are the image model's before its classifier, averaged over time: the order of frames is lost. Class token,
    registers, layer scale, qk-norm and every pooling of timm's ViT are kept as they are. MHVA's 2 x 2 cells need maps
    of even sides: give `img_size` where the model's own has none (DINOv2's 518 makes 37 x 37). A Swin takes all plugins
    but prefix tuning: its windows cannot be opened here. The classifier is left out, and counts in what trainable
    shares are shares of. The wrapper takes the model over: use it through the wrapper from then on. A compiled model is
    taken uncompiled: compile what comes of it.

    prefix_length  l of prefix tuning; default a twelfth of a frame's tokens, the share that 32 has on Video Swin

    Raises ContractError naming the attribute and the block that plugins have no place in, TypeError for what is no
    model, such as a name, ValueError for a number of frames or a prefix length that cannot be.
    """
    if not isinstance(model, nn.Module):
        made = f"timm.create_model({model!r}, pretrained=True)" if isinstance(model, str) else "timm.create_model(...)"
        raise TypeError(f"wrap takes a model, not {kind_of(model)}: wrap({made}, frames={frames!r})")
    model = getattr(model, "_orig_mod", model)  # of torch.compile
    if not isinstance(frames, int) or isinstance(frames, bool) or frames < 1:
        raise ValueError(f"frames={frames!r}: a clip has at least one frame, such as frames=8")
    length = prefix_length
    if length is not None and (not isinstance(length, int) or isinstance(length, bool) or length < 1):
        raise ValueError(
            f"prefix_length={length!r}: a prefix has at least one token, such as prefix_length=16, or None"
        )
    about = getattr(model, "pretrained_cfg", None) or {}
    name = name or about.get("architecture") or type(model).__name__.lower()
    wrapped = _wrap(model, name, frames, prefix_length)
    if "mean" in about and "std" in about:
        wrapped.pixels = tuple(about["mean"]), tuple(about["std"])
    return wrapped


def _wrap(model: nn.Module, name: str, frames: int, prefix_length: int | None) -> nn.Module:
    if type(model) in (SwinTransformer, VisionTransformer):
        _check_ends(model, name)
    if type(model) is SwinTransformer:
        return FrameSwin(model, name=name, frames=frames)
    if type(model) is not VisionTransformer:
        raise ContractError(
            f"cannot wrap {name!r}: it is a {_path(model)}; only {_path(VisionTransformer)} and "
            f"{_path(SwinTransformer)} (timm {timm.__version__}) are known to have two open branches a block"
            f"{_reason(model)}"
        )
    grid = model.patch_embed.grid_size
    return FrameViT(
        model,
        name=name,
        clip=(frames, *model.patch_embed.img_size),
        temporal=False,
        prefix_length=prefix_length or max(1, round(grid[0] * grid[1] / 12)),
        source_classes=_classes(model.head),
    )


def _classes(head: nn.Module) -> int:
    """Classes of a classifier, 0 where there is none."""
    return head.out_features if isinstance(head, nn.Linear) else 0


def _check_ends(model: nn.Module, name: str) -> None:
    """ContractError where a timm model takes other than colour images, or hands on more than features."""
    if not isinstance(model.patch_embed, PatchEmbed):
        kind = kind_of(model.patch_embed)
        raise ContractError(
            f"cannot wrap {name!r}: its `patch_embed` is {kind}, a network of its own before the blocks, not timm's "
            "PatchEmbed; only plain patches are known to give every token its place"
        )
    if (channels := model.patch_embed.proj.in_channels) != 3:
        raise ContractError(
            f"cannot wrap {name!r}: it takes images of {channels} channels, a video has 3; make it with in_chans=3"
        )
    if not model.global_pool:
        raise ContractError(
            f"cannot wrap {name!r}: with global_pool='' it hands on tokens, not features; make it with 'avg' or another"
        )


_ROTARY = "rotary positions have to be handed to every attention"
_SHARED = "relative positions, shared by the blocks, have to be handed to every attention"
_OBSTACLES = {  # attribute of the model -> why it is in the way
    "rope": _ROTARY,
    "dist_token": "a distillation token, which has a classifier of its own: plain DeiT models have none",
    "rel_pos_bias": _SHARED,
    "shared_rel_pos": _SHARED,
}
_RELATIVE = ("relative_position_bias_table", "rel_pos", "rel_pos_h")  # attributes of a block's attention
_POST_NORM = (
    "its blocks are post-norm: they norm what a branch gives, so that there is no normed input of the MLP for an "
    "adapter to read"
)
_KINDS = {  # class -> why
    "SwinTransformerV2": _POST_NORM,
    "SwinTransformerV2Cr": _POST_NORM,
    "NaFlexVit": "it packs patches of frames of any size: `embeds` and masks are in the place of one grid of tokens",
}


def _path(kind: object) -> str:
    """Module and name of a class, or of an object's."""
    kind = kind if isinstance(kind, type) else type(kind)
    return f"{kind.__module__}.{kind.__qualname__}"


def _reason(model: nn.Module) -> str:
    """What in the model stands against it, where that is known."""
    for attribute, reason in _OBSTACLES.items():
        if getattr(model, attribute, None) is not None:
            return f"; in the way is its attribute `{attribute}`: {reason}"
    if reason := _KINDS.get(type(model).__name__):
        return f"; {reason}"
    if type(model).__module__.startswith("torchvision."):
        like = "swin_tiny_patch4_window7_224" if "Swin" in type(model).__name__ else "vit_base_patch16_224"
        return f"; take timm's network of the kind: timm.create_model({like!r}, pretrained=True)"
    if isinstance(model, VisionTransformer | SwinTransformer):
        return "; it is a subclass, and what its own code does would be lost"
    for block in getattr(model, "blocks", ()):
        for attribute in _RELATIVE:
            if getattr(getattr(block, "attn", None), attribute, None) is not None:
                return (
                    f"; in the way is `attn.{attribute}` of its blocks: relative positions, made for one grid of tokens"
                )
        return f"; block 0 is a {_path(block)}"
    return "; it has no `blocks`"


class SwinFrameBlock(nn.Module):
    """A timm Swin block over the same parameters, its branches open; windows lie in frames. Maps (B, T, H, W, C).

    There is no `attn.project_prefix`: prefix tuning is refused by name.
    """

    def __init__(self, block: SwinTransformerBlock):
        super().__init__()
        self.block = block

    def attention(self, x: Tensor, prefix: None = None) -> Tensor:
        """The attention branch (B, T, H, W, C) of x, frame by frame."""
        if prefix is not None:
            raise ContractError("timm's window attention takes no prefix; use a method without `pt`")
        frames = rearrange(self.block.norm1(x), "b t h w c -> (b t) h w c")
        out = self.block.drop_path1(self.block._attn(frames))
        return rearrange(out, "(b t) h w c -> b t h w c", b=len(x))

    def feedforward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(norm2(x), branch), both (B, T, H, W, C): the normed input, and the MLP branch to be added to x."""
        normed = self.block.norm2(x)
        return normed, self.block.drop_path2(self.block.mlp(normed))


class FrameSwin(nn.Module, Backbone):
    """A timm `SwinTransformer` frame by frame on the backbone contract, features averaged over time.

    Shapes: video (B, 3, T, H, W) -> features (B, D).

    Choice: images have the model's own size; timm's window masks are made for it.
    """

    def __init__(self, swin: SwinTransformer, *, name: str, frames: int):
        super().__init__()
        self.name, self.clip, self.prefix_length = name, (frames, *swin.patch_embed.img_size), 1
        self.patch_embed, self.norm, self.width = swin.patch_embed, swin.norm, swin.head.num_features
        self.global_pool = swin.head.global_pool
        self.source_classes = _classes(swin.get_classifier())
        self.merges, self.blocks = nn.ModuleDict(), nn.ModuleList()
        for stage in swin.layers:
            self.merges[str(len(self.blocks))] = stage.downsample
            for block in stage.blocks:
                if type(block) is not SwinTransformerBlock:
                    raise ContractError(f"block {len(self.blocks)} of {name!r} is {kind_of(block)}, not timm's")
                self.blocks.append(SwinFrameBlock(block))

    @property
    def widths(self) -> list[int]:
        """Width C of each block's map."""
        return [block.block.dim for block in self.blocks]

    def embed(self, video: Tensor) -> Tensor:
        """Video (B, 3, T, H, W) -> the first token map (B, T, H', W', C)."""
        check_video(video, self.name, (1, *self.patch_embed.patch_size), weights=next(self.parameters()))
        if tuple(video.shape[3:]) != tuple(self.clip[1:]):
            size, (h, w) = " x ".join(map(str, self.clip[1:])), video.shape[3:]
            raise FixedSizeError(
                f"{self.name}: frames are {h} x {w}, the model's are {size}, and its windows are made for "
                f"those: resize the frames, or wrap timm.create_model(..., img_size={h if h == w else (h, w)})"
            )
        x = self.patch_embed(rearrange(video, "b c t h w -> (b t) c h w"))
        return rearrange(x, "(b t) h w c -> b t h w c", b=len(video))

    def advance(self, i: int, x: Tensor) -> Tensor:
        """The map (B, T, H, W, C) that block i reads: patch merging where a stage begins."""
        if str(i) not in self.merges:
            return x
        return rearrange(
            self.merges[str(i)](rearrange(x, "b t h w c -> (b t) h w c")), "(b t) ... -> b t ...", b=len(x)
        )

    def pool(self, x: Tensor) -> Tensor:
        """The last map (B, T, H, W, C) -> features (B, D): norm, frames pooled as the image model does, mean."""
        frames = self.global_pool(rearrange(self.norm(x), "b t h w c -> (b t) h w c"))
        return rearrange(frames, "(b t) c -> b t c", b=len(x)).mean(dim=1)

    def forward(self, video: Tensor) -> Tensor:
        """Video (B, 3, T, H, W) -> features (B, D)."""
        return self.features_of(video)
