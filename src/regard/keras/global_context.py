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
        hidden: int | None = None,
        pool: Literal["attention", "mean"] = "attention",
        fusion: Literal["add", "mul", "both"] = "add",
        eps: float = 1e-5,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(data_format=data_format, **kwargs)
        one_of(("attention", "mean"), pool=pool)
        one_of(("add", "mul", "both"), fusion=fusion)
        above_zero(eps=eps)
        self.reduction, self.hidden, self.pool = reduction, hidden, pool
        self.fusion, self.eps = fusion, eps

    def construct(self, shape: Shape) -> None:
        channels, made = shape[-1], {"dtype": self.dtype_policy}
        hidden = reduced(channels, self.reduction, self.hidden)

        def transform() -> list[Any]:
            return [
                parts.dense(channels, hidden, **made),
                parts.layer_norm(hidden, epsilon=self.eps, **made),
                layers.ReLU(**made),
                parts.dense(hidden, channels, zero=True, **made),  # so that nothing is added
            ]

        if self.pool == "attention":
            self.score = parts.dense(channels, 1, **made)
        if self.fusion != "add":
            self.mul = transform()
        if self.fusion != "mul":
            self.add = transform()

    def attention(self, x: Any) -> Any:
        rows = parts.rows(x)
        scores = self.score(rows) if self.pool == "attention" else ops.zeros_like(rows[..., :1])
        return parts.softmax(ops.swapaxes(scores, 1, 2))  # b 1 n

    def combine(self, a: Any, x: Any) -> Any:
        z = ops.matmul(a, parts.rows(x))  # b 1 c
        z = ops.reshape(z, (-1, *[1] * len(space(x)), x.shape[-1]))  # b 1* c
        if self.fusion != "add":
            x = x * ops.sigmoid(parts.through(self.mul, z))
        return x if self.fusion == "mul" else x + parts.through(self.add, z)
