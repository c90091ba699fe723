"""Global context: one weighted average over all positions, added to each of them."""

from __future__ import annotations

from typing import Any, Literal

import keras
from keras import layers, ops

from ..core.check import above_zero, one_of, reduced
from . import parts
from .attention import Attention, Shape, spatial_axes
from .parts import Tensor


@keras.saving.register_keras_serializable("regard")
class GlobalContext(Attention):
    """Adds the same context vector to every position: a weighted average over all positions."""

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
        channels, factory = shape[-1], {"dtype": self.dtype_policy}
        hidden_dim = reduced(channels, self.reduction, self.hidden_dim)

        def transform() -> list[Any]:
            return [
                parts.dense(channels, hidden_dim, **factory),
                parts.layer_norm(hidden_dim, epsilon=self.eps, **factory),
                layers.ReLU(**factory),
                # Zeros, so that a new layer returns its input.
                parts.dense(hidden_dim, channels, zero=True, **factory),
            ]

        if self.pooling == "attention":
            self.score = parts.dense(channels, 1, **factory)
        if self.fusion != "add":
            self.mul = transform()
        if self.fusion != "mul":
            self.add = transform()

    def attention(self, x: Tensor) -> Tensor:
        tokens = parts.tokens(x)
        if self.pooling == "attention":
            scores = self.score(tokens)
        else:
            scores = ops.zeros_like(tokens[..., :1])
        return parts.softmax(ops.swapaxes(scores, 1, 2))  # b 1 n

    def combine(self, a: Tensor, x: Tensor) -> Tensor:
        z = ops.matmul(a, parts.tokens(x))  # b 1 c
        z = ops.reshape(z, (-1, *[1] * len(spatial_axes(x)), x.shape[-1]))  # b 1* c
        if self.fusion != "add":
            x = x * ops.sigmoid(parts.apply_layers(self.mul, z))
        return x if self.fusion == "mul" else x + parts.apply_layers(self.add, z)
