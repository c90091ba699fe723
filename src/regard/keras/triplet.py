"""Triplet attention: a gate for each pair of the axes channel, height and width."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops

from ..core.check import odd
from . import parts
from .attention import Attention, Shape
from .parts import Tensor


def _max_and_mean(x: Tensor, axis: int) -> Tensor:
    """Return the maximum and the mean over an axis, as two channels."""
    return ops.stack([ops.max(x, axis), ops.mean(x, axis)], -1)


@keras.saving.register_keras_serializable("regard")
class Triplet(Attention):
    """Scales each entry by the mean of three gates, each pooled over one of the three axes."""

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
        factory = {"dtype": self.dtype_policy}

        def gate() -> list[Any]:
            return [
                parts.conv(2, 1, self.kernel_size, bias=False, **factory),
                parts.batch_norm(1, momentum=0.01, **factory),
                layers.Activation("sigmoid", **factory),
            ]

        self.cw, self.hc = gate(), gate()
        if self.spatial:
            self.hw = gate()

    def attention(self, x: Tensor) -> tuple[Tensor, ...]:
        z = ops.swapaxes(_max_and_mean(x, 1), 1, 2)  # b c w 2: the kernel's first axis is c
        a_cw = ops.swapaxes(parts.apply_layers(self.cw, z), 1, 3)  # b 1 w c
        a_hc = ops.swapaxes(parts.apply_layers(self.hc, _max_and_mean(x, 2)), 2, 3)  # b h 1 c
        if not self.spatial:
            return a_cw, a_hc
        return a_cw, a_hc, parts.apply_layers(self.hw, _max_and_mean(x, 3))  # b h w 1

    def combine(self, a: tuple[Tensor, ...], x: Tensor) -> Tensor:
        k = len(a)  # the small gates are divided, not their sum, which has the size of x
        s = a[0] / k + a[1] / k
        return x * (s + a[2] / k if self.spatial else s)
