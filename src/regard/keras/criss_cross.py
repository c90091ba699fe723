"""Criss-cross attention: every position reads its column and its row, and so, twice, everything."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import keras
from keras import ops

from ..core.axes import Axes
from ..core.check import divides, positive, probability, reduced
from . import parts
from .attention import Attention, Shape


@keras.saving.register_keras_serializable("regard")
class CrissCross(Attention):
    """Adds to each position what its column and its row hold, as often as it is repeated."""

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
        """The axes, with a map for each pass."""
        return replace(super().axes, map=", ".join(["b h w k"] * self.recurrence))

    def construct(self, shape: Shape) -> None:
        channels, made = shape[-1], {"dtype": self.dtype_policy}
        hidden = reduced(channels, self.reduction)
        self.query = parts.dense(channels, hidden, **made)
        self.key = parts.dense(channels, hidden, **made)
        self.value = parts.dense(channels, channels, **made)
        self.gamma = self.add_weight(shape=(1,), initializer="zeros", name="gamma")

    def attention(self, x: Any) -> tuple[Any, ...]:
        maps = [self.weigh(x)]
        for _ in range(self.recurrence - 1):
            x = self.read(maps[-1], x)
            maps.append(self.weigh(x))
        return tuple(maps)

    def combine(self, a: tuple[Any, ...], x: Any) -> Any:
        for one in a:
            x = self.read(one, x)
        return x

    def weigh(self, x: Any) -> Any:
        """The map of one pass: a softmax over the column and the row, ``b h w k``."""
        # Sums of products may leave the range of half precision.
        q, k = parts.wide(self.query(x)), parts.wide(self.key(x))  # b h w d
        rows = ops.matmul(q, ops.swapaxes(k, 2, 3))  # b h w j
        columns = ops.matmul(ops.swapaxes(q, 1, 2), ops.transpose(k, (0, 2, 3, 1)))  # b w h i
        i = ops.arange(ops.shape(x)[1])
        columns = ops.where(i[:, None] == i, float("-inf"), columns)  # counted in the row
        a = parts.softmax(ops.concatenate([ops.swapaxes(columns, 1, 2), rows], -1))
        return ops.cast(a, x.dtype)

    def read(self, a: Any, x: Any) -> Any:
        """One pass."""
        h, v = ops.shape(x)[1], self.value(x)
        columns = ops.matmul(ops.swapaxes(a[..., :h], 1, 2), ops.swapaxes(v, 1, 2))  # b w h c
        return x + self.gamma * (ops.matmul(a[..., h:], v) + ops.swapaxes(columns, 1, 2))


@keras.saving.register_keras_serializable("regard")
class CrissCrossHead(Attention):
    """The head of CCNet: criss-cross attention between convolutions, joined with its input.

    Its maps are those of the attention.
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
        """The axes, with a map for each pass."""
        maps = ", ".join(["b h w k"] * self.recurrence)
        return replace(super().axes, map=maps, output="b k h w")

    def construct(self, shape: Shape) -> None:
        divides(in_channels=shape[-1], quarter=4)
        channels, hidden = shape[-1], shape[-1] // 4
        made: dict[str, Any] = {"dtype": self.dtype_policy}

        def convolve(before: int, after: int) -> list[Any]:
            convolution = parts.conv(before, after, 3, bias=False, **made)
            return [convolution, parts.batch_norm(after, **made)]

        whole = {"data_format": "channels_last", **made}
        self.before = convolve(channels, hidden)
        self.criss_cross = CrissCross(recurrence=self.recurrence, **whole)
        self.criss_cross.build((*shape[:-1], hidden))
        self.after = convolve(hidden, hidden)
        self.join = convolve(channels + hidden, self.out_channels)
        self.drop = keras.layers.SpatialDropout2D(self.dropout, **whole)
        self.classify = parts.dense(self.out_channels, self.num_classes, **made)

    def prepare(self, x: Any) -> tuple[Any, Any]:
        return x, _run(self.before, x)

    def attention(self, x: tuple[Any, Any]) -> tuple[Any, ...]:
        return self.criss_cross.attention(x[1])

    def combine(self, a: tuple[Any, ...], x: tuple[Any, Any]) -> Any:
        y = _run(self.after, self.criss_cross.combine(a, x[1]))
        return self.classify(self.drop(_run(self.join, ops.concatenate([x[0], y], -1))))

    def output_shape_of(self, shape: Shape) -> Shape:
        return (*shape[:-1], self.num_classes)


def _run(block: list[Any], x: Any) -> Any:
    y = parts.through(block, x)
    return ops.maximum(y, 0.01 * y)  # TensorFlow's leaky ReLU has a slope in single precision
