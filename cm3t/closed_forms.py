"""Sizes of the published methods that plugins are compared with, by formula: of those whose code is not run here.

All on ViT-B/16 at 224 pixels, with the widths of the released code. A MAC is one multiply-accumulate, counted as
`cm3t.cost` counts: products, convolutions and attention. No tensors here.

Sources: Pan et al., ST-Adapter, NeurIPS 2022; Yang et al., AIM, ICLR 2023; Park et al., Dual-path adaptation, CVPR
2023; Chen et al., AdaptFormer, NeurIPS 2022; each with its released code.
"""

WIDTH, BLOCKS, PATCHES, PIXELS = 768, 12, 14 * 14, 3 * 16 * 16
TOKENS = PATCHES + 1  # of a frame, with the class token
KINETICS, CIFAR, SOMETHING = 400, 100, 174  # classes


def linear(inputs: int, outputs: int) -> int:
    """Parameters of a linear layer with bias."""
    return inputs * outputs + outputs


def bottleneck(width: int) -> int:
    """Parameters of a down- and an up-projection between `WIDTH` and `width` channels."""
    return linear(WIDTH, width) + linear(width, WIDTH)


def attention(queries: int, keys: int) -> int:
    """MACs of one attention between tokens that are projected: queries N, keys M; the projections of N in it."""
    return queries * 4 * WIDTH**2 + 2 * queries * keys * WIDTH


def frame_macs() -> int:
    """MACs of the image network on one frame: patches, then attention and an MLP of four times the width a block."""
    return PATCHES * PIXELS * WIDTH + BLOCKS * (attention(TOKENS, TOKENS) + TOKENS * 8 * WIDTH**2)


def adaptformer(width: int = 64, classes: int = 0) -> int:
    """Parameters of AdaptFormer, and of its linear classifier where the publication counts it."""
    return BLOCKS * bottleneck(width) + (linear(WIDTH, classes) if classes else 0)


def st_adapter(places: int = 12, width: int = 384, classes: int = 0) -> int:
    """Parameters of ST-Adapter: `places` bottlenecks, each around a depth-wise convolution over three frames."""
    one = bottleneck(width) + 3 * width + width
    return places * one + (linear(WIDTH, classes) if classes else 0)


def st_adapter_macs(frames: int, places: int = 12, width: int = 384) -> int:
    """MACs of one view with ST-Adapters, that see patches and not the class token."""
    one = PATCHES * (2 * WIDTH * width + 3 * width)
    return frames * (frame_macs() + places * one)


def aim(width: int = 192) -> int:
    """Parameters of AIM's adapters, three a block: in time, in space, beside the MLP."""
    return 3 * BLOCKS * bottleneck(width)


def aim_trained(frames: int, classes: int) -> int:
    """All that AIM trains: adapters, positions in time, the last norm, a classifier."""
    return aim() + frames * WIDTH + 2 * WIDTH + linear(WIDTH, classes)


def aim_macs(frames: int, width: int = 192) -> int:
    """MACs of one view with AIM: every block attends once more, over time, with the same frozen weights."""
    in_time = TOKENS * attention(frames, frames)
    adapters = 3 * frames * TOKENS * 2 * WIDTH * width
    return frames * frame_macs() + BLOCKS * (in_time + adapters)


def dual_path(adapters: int = 4, width: int = 128) -> int:
    """Parameters of DualPath's adapters, so many a block; as released they are five of 192."""
    return BLOCKS * adapters * bottleneck(width)


def rows() -> dict[tuple[str, str], dict]:
    """Rows as the cost records have them, {(method, setting): {trainable, macs}}, where each is known."""
    trained = {
        ("AdaptFormer-64", "CIFAR-100 head"): adaptformer(classes=CIFAR),
        ("AdaptFormer-64", "SSv2 head"): adaptformer(classes=SOMETHING),
        ("ST-Adapter", "12 x 384"): st_adapter(),
        ("ST-Adapter", "12 x 384, K400 head"): st_adapter(classes=KINETICS),
        ("ST-Adapter", "24 x 384"): st_adapter(24),
        ("AIM", "adapters"): aim(),
        ("AIM", "all, K400"): aim_trained(8, KINETICS),
        ("DualPath", "4 x 128"): dual_path(),
        ("DualPath", "5 x 192"): dual_path(5, 192),
    }
    macs = {("ST-Adapter", f"{t} frames"): st_adapter_macs(t) for t in (8, 16, 32)}
    macs |= {("AIM", f"{t} frames"): aim_macs(t) for t in (8, 16, 32)}
    return {key: {"trainable": n} for key, n in trained.items()} | {key: {"macs": n} for key, n in macs.items()}
