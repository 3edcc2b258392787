"""What is frozen: the video transformers, by name. The classes behind the names are imported when one is made."""

import warnings
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from torch import nn

from cm3t.backbones import names
from cm3t.backbones import weights as weights_file
from cm3t.backbones.contract import IMAGENET, Backbone, ContractError, as_clip, check, check_clip
from cm3t.coerce import nearest
from cm3t.words import kind_of

__all__ = ["Backbone", "ContractError", "NAMES", "backbone", "check", "clip_of", "wrap"]

_HALF = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
_CLIP = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_SWIN = dict(make="video_swin:VideoSwin", clip=(32, 224, 224), patch_size=(2, 4, 4), window=(8, 7, 7))
_SWIN_T = _SWIN | dict(embed_dim=96, depths=[2, 2, 6, 2], num_heads=[3, 6, 12, 24])
_SWIN_S = _SWIN | dict(embed_dim=96, depths=[2, 2, 18, 2], num_heads=[3, 6, 12, 24])
_SWIN_B = _SWIN | dict(embed_dim=128, depths=[2, 2, 18, 2], num_heads=[4, 8, 16, 32])
_SSV2 = dict(window=(16, 7, 7), source_classes=174)  # Something-Something v2: windows of twice the length
_VIT = dict(make="clip:frame_vit", clip=(8, 224, 224), prefix_length=16)

# prefix_length: the default l. Choice: 32 on Video Swin's windows of 392 tokens (the gate starts near 32 / 424 = 8 %);
# elsewhere l is chosen for about the same share of the tokens that attend together, except on ViViT-B (3137 of them).
_SPECS = {
    "video_swin_mini": dict(
        make="video_swin:mini",
        clip=(8, 96, 96),
        patch_size=(2, 8, 8),
        window=(4, 3, 3),
        embed_dim=48,
        depths=[2, 4, 2],
        num_heads=[3, 6, 12],
        stochastic_depth_prob=0.05,
        prefix_length=4,
        source_classes=75,
    ),
    "vivit_mini": dict(
        make="vivit:ViViT",
        clip=(8, 96, 96),
        width=144,
        depth=5,
        heads=6,
        stem=True,
        drop_path=0.05,
        prefix_length=12,
        source_classes=75,
    ),
    "clip_mini": dict(
        make="clip:frame_vit",
        clip=(8, 96, 96),
        image_model=names.IMAGE_MODELS["clip_mini"],
        image=dict(embed_dim=144, depth=5, num_heads=6, drop_path_rate=0.05),
        stem=True,
        prefix_length=3,
        source_classes=75,
    ),
    "video_swin_t": _SWIN_T,
    "video_swin_s": _SWIN_S,
    "video_swin_b": _SWIN_B,
    "video_swin_t_ssv2": _SWIN_T | _SSV2,
    "video_swin_s_ssv2": _SWIN_S | _SSV2,
    "video_swin_b_ssv2": _SWIN_B | _SSV2,
    "vivit_b": dict(
        make="vivit:ViViT",
        clip=(32, 224, 224),
        width=768,
        depth=12,
        heads=12,
        prefix_length=32,
        source_classes=400,
        pixels=_HALF,
    ),
    "mtv_b": dict(make="multiview:MTV", clip=(32, 224, 224), prefix_length=32, source_classes=400, pixels=_HALF),
    "clip_b": dict(**_VIT, image_model=names.IMAGE_MODELS["clip_b"], source_classes=512, pixels=_CLIP),
    "vit_b": dict(**_VIT, image_model=names.IMAGE_MODELS["vit_b"], source_classes=1000, pixels=_HALF),
}

NAMES = tuple(_SPECS)


def backbone(
    name: str,
    *,
    num_classes: int | None = None,
    weights: str | Path | None = None,
    clip: Sequence[int] | None = None,
    weights_clip: Sequence[int] | None = None,
) -> nn.Module:
    """The frozen part alone, by name: video (B, 3, T, H, W) -> features (B, D), or logits with `num_classes`.

    `weights` is None (random), "default" (what ships with the package for a mini size, else the first of the published
    ones), the name of published ones (`names.NAMED`) or a file of any known layout; `model.loaded` then tells what was
    mapped, dropped, interpolated (it is None with random ones), and a UserWarning that the file has other attention
    windows.
    `model.pixels` is the normalisation that weights of timm's were trained with; files and other repositories do not
    tell theirs, and are taken to have the backbone's usual one; nor an activation: the report says what was assumed.
    `clip` is (T, H, W) if not the backbone's own: position embeddings are then made for it.
    `weights_clip` is (T, H, W) of the clips that a file of position embeddings was trained on, where it is neither the
    published one's nor the model's, and no config.json of Hugging Face's lies beside it: their number alone does not
    tell it.
    Raises ValueError for an unknown name, listing the known ones, and for a clip or a number of classes that cannot be;
    WeightsError for weights that do not fit, before any download where timm's name says that they are of another
    network.
    """
    _check_name(name)
    told = None if weights_clip is None else as_clip(weights_clip, "weights_clip")
    if told and weights is None:
        raise ValueError(f"weights_clip={told}: no weights are loaded; leave it out")
    path = weights_file.resolve(name, weights) if weights is not None else None
    spec = _SPECS[name] | ({} if clip is None else {"clip": as_clip(clip)})
    if num_classes is not None and (
        not isinstance(num_classes, int) or isinstance(num_classes, bool) or num_classes < 1
    ):
        raise ValueError(f"num_classes={num_classes!r}: at least 1 class is needed, or None for features")
    module, _, maker = spec.pop("make").partition(":")
    pixels = spec.pop("pixels", IMAGENET)
    model = getattr(import_module(f"{__name__}.{module}"), maker)(name=name, num_classes=num_classes, **spec)
    model.pixels = names.pixels_trained_on(name, weights) or pixels
    if told and getattr(model, "pos_embed", None) is None:
        raise ValueError(f"weights_clip={told}: {name} has no position embeddings; leave it out")
    if told:
        check_clip(told, name, model.patch)
    if path is not None:
        model.loaded = weights_file.load(model, path, native=_SPECS[name]["clip"], told=told)
        if not model.loaded.protocol and not names.is_told(name, weights):
            model.loaded.assumed = names.assumed(name, model.pixels)
        if model.loaded.window:
            _warn_of_windows(name, path, model.loaded.window)
    return model


def _warn_of_windows(name: str, path: Path, window: tuple[int, int, int]) -> None:
    """UserWarning that a file has other attention windows than the backbone, with the backbone that has them."""
    own = _SPECS[name]
    size = {key: own.get(key) for key in ("make", "embed_dim", "depths")}
    twins = (k for k, spec in _SPECS.items() if spec.get("window") == window and size.items() <= spec.items())
    twin = next(twins, None)
    better = f": {twin} has the file's" if twin else ""
    warnings.warn(
        f"{path} has attention windows of {window}, {name} of {own['window']}{better}. The tables of relative "
        "positions were interpolated, and the features are not those that were published",
        stacklevel=3,
    )


def clip_of(name: str) -> tuple[int, int, int]:
    """(T, H, W) of the clips that the backbone `name` was made for, without making it."""
    _check_name(name)
    return _SPECS[name]["clip"]


def _check_name(name: str) -> None:
    """ValueError for the name of no backbone, TypeError for what is no name; both say how others are used."""
    other = "a timm model goes through cm3t.backbones.wrap, your own through cm3t.CM3T (backbones/contract.py)"
    if not isinstance(name, str):
        raise TypeError(f"a backbone is given by name here, not as {kind_of(name)}; {other}")
    if name not in _SPECS:
        raise ValueError(f"unknown backbone {name!r}; {nearest(name, NAMES)}; {other}")


def wrap(model: nn.Module, *, frames: int, **options) -> nn.Module:
    """Any timm ViT or Swin as a frame-wise backbone, video (B, 3, T, H, W) -> (B, D), in one call: `wrapped.wrap`."""
    return import_module(f"{__name__}.wrapped").wrap(model, frames=frames, **options)
