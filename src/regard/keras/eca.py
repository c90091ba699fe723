"""ECA: each channel's gate sees the averages of its neighbors only."""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops

from ..core.check import odd
from . import parts
from .attention import Attention, Shape, space


def adaptive_kernel(channels: int, gamma: int = 2, offset: int = 1) -> int:
    """The paper's kernel size, for so many channels: odd, larger by one in a tie."""
    k = int(abs((math.log2(channels) + offset) / gamma))
    return k if k % 2 else k + 1


@keras.saving.register_keras_serializable("regard")
class ECA(Attention):
    """Weighs each channel by a gate that sees the averages of the k channels around it."""

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

    def attention(self, x: Any) -> Any:
        z = self.mix(ops.mean(x, space(x))[..., None])  # b c 1: the channels are its positions
        return ops.reshape(ops.sigmoid(z), (-1, *[1] * len(space(x)), x.shape[-1]))

    def combine(self, a: Any, x: Any) -> Any:
        return x * a
