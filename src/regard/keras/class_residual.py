"""Class-specific residual attention: each class looks where it scores, on top of everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from ..core.check import above_zero, positive
from . import parts
from .attention import Attention, Shape


def usual_temperatures(num_heads: int) -> tuple[float | str, ...]:
    """The temperatures that the authors give to so many heads."""
    if num_heads == 4:
        return (1, 2, 4, "max")
    return (*range(1, num_heads), "max") if num_heads > 1 else (1,)


def look(s: Any, temperature: float | str) -> Any:
    """Where classes look that score so: a softmax over the positions, or their maximum alone."""
    if temperature == "max":
        return ops.one_hot(ops.argmax(s, -1), ops.shape(s)[-1], dtype=s.dtype)
    return parts.softmax(temperature * s)


@keras.saving.register_keras_serializable("regard")
class ClassResidual(Attention):
    """Scores classes by an average over all positions, plus one over those where a class scores."""

    def __init__(
        self,
        num_classes: int,
        num_heads: int = 1,
        *,
        residual_weight: float = 0.1,
        temperatures: Sequence[float | str] | None = None,
        normalize: bool = True,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(data_format=data_format, **kwargs)
        positive(num_classes=num_classes, num_heads=num_heads)
        chosen = usual_temperatures(num_heads) if temperatures is None else tuple(temperatures)
        if len(chosen) != num_heads:
            raise ValueError(f"temperatures must be {num_heads}, one for each head, got {chosen!r}")
        for temperature in chosen:
            if isinstance(temperature, str) and temperature != "max":
                raise ValueError(f"temperatures must be numbers or 'max', got {temperature!r}")
            if not isinstance(temperature, str):
                above_zero(temperatures=temperature)
        self.num_classes, self.num_heads, self.residual_weight = (
            num_classes,
            num_heads,
            residual_weight,
        )
        self.temperatures, self.normalize = chosen, normalize

    def construct(self, shape: Shape) -> None:
        scores = self.num_heads * self.num_classes
        self.classify = parts.dense(shape[-1], scores, bias=False, dtype=self.dtype_policy)

    def prepare(self, x: Any) -> Any:
        s = self.classify(parts.rows(x))  # b n (heads k)
        if self.normalize:
            lengths = parts.length(ops.cast(self.classify.kernel, s.dtype), 0)
            s = s / ops.maximum(lengths, 1e-12)
        s = ops.swapaxes(s, 1, 2)
        return ops.reshape(
            s, (ops.shape(x)[0], self.num_heads, self.num_classes, -1)
        )  # b heads k n

    def attention(self, x: Any) -> Any:
        return ops.stack([look(x[:, h], t) for h, t in enumerate(self.temperatures)], 1)

    def combine(self, a: Any, x: Any) -> Any:
        return ops.sum(ops.mean(x, 3) + self.residual_weight * ops.sum(a * x, 3), 1)

    def output_shape_of(self, shape: Shape) -> Shape:
        return shape[0], self.num_classes
