"""Parallel multi-scale attention: attention and convolutions share one projection of values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import keras
from keras import layers, ops

from ..core.check import head_dims, odd, one_of, positive, probability
from . import parts
from .attention import SequenceAttention, Shape
from .parts import Tensor

Prepared = tuple[Tensor, Tensor, Tensor]  # q, k b heads n d; v b n (heads d)
LayerPrepared = tuple[Tensor, Tensor, Prepared]  # the query, before and after the norm


@keras.saving.register_keras_serializable("regard")
class MUSE(SequenceAttention):
    """Applies self-attention and convolutions with multiple kernel sizes in parallel."""

    def __init__(
        self,
        num_heads: int = 8,
        *,
        kernel_sizes: Sequence[int] = (3, 15),
        filters: Literal["dynamic", "static"] = "dynamic",
        padding: Literal["same", "causal"] = "same",
        head_dim: int | None = None,
        value_head_dim: int | None = None,
        mask_values: bool = False,
        dropout: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        one_of(("dynamic", "static"), filters=filters)
        one_of(("same", "causal"), padding=padding)
        positive(num_heads=num_heads)
        positive(head_dim=1 if head_dim is None else head_dim)
        positive(value_head_dim=1 if value_head_dim is None else value_head_dim)
        probability(dropout=dropout)
        if not kernel_sizes:
            raise ValueError("kernel_sizes must have one size at least, got ()")
        for k in kernel_sizes:
            check = positive if padding == "causal" else odd
            check(kernel_sizes=k)
        self.num_heads, self.kernel_sizes, self.filters = num_heads, tuple(kernel_sizes), filters
        self.padding, self.mask_values, self.dropout = padding, mask_values, dropout
        self.head_dim, self.value_head_dim = head_dim, value_head_dim

    def construct(self, query: Shape, key: Shape, value: Shape) -> None:
        embed_dim, factory = query[-1], {"dtype": self.dtype_policy}
        head_dim, value_head_dim = head_dims(
            self.num_heads, self.head_dim, self.value_head_dim, embed_dim=embed_dim
        )
        value_dim = self.num_heads * value_head_dim
        self.query = parts.dense(embed_dim, self.num_heads * head_dim, **factory)
        self.key = parts.dense(embed_dim, self.num_heads * head_dim, **factory)
        self.value = parts.dense(embed_dim, value_dim, **factory)
        size = (len(self.kernel_sizes),)  # all kernel sizes start with the same weight
        self.gate = self.add_weight(shape=size, initializer="zeros", name="gate")
        if self.filters == "dynamic":
            self.predict = [
                parts.dense(value_dim, self.num_heads * k, bias=False, **factory)
                for k in self.kernel_sizes
            ]
        else:
            self.depth = [self._depthwise(value_dim, k) for k in self.kernel_sizes]
            self.point = [parts.dense(value_dim, embed_dim, **factory) for _ in self.kernel_sizes]
        self.drop = layers.Dropout(self.dropout, **factory)
        branches = 2 if self.filters == "dynamic" else 1
        self.out = parts.dense(branches * value_dim, embed_dim, **factory)

    def _depthwise(self, channels: int, k: int) -> layers.Layer:
        factory = {"dtype": self.dtype_policy}
        if k == 1:
            return layers.Identity(**factory)
        options = {"dims": 1, "groups": channels, "padding": "valid", **factory}
        return parts.conv(channels, channels, k, **options)

    def around(self, k: int) -> tuple[int, int]:
        """Return the number of entries of a filter of size k before and after its position."""
        before = k - 1 if self.padding == "causal" else k // 2
        return before, k - 1 - before

    def prepare(self, query: Tensor, key: Tensor, value: Tensor) -> Prepared:
        q = parts.split_heads(self.query(query), self.num_heads)
        k = parts.split_heads(self.key(key), self.num_heads)
        return q, k, self.value(value)

    def attention(self, z: Prepared, mask: Tensor | None) -> Tensor:
        q, k, _ = z
        return parts.attention_weights(q, k, scale=q.shape[-1] ** -0.5, mask=mask)

    def combine(self, a: Tensor, z: Prepared) -> Tensor:
        _, _, v = z
        y = parts.merge_heads(ops.matmul(self.drop(a), parts.split_heads(v, self.num_heads)))
        if self.mask_values:
            v = v * ops.cast(ops.any(a != 0, (1, 2)), v.dtype)[..., None]
        g = ops.cast(parts.softmax(self.gate), v.dtype)
        if self.filters == "dynamic":
            f = self.drop(self.predict_filters(v, g))
            return self.out(ops.concatenate([y, self.convolve(f, v)], -1))
        y = self.out(y)
        for i, k in enumerate(self.kernel_sizes):
            z = self.depth[i](ops.pad(v, ((0, 0), self.around(k), (0, 0))))
            y = y + g[i] * self.point[i](z)
        return y

    def predict_filters(self, v: Tensor, g: Tensor) -> Tensor:
        """Return the sum of the gated filters, padded to the largest: ``b n heads k``."""
        total, (most_before, most_after) = 0.0, self.around(max(self.kernel_sizes))
        for i, (k, predict) in enumerate(zip(self.kernel_sizes, self.predict, strict=True)):
            before, after = self.around(k)
            f = ops.reshape(predict(v), (*ops.shape(v)[:2], self.num_heads, k))
            f = parts.softmax(f) * g[i]
            padding = (most_before - before, most_after - after)
            total = total + ops.pad(f, ((0, 0), (0, 0), (0, 0), padding))
        return total

    def convolve(self, f: Tensor, v: Tensor) -> Tensor:
        """Apply the filter of each position to the values around it, without copying them."""
        n = ops.shape(v)[1]
        heads = ops.reshape(v, (ops.shape(v)[0], n, self.num_heads, -1))
        heads = ops.pad(heads, ((0, 0), self.around(f.shape[-1]), (0, 0), (0, 0)))
        y = sum(f[..., i : i + 1] * heads[:, i : i + n] for i in range(f.shape[-1]))
        return ops.reshape(y, ops.shape(v))


@keras.saving.register_keras_serializable("regard")
class MUSELayer(SequenceAttention):
    """Adds self-attention, convolutions and a feed-forward network to the input, in parallel."""

    def __init__(
        self,
        num_heads: int = 8,
        hidden_dim: int | None = None,
        *,
        kernel_sizes: Sequence[int] = (3, 15),
        filters: Literal["dynamic", "static"] = "dynamic",
        padding: Literal["same", "causal"] = "same",
        mask_values: bool = False,
        norm_first: bool = False,
        dropout: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        positive(hidden_dim=1 if hidden_dim is None else hidden_dim)
        self.num_heads, self.hidden_dim = num_heads, hidden_dim
        self.kernel_sizes = tuple(kernel_sizes)
        self.filters, self.padding, self.mask_values = filters, padding, mask_values
        self.norm_first, self.dropout = norm_first, dropout
        self.branches = MUSE(
            num_heads,
            kernel_sizes=kernel_sizes,
            filters=filters,
            padding=padding,
            mask_values=mask_values,
            dropout=dropout,
            dtype=self.dtype_policy,
        )

    def construct(self, query: Shape, key: Shape, value: Shape) -> None:
        embed_dim, factory = query[-1], {"dtype": self.dtype_policy}
        hidden_dim = 4 * embed_dim if self.hidden_dim is None else self.hidden_dim
        self.branches.build(query, key, value)
        self.norm = parts.layer_norm(embed_dim, **factory)
        self.expand = parts.dense(embed_dim, hidden_dim, **factory)
        self.contract = parts.dense(hidden_dim, embed_dim, **factory)
        self.drop = layers.Dropout(self.dropout, **factory)

    def prepare(self, query: Tensor, key: Tensor, value: Tensor) -> LayerPrepared:
        q, k, v = query, key, value
        if self.norm_first:
            q = self.norm(query)
            k = q if key is query else self.norm(key)
            v = k if value is key else self.norm(value)
        return query, q, self.branches.prepare(q, k, v)

    def attention(self, z: LayerPrepared, mask: Tensor | None) -> Tensor:
        _, _, branches = z
        return self.branches.attention(branches, mask)

    def combine(self, a: Tensor, z: LayerPrepared) -> Tensor:
        query, q, branches = z
        y = self.branches.combine(a, branches) + self.contract(ops.relu(self.expand(q)))
        y = query + self.drop(y)
        return y if self.norm_first else self.norm(y)
