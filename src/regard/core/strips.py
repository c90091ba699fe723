"""Depthwise convolutions that are one pixel wide, one for each axis of an image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from .conv_norm import CONV


def strips(
    channels: int,
    kernel_size: int | Sequence[int],
    *,
    dims: int = 2,
    dilation: int = 1,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> nn.Sequential:
    """Return a depthwise convolution along each axis, the last axis first, that keeps the size.

    Args:
        channels: Channels of input and output.
        kernel_size: Length of each kernel, odd, or one length for each axis, first to last.
        dims: Axes of space and time: 1, 2 or 3.
        dilation: Dilation along each axis.
        device: Where to put the parameters.
        dtype: Their type.

    >>> [layer.kernel_size for layer in strips(8, 7)]
    [(1, 7), (7, 1)]
    """
    lengths = [kernel_size] * dims if isinstance(kernel_size, int) else list(kernel_size)
    layers = []
    for axis, length in reversed([*enumerate(lengths)]):
        kernel = [length if i == axis else 1 for i in range(dims)]
        padding = [dilation * (k // 2) for k in kernel]
        options = {"padding": padding, "dilation": dilation, "groups": channels}
        layers.append(CONV[dims](channels, channels, kernel, **options, device=device, dtype=dtype))
    return nn.Sequential(*layers)
