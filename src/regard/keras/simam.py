"""SimAM: a parameter-free gate per entry, from its squared distance to the channel mean."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from ..core.check import above_zero
from . import parts
from .attention import Attention, spatial_axes
from .parts import Tensor


@keras.saving.register_keras_serializable("regard")
class SimAM(Attention):
    """Scales each entry by a gate that grows with its squared distance to the channel mean."""

    def __init__(
        self,
        *,
        eps: float = 1e-4,
        unbiased: bool = True,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(data_format=data_format, **kwargs)
        above_zero(eps=eps)
        self.eps, self.unbiased = eps, unbiased

    def attention(self, x: Tensor) -> Tensor:
        z, axes = parts.at_least_float32(x), spatial_axes(x)  # the sum can exceed half precision
        d = ops.square(z - ops.mean(z, axes, keepdims=True))
        n = parts.num_entries(z, axes)
        n = ops.maximum(n - 1, 1) if self.unbiased else n
        v = ops.sum(d, axes, keepdims=True) / n
        return ops.cast(ops.sigmoid(0.25 * d / (v + self.eps) + 0.5), x.dtype)

    def combine(self, a: Tensor, x: Tensor) -> Tensor:
        return x * a
