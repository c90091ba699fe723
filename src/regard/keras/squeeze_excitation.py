"""Squeeze-and-Excitation: one gate per channel, from the global average."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from ..core.check import reduced
from . import parts
from .attention import Attention, Shape, spatial_axes
from .parts import Tensor


@keras.saving.register_keras_serializable("regard")
class SqueezeExcitation(Attention):
    """Scales each channel by a gate computed from the averages of all channels."""

    def __init__(
        self,
        reduction: int = 16,
        *,
        hidden_dim: int | None = None,
        bias: bool = False,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(data_format=data_format, **kwargs)
        self.reduction, self.hidden_dim, self.bias = reduction, hidden_dim, bias

    def construct(self, shape: Shape) -> None:
        channels, options = shape[-1], {"bias": self.bias, "dtype": self.dtype_policy}
        hidden_dim = reduced(channels, self.reduction, self.hidden_dim)
        self.squeeze = parts.dense(channels, hidden_dim, **options)
        self.excite = parts.dense(hidden_dim, channels, **options)

    def attention(self, x: Tensor) -> Tensor:
        z = ops.mean(x, spatial_axes(x), keepdims=True)  # b 1* c
        return ops.sigmoid(self.excite(ops.relu(self.squeeze(z))))

    def combine(self, a: Tensor, x: Tensor) -> Tensor:
        return x * a
