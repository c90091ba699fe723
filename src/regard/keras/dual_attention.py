"""Dual attention: positions read positions, channels read channels, and the two are added."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import keras
from keras import ops

from ..core.axes import Axes
from ..core.check import divides, one_of, positive, probability, reduced
from . import parts
from .attention import Attention, Shape


@keras.saving.register_keras_serializable("regard")
class DualAttention(Attention):
    """Adds to each position what similar positions hold, and to each channel what others hold."""

    def __init__(
        self,
        reduction: int = 8,
        *,
        energy: Literal["unlike", "like"] = "unlike",
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(data_format=data_format, **kwargs)
        self.reduction, self.energy = reduction, energy
        inside: dict[str, Any] = {"data_format": "channels_last", "dtype": self.dtype_policy}
        self.position = PositionAttention(reduction, **inside)
        self.channel = ChannelAttention(energy=energy, **inside)

    def construct(self, shape: Shape) -> None:
        self.position.build(shape)
        self.channel.build(shape)

    def attention(self, x: Any) -> tuple[Any, Any]:
        return self.position.attention(x), self.channel.attention(x)

    def combine(self, a: tuple[Any, Any], x: Any) -> Any:
        return self.position.combine(a[0], x) + self.channel.combine(a[1], x)


@keras.saving.register_keras_serializable("regard")
class PositionAttention(Attention):
    """Adds to each position what similar positions hold: the first part of `DualAttention`."""

    def __init__(
        self, reduction: int = 8, *, data_format: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(data_format=data_format, **kwargs)
        positive(reduction=reduction)
        self.reduction = reduction

    @property
    def axes(self) -> Axes:
        """The axes of this part."""
        return replace(super().axes, map="b n n")

    def construct(self, shape: Shape) -> None:
        channels, made = shape[-1], {"dtype": self.dtype_policy}
        hidden = reduced(channels, self.reduction)
        self.query = parts.dense(channels, hidden, **made)
        self.key = parts.dense(channels, hidden, **made)
        self.value = parts.dense(channels, channels, **made)
        self.gamma = self.add_weight(shape=(1,), initializer="zeros", name="gamma")

    def attention(self, x: Any) -> Any:
        x = parts.rows(x)
        return parts.weigh(self.query(x), self.key(x))

    def combine(self, a: Any, x: Any) -> Any:
        y = ops.matmul(a, self.value(parts.rows(x)))  # b n c
        return x + self.gamma * ops.reshape(y, ops.shape(x))


@keras.saving.register_keras_serializable("regard")
class ChannelAttention(Attention):
    """Adds to each channel what the others hold: the second part of `DualAttention`."""

    def __init__(
        self,
        *,
        energy: Literal["unlike", "like"] = "unlike",
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(data_format=data_format, **kwargs)
        one_of(("unlike", "like"), energy=energy)
        self.energy = energy

    @property
    def axes(self) -> Axes:
        """The axes of this part."""
        return replace(super().axes, map="b c c")

    def construct(self, shape: Shape) -> None:
        self.gamma = self.add_weight(shape=(1,), initializer="zeros", name="gamma")

    def attention(self, x: Any) -> Any:
        rows = ops.swapaxes(parts.rows(x), 1, 2)  # b c n
        return parts.weigh(rows, rows, scale=-1.0 if self.energy == "unlike" else 1.0)

    def combine(self, a: Any, x: Any) -> Any:
        y = ops.matmul(parts.rows(x), ops.swapaxes(a, 1, 2))  # b n c
        return x + self.gamma * ops.reshape(y, ops.shape(x))


@keras.saving.register_keras_serializable("regard")
class DualAttentionHead(Attention):
    """The head of DANet: both parts between convolutions, and a classifier for each and the sum.

    Its maps are those of the two parts.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        dropout: float = 0.1,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(data_format=data_format, **kwargs)
        positive(num_classes=num_classes)
        probability(dropout=dropout)
        self.num_classes, self.dropout = num_classes, dropout

    def construct(self, shape: Shape) -> None:
        divides(in_channels=shape[-1], quarter=4)
        channels, hidden = shape[-1], shape[-1] // 4
        made: dict[str, Any] = {"dtype": self.dtype_policy}

        def convolve(channels: int) -> list[Any]:
            convolution = parts.conv(channels, hidden, 3, bias=False, **made)
            return [convolution, parts.batch_norm(hidden, **made)]

        self.before_position, self.before_channel = convolve(channels), convolve(channels)
        self.position = PositionAttention(data_format="channels_last", **made)
        self.channel = ChannelAttention(data_format="channels_last", **made)
        self.position.build((*shape[:-1], hidden))
        self.channel.build((*shape[:-1], hidden))
        self.after_position, self.after_channel = convolve(hidden), convolve(hidden)
        whole = {"data_format": "channels_last", **made}
        self.drop = keras.layers.SpatialDropout2D(self.dropout, **whole)
        self.classify_position = parts.dense(hidden, self.num_classes, **made)
        self.classify_channel = parts.dense(hidden, self.num_classes, **made)
        self.classify = parts.dense(hidden, self.num_classes, **made)

    def prepare(self, x: Any) -> tuple[Any, Any]:
        return _run(self.before_position, x), _run(self.before_channel, x)

    def attention(self, x: tuple[Any, Any]) -> tuple[Any, Any]:
        return self.position.attention(x[0]), self.channel.attention(x[1])

    def combine(self, a: tuple[Any, Any], x: tuple[Any, Any]) -> list[Any]:
        p = _run(self.after_position, self.position.combine(a[0], x[0]))
        c = _run(self.after_channel, self.channel.combine(a[1], x[1]))
        return [
            self.classify(self.drop(p + c)),
            self.classify_position(self.drop(p)),
            self.classify_channel(self.drop(c)),
        ]

    def output_shape_of(self, shape: Shape) -> list[Shape]:
        return [(*shape[:-1], self.num_classes)] * 3


def _run(block: list[Any], x: Any) -> Any:
    convolution, norm = block
    return ops.relu(norm(convolution(x)))
