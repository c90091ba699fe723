"""Global context: one weighted average over all positions, added to each of them."""

from __future__ import annotations

from typing import Any, Literal

import keras
from keras import layers, ops

from ..core.check import above_zero, one_of, reduced
from . import parts
from .attention import Attention, Shape, space


@keras.saving.register_keras_serializable("regard")
class GlobalContext(Attention):
    """Adds to every position the same context: an average in which positions weigh unequally."""

    def __init__(
        self,
        reduction: int = 16,
        *,
        hidden_dim: int | None = None,
        pooling: Literal["attention", "mean"] = "attention",
        fusion: Literal["add", "mul", "both"] = "add",
        eps: float = 1e-5,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(data_format=data_format, **kwargs)
        one_of(("attention", "mean"), pooling=pooling)
        one_of(("add", "mul", "both"), fusion=fusion)
        above_zero(eps=eps)
        self.reduction, self.hidden_dim, self.pooling = reduction, hidden_dim, pooling
        self.fusion, self.eps = fusion, eps

    def construct(self, shape: Shape) -> None:
        channels, made = shape[-1], {"dtype": self.dtype_policy}
        hidden_dim = reduced(channels, self.reduction, self.hidden_dim)

        def transform() -> list[Any]:
            return [
                parts.dense(channels, hidden_dim, **made),
                parts.layer_norm(hidden_dim, epsilon=self.eps, **made),
                layers.ReLU(**made),
                parts.dense(hidden_dim, channels, zero=True, **made),  # so that nothing is added
            ]

        if self.pooling == "attention":
            self.score = parts.dense(channels, 1, **made)
        if self.fusion != "add":
            self.mul = transform()
        if self.fusion != "mul":
            self.add = transform()

    def attention(self, x: Any) -> Any:
        rows = parts.rows(x)
        scores = self.score(rows) if self.pooling == "attention" else ops.zeros_like(rows[..., :1])
        return parts.softmax(ops.swapaxes(scores, 1, 2))  # b 1 n

    def combine(self, a: Any, x: Any) -> Any:
        z = ops.matmul(a, parts.rows(x))  # b 1 c
        z = ops.reshape(z, (-1, *[1] * len(space(x)), x.shape[-1]))  # b 1* c
        if self.fusion != "add":
            x = x * ops.sigmoid(parts.through(self.mul, z))
        return x if self.fusion == "mul" else x + parts.through(self.add, z)
