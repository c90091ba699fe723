"""Spatial group-wise enhance: each group of channels marks the positions that resemble its mean."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from ..core.check import above_zero, divides, positive
from . import parts
from .attention import Attention, Shape, space


@keras.saving.register_keras_serializable("regard")
class SpatialGroupEnhance(Attention):
    """Weighs each position of a group of channels by how much it resembles the group's mean."""

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
        # The same gate everywhere, to start with.
        size = (self.groups, 1)
        self.weight = self.add_weight(shape=size, initializer="zeros", name="weight")
        self.bias = self.add_weight(shape=size, initializer="ones", name="bias")

    def _split(self, x: Any) -> Any:
        """The channels of each group: ``b * g d``."""
        sizes = (*ops.shape(x)[1:-1], self.groups, x.shape[-1] // self.groups)
        return ops.reshape(x, (-1, *sizes))

    def attention(self, x: Any) -> Any:
        axes = space(x)
        z = parts.wide(self._split(x))  # sums of products may leave the range of half precision
        c = ops.sum(ops.mean(z, axes, keepdims=True) * z, -1)  # b * g
        c = c - ops.mean(c, axes, keepdims=True)
        n = parts.count(c, axes)
        root = ops.sqrt(ops.maximum(n - 1, 1) if self.unbiased else n)
        s = parts.length(c, axes, keepdims=True) / root
        c = ops.cast(c / (s + self.eps), x.dtype)
        return ops.sigmoid(self.weight[:, 0] * c + self.bias[:, 0])

    def combine(self, a: Any, x: Any) -> Any:
        y = self._split(x) * a[..., None]
        return ops.reshape(y, (-1, *ops.shape(x)[1:]))
