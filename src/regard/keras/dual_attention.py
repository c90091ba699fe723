"""Dual attention: self-attention over positions plus self-attention over channels."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import keras
from keras import ops

from ..core.axes import Axes
from ..core.check import divides, one_of, positive, probability, reduced
from . import parts
from .attention import Attention, Shape
from .parts import Tensor


@keras.saving.register_keras_serializable("regard")
class DualAttention(Attention):
    """Adds the outputs of self-attention over positions and self-attention over channels."""

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
        options: dict[str, Any] = {"data_format": "channels_last", "dtype": self.dtype_policy}
        self.position = PositionAttention(reduction, **options)
        self.channel = ChannelAttention(energy=energy, **options)

    def construct(self, shape: Shape) -> None:
        self.position.build(shape)
        self.channel.build(shape)

    def attention(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.position.attention(x), self.channel.attention(x)

    def combine(self, a: tuple[Tensor, Tensor], x: Tensor) -> Tensor:
        a_p, a_c = a
        return self.position.combine(a_p, x) + self.channel.combine(a_c, x)


@keras.saving.register_keras_serializable("regard")
class PositionAttention(Attention):
    """Adds self-attention over positions to x: the first part of `DualAttention`."""

    def __init__(
        self, reduction: int = 8, *, data_format: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(data_format=data_format, **kwargs)
        positive(reduction=reduction)
        self.reduction = reduction

    @property
    def axes(self) -> Axes:
        """The named axes of this part."""
        return replace(super().axes, map="b n n")

    def construct(self, shape: Shape) -> None:
        channels, factory = shape[-1], {"dtype": self.dtype_policy}
        hidden_dim = reduced(channels, self.reduction)
        self.query = parts.dense(channels, hidden_dim, **factory)
        self.key = parts.dense(channels, hidden_dim, **factory)
        self.value = parts.dense(channels, channels, **factory)
        self.gamma = self.add_weight(shape=(1,), initializer="zeros", name="gamma")

    def attention(self, x: Tensor) -> Tensor:
        x = parts.tokens(x)
        return parts.attention_weights(self.query(x), self.key(x))

    def combine(self, a: Tensor, x: Tensor) -> Tensor:
        y = ops.matmul(a, self.value(parts.tokens(x)))  # b n c
        return x + self.gamma * ops.reshape(y, ops.shape(x))


@keras.saving.register_keras_serializable("regard")
class ChannelAttention(Attention):
    """Adds self-attention over channels to x: the second part of `DualAttention`."""

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
        """The named axes of this part."""
        return replace(super().axes, map="b c c")

    def construct(self, shape: Shape) -> None:
        self.gamma = self.add_weight(shape=(1,), initializer="zeros", name="gamma")

    def attention(self, x: Tensor) -> Tensor:
        channels = ops.swapaxes(parts.tokens(x), 1, 2)  # b c n
        scale = -1.0 if self.energy == "unlike" else 1.0
        return parts.attention_weights(channels, channels, scale=scale)

    def combine(self, a: Tensor, x: Tensor) -> Tensor:
        y = ops.matmul(parts.tokens(x), ops.swapaxes(a, 1, 2))  # b n c
        return x + self.gamma * ops.reshape(y, ops.shape(x))


@keras.saving.register_keras_serializable("regard")
class DualAttentionHead(Attention):
    """The head of DANet: both parts between convolutions, and a classifier for each and the sum.

    Its maps are those of the two parts.
    """

    @property
    def axes(self) -> Axes:
        """The named axes of the head, which takes images only."""
        return replace(super().axes, input="b c h w", output="b c h w")

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
        channels, hidden_dim = shape[-1], shape[-1] // 4
        factory: dict[str, Any] = {"dtype": self.dtype_policy}

        def conv_norm(channels: int) -> list[Any]:
            conv = parts.conv(channels, hidden_dim, 3, bias=False, **factory)
            return [conv, parts.batch_norm(hidden_dim, **factory)]

        self.before_position, self.before_channel = conv_norm(channels), conv_norm(channels)
        self.position = PositionAttention(data_format="channels_last", **factory)
        self.channel = ChannelAttention(data_format="channels_last", **factory)
        self.position.build((*shape[:-1], hidden_dim))
        self.channel.build((*shape[:-1], hidden_dim))
        self.after_position, self.after_channel = conv_norm(hidden_dim), conv_norm(hidden_dim)
        options = {"data_format": "channels_last", **factory}
        self.drop = keras.layers.SpatialDropout2D(self.dropout, **options)
        self.classify_position = parts.dense(hidden_dim, self.num_classes, **factory)
        self.classify_channel = parts.dense(hidden_dim, self.num_classes, **factory)
        self.classify = parts.dense(hidden_dim, self.num_classes, **factory)

    def prepare(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return _relu(self.before_position, x), _relu(self.before_channel, x)

    def attention(self, z: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        p, c = z
        return self.position.attention(p), self.channel.attention(c)

    def combine(self, a: tuple[Tensor, Tensor], z: tuple[Tensor, Tensor]) -> list[Tensor]:
        (a_p, a_c), (p, c) = a, z
        p = _relu(self.after_position, self.position.combine(a_p, p))
        c = _relu(self.after_channel, self.channel.combine(a_c, c))
        return [
            self.classify(self.drop(p + c)),
            self.classify_position(self.drop(p)),
            self.classify_channel(self.drop(c)),
        ]

    def output_shape_of(self, shape: Shape) -> list[Shape]:
        return [(*shape[:-1], self.num_classes)] * 3


def _relu(block: list[Any], x: Tensor) -> Tensor:
    """Apply convolution and norm, then a ReLU."""
    return ops.relu(parts.apply_layers(block, x))
