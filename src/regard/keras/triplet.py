"""Triplet attention: a gate for each pair of the axes of channels, rows and columns."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops

from ..core.check import odd
from . import parts
from .attention import Attention, Shape


def planes(x: Any, axis: int) -> Any:
    """The maximum and the mean along an axis, as two channels."""
    return ops.stack([ops.max(x, axis), ops.mean(x, axis)], -1)


@keras.saving.register_keras_serializable("regard")
class Triplet(Attention):
    """Weighs each entry by the mean of three gates, each blind to one of its three axes."""

    def __init__(
        self,
        *,
        kernel_size: int = 7,
        spatial: bool = True,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(data_format=data_format, **kwargs)
        odd(kernel_size=kernel_size)
        self.kernel_size, self.spatial = kernel_size, spatial

    def construct(self, shape: Shape) -> None:
        made = {"dtype": self.dtype_policy}

        def gate() -> list[Any]:
            return [
                parts.conv(2, 1, self.kernel_size, bias=False, **made),
                parts.batch_norm(1, momentum=0.01, **made),
                layers.Activation("sigmoid", **made),
            ]

        self.cw, self.hc = gate(), gate()
        if self.spatial:
            self.hw = gate()

    def attention(self, x: Any) -> tuple[Any, ...]:
        z = ops.swapaxes(planes(x, 1), 1, 2)  # b c w 2: the kernel has rows of channels
        a_cw = ops.swapaxes(parts.through(self.cw, z), 1, 3)  # b 1 w c
        a_hc = ops.swapaxes(parts.through(self.hc, planes(x, 2)), 2, 3)  # b h 1 c
        if not self.spatial:
            return a_cw, a_hc
        return a_cw, a_hc, parts.through(self.hw, planes(x, 3))  # b h w 1

    def combine(self, a: tuple[Any, ...], x: Any) -> Any:
        k = len(a)  # the small maps are divided, not their sum, which has the size of x
        s = a[0] / k + a[1] / k
        return x * (s + a[2] / k if self.spatial else s)
