"""Spatial group-wise enhance: a gate per position and group of channels, from their similarity."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from ..core.check import above_zero, divides, positive
from . import parts
from .attention import Attention, Shape, spatial_axes
from .parts import Tensor


@keras.saving.register_keras_serializable("regard")
class SpatialGroupEnhance(Attention):
    """Scales each position of a group of channels by its similarity to the group's mean vector."""

    def __init__(
        self,
        groups: int = 64,
        *,
        eps: float = 1e-5,
        unbiased: bool = True,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(data_format=data_format, **kwargs)
        positive(groups=groups)
        above_zero(eps=eps)
        self.groups, self.eps, self.unbiased = groups, eps, unbiased

    def construct(self, shape: Shape) -> None:
        divides(channels=shape[-1], groups=self.groups)
        size = (self.groups, 1)  # all gates start equal
        self.weight = self.add_weight(shape=size, initializer="zeros", name="weight")
        self.bias = self.add_weight(shape=size, initializer="ones", name="bias")

    def _split_groups(self, x: Tensor) -> Tensor:
        """Split the channels into groups: ``b * c`` to ``b * g d``."""
        sizes = (*ops.shape(x)[1:-1], self.groups, x.shape[-1] // self.groups)
        return ops.reshape(x, (-1, *sizes))

    def attention(self, x: Tensor) -> Tensor:
        axes = spatial_axes(x)
        # Sums of products can exceed the range of half precision.
        z = parts.at_least_float32(self._split_groups(x))
        c = ops.sum(ops.mean(z, axes, keepdims=True) * z, -1)  # b * g
        c = c - ops.mean(c, axes, keepdims=True)
        n = parts.num_entries(c, axes)
        divisor = ops.sqrt(ops.maximum(n - 1, 1) if self.unbiased else n)
        s = parts.l2_norm(c, axes, keepdims=True) / divisor
        c = ops.cast(c / (s + self.eps), x.dtype)
        return ops.sigmoid(self.weight[:, 0] * c + self.bias[:, 0])

    def combine(self, a: Tensor, x: Tensor) -> Tensor:
        y = self._split_groups(x) * a[..., None]
        return ops.reshape(y, (-1, *ops.shape(x)[1:]))
