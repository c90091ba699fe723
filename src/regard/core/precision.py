"""Operations that must not run in half precision.

What is already in single or double precision is not converted: its results do not change.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from .tracing import leaf


@leaf
def widen(x: Tensor) -> Tensor:
    """Return a tensor in single precision at least, for sums of squares and the like.

    In float16 the square of 256 is infinite; in bfloat16 a sum stops growing after 256 ones.
    """
    return x.to(torch.promote_types(x.dtype, torch.float32))


@leaf
def matmul(a: Tensor, b: Tensor) -> Tensor:
    """Multiply matrices in single precision at least, under autocast too, and return it so.

    For products over all positions, and for scores: either can exceed the range of float16, and
    what is subtracted from them, or their exponential, needs more than its three digits.
    """
    device = a.device.type
    if device != "meta" and torch.is_autocast_enabled(device):
        with torch.autocast(device, enabled=False):
            return widen(a) @ widen(b)
    return widen(a) @ widen(b)


def conv2d(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """Convolve in single precision at least, under autocast too, and return it so.

    For places in an image: in bfloat16, one at row 100 is off by a quarter of a pixel.
    """
    geometry = layer.stride, layer.padding, layer.dilation, layer.groups
    return _conv2d(x, layer.weight, layer.bias, *geometry)


@leaf
def _conv2d(x: Tensor, weight: Tensor, bias: Tensor | None, *geometry: Any) -> Tensor:
    x, weight, bias = widen(x), widen(weight), None if bias is None else widen(bias)
    device = x.device.type
    if device != "meta" and torch.is_autocast_enabled(device):
        with torch.autocast(device, enabled=False):
            return functional.conv2d(x, weight, bias, *geometry)
    return functional.conv2d(x, weight, bias, *geometry)


@leaf
def softmax(scores: Tensor, axis: int, dtype: torch.dtype | None = None) -> Tensor:
    """Compute softmax in single precision at least; return it in the scores' dtype, or another."""
    wide = torch.promote_types(scores.dtype, torch.float32)
    return scores.softmax(axis, dtype=wide).to(scores.dtype if dtype is None else dtype)
