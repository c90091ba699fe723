"""Class-specific residual attention: class scores from average pooling plus attention pooling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from ..core.check import above_zero, positive
from . import parts
from .attention import Attention, Shape
from .parts import Tensor


def usual_temperatures(num_heads: int) -> tuple[float | str, ...]:
    """Return the temperatures that the authors use for this number of heads."""
    if num_heads == 4:
        return (1, 2, 4, "max")
    return (*range(1, num_heads), "max") if num_heads > 1 else (1,)


def _attention_weights(s: Tensor, temperature: float | str) -> Tensor:
    """Return the softmax over the positions, or one-hot weights of the maximum."""
    if temperature == "max":
        return ops.one_hot(ops.argmax(s, -1), ops.shape(s)[-1], dtype=s.dtype)
    return parts.softmax(temperature * s)


@keras.saving.register_keras_serializable("regard")
class ClassResidual(Attention):
    """Scores classes by average pooling plus attention pooling of each class's own score map."""

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
        self.num_classes, self.num_heads = num_classes, num_heads
        self.residual_weight, self.normalize = residual_weight, normalize
        self.temperatures = chosen

    def construct(self, shape: Shape) -> None:
        scores = self.num_heads * self.num_classes
        self.classify = parts.dense(shape[-1], scores, bias=False, dtype=self.dtype_policy)

    def prepare(self, x: Tensor) -> Tensor:
        s = self.classify(parts.tokens(x))  # b n (heads k)
        if self.normalize:
            norms = parts.l2_norm(ops.cast(self.classify.kernel, s.dtype), 0)
            s = s / ops.maximum(norms, 1e-12)
        sizes = (ops.shape(x)[0], self.num_heads, self.num_classes, -1)
        return ops.reshape(ops.swapaxes(s, 1, 2), sizes)  # b heads k n

    def attention(self, z: Tensor) -> Tensor:
        maps = [_attention_weights(z[:, h], t) for h, t in enumerate(self.temperatures)]
        return ops.stack(maps, 1)

    def combine(self, a: Tensor, z: Tensor) -> Tensor:
        return ops.sum(ops.mean(z, 3) + self.residual_weight * ops.sum(a * z, 3), 1)

    def output_shape_of(self, shape: Shape) -> Shape:
        return shape[0], self.num_classes
