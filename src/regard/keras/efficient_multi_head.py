"""Efficient multi-head attention: all positions read a reduced image, and heads hear each other."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from ..core.check import divides, positive, probability
from . import parts
from .attention import Attention, Shape


def standardize(a: Any) -> Any:
    """Mean 0 and variance 1 for each head's map: an instance norm, of a single number too."""
    z = parts.wide(a)
    z = z - ops.mean(z, (2, 3), keepdims=True)
    return ops.cast(z * ops.rsqrt(ops.mean(ops.square(z), (2, 3), keepdims=True) + 1e-5), a.dtype)


def shuffle(x: Any, r: int) -> Any:
    """The channels of each position as r by r positions, which stand in rows: ``b n c``."""
    b, h, w, c = ops.shape(x)
    x = ops.reshape(x, (b, h, w, c // r**2, r, r))
    return parts.rows(ops.reshape(ops.transpose(x, (0, 1, 4, 2, 5, 3)), (b, h * r, w * r, -1)))


@keras.saving.register_keras_serializable("regard")
class EfficientMultiHead(Attention):
    """Gives each position a weighted sum over a reduced image, by heads that are mixed."""

    def __init__(
        self,
        num_heads: int = 4,
        reduction: int = 2,
        *,
        head_dim: int | None = None,
        value_head_dim: int | None = None,
        transform: bool = True,
        upsample: bool = False,
        bias: bool = True,
        dropout: float = 0.0,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(data_format=data_format, **kwargs)
        positive(num_heads=num_heads, reduction=reduction)
        positive(head_dim=1 if head_dim is None else head_dim)
        positive(value_head_dim=1 if value_head_dim is None else value_head_dim)
        probability(dropout=dropout)
        self.num_heads, self.reduction = num_heads, reduction
        self.head_dim, self.value_head_dim = head_dim, value_head_dim
        self.transform, self.upsample, self.bias, self.dropout = transform, upsample, bias, dropout

    def construct(self, shape: Shape) -> None:
        channels, num_heads, r = shape[-1], self.num_heads, self.reduction
        if self.head_dim is None:
            divides(channels=channels, num_heads=num_heads)
        if self.upsample and any(size is not None and size % r for size in shape[1:3]):
            raise ValueError(f"height and width must be multiples of {r}, got {shape[1:3]}")
        width = channels // num_heads if self.head_dim is None else self.head_dim
        inner = num_heads * (width if self.value_head_dim is None else self.value_head_dim)
        made: dict[str, Any] = {"dtype": self.dtype_policy}
        eps = 1e-6 if self.upsample else 1e-5
        self.query = parts.dense(channels, num_heads * width, bias=self.bias, **made)
        if r > 1:
            each = {"groups": channels, "padding": "valid", **made}
            self.shrink = parts.conv(channels, channels, r + 1, stride=r, **each)
            self.shrink_norm = parts.layer_norm(channels, epsilon=eps, **made)
        self.key = parts.dense(channels, num_heads * width, bias=self.bias, **made)
        self.value = parts.dense(channels, inner, bias=self.bias, **made)
        if self.transform and num_heads > 1:
            self.mix = parts.dense(num_heads, num_heads, **made)
        self.drop = keras.layers.Dropout(self.dropout, **made)
        if self.upsample:
            self.grow = parts.conv(inner, inner * r**2, 3, groups=inner, **made)
            self.grow_norm = parts.layer_norm(inner, epsilon=eps, **made)
        self.out = parts.dense(inner, channels, **made)

    def prepare(self, x: Any) -> tuple[Any, ...]:
        source, r = x, self.reduction
        if r > 1:
            source = self.shrink_norm(self.shrink(parts.pad(x, r // 2)))
        z = (self.query(x), self.key(source), self.value(source))
        return x, *(parts.divide(parts.rows(t), self.num_heads) for t in z)  # x, b heads n d

    def attention(self, x: tuple[Any, ...]) -> Any:
        _, q, k, _ = x
        scale = q.shape[-1] ** -0.5
        if not self.transform or self.num_heads == 1:
            return parts.weigh(q, k, scale=scale)
        scores = ops.matmul(q * scale, ops.swapaxes(k, 2, 3))
        mixed = ops.moveaxis(self.mix(ops.moveaxis(scores, 1, -1)), -1, 1)
        return standardize(parts.softmax(mixed))

    def combine(self, a: Any, x: tuple[Any, ...]) -> Any:
        like, _, _, v = x
        y = parts.join(ops.matmul(self.drop(a), v))  # b n c
        if self.upsample:
            b, h, w = ops.shape(like)[:3]
            small = (b, h // self.reduction, w // self.reduction, y.shape[-1])
            grown = self.grow(ops.reshape(parts.join(v), small))
            y = y + self.grow_norm(shuffle(grown, self.reduction))
        return ops.reshape(self.out(y), ops.shape(like))
