"""Criss-cross attention: each position attends to its row and column, in repeated passes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import keras
from keras import ops

from ..core.axes import Axes
from ..core.check import divides, positive, probability, reduced
from . import parts
from .attention import Attention, Shape
from .parts import Tensor


@keras.saving.register_keras_serializable("regard")
class CrissCross(Attention):
    """Adds attention over the row and the column of each position, in repeated passes."""

    def __init__(
        self,
        reduction: int = 8,
        *,
        recurrence: int = 2,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(data_format=data_format, **kwargs)
        positive(reduction=reduction, recurrence=recurrence)
        self.reduction, self.recurrence = reduction, recurrence

    @property
    def axes(self) -> Axes:
        """The named axes, with a map for each pass."""
        return replace(super().axes, map=", ".join(["b h w k"] * self.recurrence))

    def construct(self, shape: Shape) -> None:
        channels, factory = shape[-1], {"dtype": self.dtype_policy}
        hidden_dim = reduced(channels, self.reduction)
        self.query = parts.dense(channels, hidden_dim, **factory)
        self.key = parts.dense(channels, hidden_dim, **factory)
        self.value = parts.dense(channels, channels, **factory)
        self.gamma = self.add_weight(shape=(1,), initializer="zeros", name="gamma")

    def attention(self, x: Tensor) -> tuple[Tensor, ...]:
        maps = [self.attention_of_pass(x)]
        for _ in range(self.recurrence - 1):
            x = self.run_pass(maps[-1], x)
            maps.append(self.attention_of_pass(x))
        return tuple(maps)

    def combine(self, a: tuple[Tensor, ...], x: Tensor) -> Tensor:
        for a_pass in a:
            x = self.run_pass(a_pass, x)
        return x

    def attention_of_pass(self, x: Tensor) -> Tensor:
        """Return the map of one pass: a softmax over the column and the row, ``b h w k``."""
        # The scores can exceed the range of half precision.
        q, k = (parts.at_least_float32(t) for t in (self.query(x), self.key(x)))  # b h w d
        rows = ops.matmul(q, ops.swapaxes(k, 2, 3))  # b h w j
        columns = ops.matmul(ops.swapaxes(q, 1, 2), ops.transpose(k, (0, 2, 3, 1)))  # b w h i
        i = ops.arange(ops.shape(x)[1])
        columns = ops.where(i[:, None] == i, float("-inf"), columns)  # counted in the row
        a = parts.softmax(ops.concatenate([ops.swapaxes(columns, 1, 2), rows], -1))
        return ops.cast(a, x.dtype)

    def run_pass(self, a: Tensor, x: Tensor) -> Tensor:
        """Return the output of one pass."""
        h, v = ops.shape(x)[1], self.value(x)
        columns = ops.matmul(ops.swapaxes(a[..., :h], 1, 2), ops.swapaxes(v, 1, 2))  # b w h c
        return x + self.gamma * (ops.matmul(a[..., h:], v) + ops.swapaxes(columns, 1, 2))


@keras.saving.register_keras_serializable("regard")
class CrissCrossHead(Attention):
    """Scores classes by CCNet's head: criss-cross attention, concatenated with its input.

    The maps are those of the attention.
    """

    def __init__(
        self,
        out_channels: int,
        num_classes: int,
        *,
        recurrence: int = 2,
        dropout: float = 0.1,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(data_format=data_format, **kwargs)
        positive(out_channels=out_channels, num_classes=num_classes, recurrence=recurrence)
        probability(dropout=dropout)
        self.out_channels, self.num_classes = out_channels, num_classes
        self.recurrence, self.dropout = recurrence, dropout

    @property
    def axes(self) -> Axes:
        """The named axes, with a map for each pass."""
        maps = ", ".join(["b h w k"] * self.recurrence)
        return replace(super().axes, map=maps, output="b k h w")

    def construct(self, shape: Shape) -> None:
        divides(in_channels=shape[-1], quarter=4)
        channels, hidden_dim = shape[-1], shape[-1] // 4
        factory: dict[str, Any] = {"dtype": self.dtype_policy}

        def conv_norm(inputs: int, outputs: int) -> list[Any]:
            conv = parts.conv(inputs, outputs, 3, bias=False, **factory)
            return [conv, parts.batch_norm(outputs, **factory)]

        options = {"data_format": "channels_last", **factory}
        self.before = conv_norm(channels, hidden_dim)
        self.criss_cross = CrissCross(recurrence=self.recurrence, **options)
        self.criss_cross.build((*shape[:-1], hidden_dim))
        self.after = conv_norm(hidden_dim, hidden_dim)
        self.join = conv_norm(channels + hidden_dim, self.out_channels)
        self.drop = keras.layers.SpatialDropout2D(self.dropout, **options)
        self.classify = parts.dense(self.out_channels, self.num_classes, **factory)

    def prepare(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, _leaky_relu(self.before, x)

    def attention(self, z: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
        _, hidden = z
        return self.criss_cross.attention(hidden)

    def combine(self, a: tuple[Tensor, ...], z: tuple[Tensor, Tensor]) -> Tensor:
        x, hidden = z
        y = _leaky_relu(self.after, self.criss_cross.combine(a, hidden))
        y = _leaky_relu(self.join, ops.concatenate([x, y], -1))
        return self.classify(self.drop(y))

    def output_shape_of(self, shape: Shape) -> Shape:
        return (*shape[:-1], self.num_classes)


def _leaky_relu(block: list[Any], x: Tensor) -> Tensor:
    """Apply convolution and norm, then a leaky ReLU."""
    y = parts.apply_layers(block, x)
    return ops.maximum(y, 0.01 * y)  # TensorFlow rounds the slope of its own to single precision
