"""The convolutional stems of the mini transformers, in the place of their patch embedding."""

from collections.abc import Sequence

from einops import rearrange
from torch import Tensor, nn


class TokenStem(nn.Module):
    """Strided convolutions with batch norm and ReLU, then a layer norm: pixels to tokens.

    Shapes: with `frames=True` frames (n, 3, H, W) -> (n, H / 16, W / 16, C); else video (B, 3, T, H, W) ->
    (B, T / 2, H / 16, W / 16, C).

    Choice: ours, for the mini sizes alone: a patch of raw pixels does not train from scratch on a small source set.
    Strides 4, 2, 2 in space (and 2, 1, 1 in time), in all those of the full sizes' patches. Its batch norms stay in
    eval mode in every method.
    """

    patch_size = (16, 16)

    def __init__(self, width: int, *, frames: bool, in_channels: int = 3):
        super().__init__()
        self.frames = frames
        widths = [in_channels, width // 3, width * 2 // 3, width]
        kernels, strides = [(3, 5, 5), (1, 3, 3), (1, 3, 3)], [(2, 4, 4), (1, 2, 2), (1, 2, 2)]
        layers = []
        for c_in, c_out, kernel, stride in zip(widths, widths[1:], kernels, strides, strict=False):
            layers += self._layer(c_in, c_out, kernel[frames:], stride[frames:])
        self.layers = nn.Sequential(*layers)
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def _layer(self, c_in: int, c_out: int, kernel: Sequence[int], stride: Sequence[int]) -> list[nn.Module]:
        conv, norm = (nn.Conv2d, nn.BatchNorm2d) if self.frames else (nn.Conv3d, nn.BatchNorm3d)
        return [conv(c_in, c_out, kernel, stride, [k // 2 for k in kernel], bias=False), norm(c_out), nn.ReLU()]

    def forward(self, x: Tensor) -> Tensor:
        """Frames (n, 3, H, W) or video (B, 3, T, H, W) -> tokens, channels last."""
        return self.norm(rearrange(self.layers(x), "n c ... -> n ... c"))
