"""Convolution, batch norm and activation, the building block of most networks."""

from __future__ import annotations

import torch
from torch import nn

# The layers for as many axes of space and time.
CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
NORM = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


def conv_norm(
    in_channels: int,
    out_channels: int,
    kernel_size: int = 1,
    *,
    dims: int = 2,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
    bias: bool = False,
    norm: bool = True,
    activation: nn.Module | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> nn.Sequential:
    """Return a convolution, padded to keep the size at stride 1, with batch norm and activation.

    Without norm there is an identity instead, so that the names in the state dict do not change:
    0 is the convolution, 1 the norm, 2 the activation.

    >>> conv_norm(8, 16, 3, activation=nn.ReLU())(torch.zeros(1, 8, 5, 5)).shape
    torch.Size([1, 16, 5, 5])
    """
    padding = dilation * (kernel_size // 2)
    layers: list[nn.Module] = [
        CONV[dims](
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            groups,
            bias,
            device=device,
            dtype=dtype,
        ),
        NORM[dims](out_channels, device=device, dtype=dtype) if norm else nn.Identity(),
    ]
    return nn.Sequential(*layers, *([activation] if activation is not None else []))
