"""SimAM: every neuron weighed by how far it stands out, without a parameter."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from ..core.check import above_zero
from . import parts
from .attention import Attention, space


@keras.saving.register_keras_serializable("regard")
class SimAM(Attention):
    """Weighs each neuron by how far it stands out from its channel."""

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

    def attention(self, x: Any) -> Any:
        z = parts.wide(x)  # a sum over all positions may leave the range of half precision
        d = ops.square(z - ops.mean(z, space(z), keepdims=True))
        n = parts.count(z, space(z))
        n = ops.maximum(n - 1, 1) if self.unbiased else n
        v = ops.sum(d, space(z), keepdims=True) / n
        return ops.cast(ops.sigmoid(0.25 * d / (v + self.eps) + 0.5), x.dtype)

    def combine(self, a: Any, x: Any) -> Any:
        return x * a
