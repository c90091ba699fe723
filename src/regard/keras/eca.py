"""ECA: one gate per channel, from the averages of neighboring channels."""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops

from ..core.check import odd
from . import parts
from .attention import Attention, Shape, spatial_axes
from .parts import Tensor


def adaptive_kernel(channels: int, gamma: int = 2, offset: int = 1) -> int:
    """Return the paper's kernel size: the odd number nearest to (log2 channels + offset) / gamma.

    Ties are rounded up.
    """
    k = int(abs((math.log2(channels) + offset) / gamma))
    return k if k % 2 else k + 1


@keras.saving.register_keras_serializable("regard")
class ECA(Attention):
    """Scales each channel by a gate computed from the averages of the k channels around it."""

    def __init__(
        self,
        kernel_size: int | None = None,
        *,
        bias: bool = False,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(data_format=data_format, **kwargs)
        odd(kernel_size=1 if kernel_size is None else kernel_size)
        self.kernel_size, self.bias = kernel_size, bias

    def construct(self, shape: Shape) -> None:
        k = adaptive_kernel(shape[-1]) if self.kernel_size is None else self.kernel_size
        self.mix = parts.conv(1, 1, k, dims=1, bias=self.bias, dtype=self.dtype_policy)

    def attention(self, x: Tensor) -> Tensor:
        axes = spatial_axes(x)
        z = self.mix(ops.mean(x, axes)[..., None])  # b c 1: it convolves along the channels
        return ops.reshape(ops.sigmoid(z), (-1, *[1] * len(axes), x.shape[-1]))

    def combine(self, a: Tensor, x: Tensor) -> Tensor:
        return x * a
