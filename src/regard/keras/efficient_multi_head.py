"""Efficient multi-head self-attention: keys and values from a downsampled image, mixed heads."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from ..core.check import head_dims, positive, probability
from . import parts
from .attention import Attention, Shape
from .parts import Tensor

Prepared = tuple[Tensor, Tensor, Tensor, Tensor]  # x, and q, k, v: b heads n d each


def _instance_norm(a: Tensor) -> Tensor:
    """Normalize each head's map to mean 0 and variance 1; a map may be a single number."""
    z = parts.at_least_float32(a)
    z = z - ops.mean(z, (2, 3), keepdims=True)
    return ops.cast(z * ops.rsqrt(ops.mean(ops.square(z), (2, 3), keepdims=True) + 1e-5), a.dtype)


def _pixel_shuffle(x: Tensor, r: int) -> Tensor:
    """Turn channels into r by r positions: ``b h w (c r r)`` to tokens ``b (h r w r) c``."""
    b, h, w, c = ops.shape(x)
    x = ops.reshape(x, (b, h, w, c // r**2, r, r))
    return parts.tokens(ops.reshape(ops.transpose(x, (0, 1, 4, 2, 5, 3)), (b, h * r, w * r, -1)))


@keras.saving.register_keras_serializable("regard")
class EfficientMultiHead(Attention):
    """Applies multi-head attention to a downsampled image, with scores mixed across heads."""

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
        head_dim, value_head_dim = head_dims(
            num_heads, self.head_dim, self.value_head_dim, channels=channels
        )
        if self.upsample and any(size is not None and size % r for size in shape[1:3]):
            raise ValueError(f"height and width must be multiples of {r}, got {shape[1:3]}")
        inner_dim = num_heads * value_head_dim
        factory: dict[str, Any] = {"dtype": self.dtype_policy}
        eps = 1e-6 if self.upsample else 1e-5
        self.query = parts.dense(channels, num_heads * head_dim, bias=self.bias, **factory)
        if r > 1:
            options = {"groups": channels, "padding": "valid", **factory}
            self.shrink = parts.conv(channels, channels, r + 1, stride=r, **options)
            self.shrink_norm = parts.layer_norm(channels, epsilon=eps, **factory)
        self.key = parts.dense(channels, num_heads * head_dim, bias=self.bias, **factory)
        self.value = parts.dense(channels, inner_dim, bias=self.bias, **factory)
        if self.transform and num_heads > 1:
            self.mix = parts.dense(num_heads, num_heads, **factory)
        self.drop = keras.layers.Dropout(self.dropout, **factory)
        if self.upsample:
            self.grow = parts.conv(inner_dim, inner_dim * r**2, 3, groups=inner_dim, **factory)
            self.grow_norm = parts.layer_norm(inner_dim, epsilon=eps, **factory)
        self.out = parts.dense(inner_dim, channels, **factory)

    def prepare(self, x: Tensor) -> Prepared:
        source, r = x, self.reduction
        if r > 1:
            source = self.shrink_norm(self.shrink(parts.pad(x, r // 2)))
        q, k, v = self.query(x), self.key(source), self.value(source)
        q, k, v = (parts.split_heads(parts.tokens(t), self.num_heads) for t in (q, k, v))
        return x, q, k, v

    def attention(self, z: Prepared) -> Tensor:
        _, q, k, _ = z
        scale = q.shape[-1] ** -0.5
        if not self.transform or self.num_heads == 1:
            return parts.attention_weights(q, k, scale=scale)
        scores = ops.matmul(q * scale, ops.swapaxes(k, 2, 3))
        mixed = ops.moveaxis(self.mix(ops.moveaxis(scores, 1, -1)), -1, 1)
        return _instance_norm(parts.softmax(mixed))

    def combine(self, a: Tensor, z: Prepared) -> Tensor:
        x, _, _, v = z
        y = parts.merge_heads(ops.matmul(self.drop(a), v))  # b n (heads d)
        if self.upsample:
            b, h, w = ops.shape(x)[:3]
            small = (b, h // self.reduction, w // self.reduction, y.shape[-1])
            v = self.grow(ops.reshape(parts.merge_heads(v), small))
            y = y + self.grow_norm(_pixel_shuffle(v, self.reduction))
        return ops.reshape(self.out(y), ops.shape(x))
