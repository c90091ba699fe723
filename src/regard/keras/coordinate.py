"""Coordinate attention: a gate per row times a gate per column."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from ..core.check import positive
from . import parts
from .attention import Attention, Shape
from .parts import Tensor


@keras.saving.register_keras_serializable("regard")
class Coordinate(Attention):
    """Scales each position of each channel by a gate for its row and a gate for its column."""

    def __init__(
        self,
        reduction: int = 32,
        *,
        min_hidden_dim: int = 8,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(data_format=data_format, **kwargs)
        positive(reduction=reduction, min_hidden_dim=min_hidden_dim)
        self.reduction, self.min_hidden_dim = reduction, min_hidden_dim

    def construct(self, shape: Shape) -> None:
        channels, factory = shape[-1], {"dtype": self.dtype_policy}
        hidden_dim = max(self.min_hidden_dim, channels // self.reduction)
        self.shared = parts.dense(channels, hidden_dim, **factory)
        self.norm = parts.batch_norm(hidden_dim, **factory)
        self.height = parts.dense(hidden_dim, channels, **factory)
        self.width = parts.dense(hidden_dim, channels, **factory)

    def attention(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = ops.shape(x)[1]
        # Rows and columns share the norm.
        z = ops.concatenate([ops.mean(x, 2), ops.mean(x, 1)], 1)  # b h+w c
        f = ops.hard_silu(self.norm(self.shared(z)))
        a_h, a_w = ops.sigmoid(self.height(f[:, :h])), ops.sigmoid(self.width(f[:, h:]))
        return a_h[:, :, None], a_w[:, None]  # b h 1 c, b 1 w c

    def combine(self, a: tuple[Tensor, Tensor], x: Tensor) -> Tensor:
        a_h, a_w = a
        return x * a_w * a_h
