"""Parallel multi-scale attention: attention and convolutions share one projection of values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import keras
from keras import layers, ops

from ..core.check import divides, odd, one_of, positive, probability
from . import parts
from .attention import SequenceAttention, Shape


@keras.saving.register_keras_serializable("regard")
class MUSE(SequenceAttention):
    """Reads each sequence by self-attention and by convolutions of several widths, side by side."""

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
            raise ValueError("kernels must hold at least one width, got ()")
        for k in kernel_sizes:
            (positive if padding == "causal" else odd)(kernels=k)
        self.num_heads, self.kernel_sizes, self.filters = num_heads, tuple(kernel_sizes), filters
        self.padding, self.mask_values, self.dropout = padding, mask_values, dropout
        self.head_dim, self.value_head_dim = head_dim, value_head_dim

    def construct(self, query: Shape, key: Shape, value: Shape) -> None:
        embed_dim, made = query[-1], {"dtype": self.dtype_policy}
        if self.head_dim is None:
            divides(embed_dim=embed_dim, num_heads=self.num_heads)
        each = embed_dim // self.num_heads if self.head_dim is None else self.head_dim
        inner = self.num_heads * (each if self.value_head_dim is None else self.value_head_dim)
        self.query = parts.dense(embed_dim, self.num_heads * each, **made)
        self.key = parts.dense(embed_dim, self.num_heads * each, **made)
        self.value = parts.dense(embed_dim, inner, **made)
        # All kernels start with the same weight.
        size = (len(self.kernel_sizes),)
        self.gate = self.add_weight(shape=size, initializer="zeros", name="gate")
        if self.filters == "dynamic":
            self.predict = [
                parts.dense(inner, self.num_heads * k, bias=False, **made)
                for k in self.kernel_sizes
            ]
        else:
            self.depth = [self._depthwise(inner, k) for k in self.kernel_sizes]
            self.point = [parts.dense(inner, embed_dim, **made) for _ in self.kernel_sizes]
        self.drop = layers.Dropout(self.dropout, **made)
        both = 2 * inner if self.filters == "dynamic" else inner
        self.out = parts.dense(both, embed_dim, **made)

    def _depthwise(self, channels: int, k: int) -> Any:
        made = {"dtype": self.dtype_policy}
        if k == 1:
            return layers.Identity(**made)
        each = {"dims": 1, "groups": channels, "padding": "valid", **made}
        return parts.conv(channels, channels, k, **each)

    def reach(self, k: int) -> tuple[int, int]:
        """How far a filter of that width looks back, and forward."""
        back = k - 1 if self.padding == "causal" else k // 2
        return back, k - 1 - back

    def prepare(self, query: Any, key: Any, value: Any) -> tuple[Any, Any, Any]:
        q, k = (parts.divide(z, self.num_heads) for z in (self.query(query), self.key(key)))
        return q, k, self.value(value)  # b heads n d twice, b n (heads d)

    def attention(self, x: tuple[Any, Any, Any], mask: Any) -> Any:
        q, k, _ = x
        return parts.weigh(q, k, scale=q.shape[-1] ** -0.5, mask=mask)

    def combine(self, a: Any, x: tuple[Any, Any, Any]) -> Any:
        v = x[2]
        y = parts.join(ops.matmul(self.drop(a), parts.divide(v, self.num_heads)))
        if self.mask_values:  # what no query looks at
            v = v * ops.cast(ops.any(a != 0, (1, 2)), v.dtype)[..., None]
        g = ops.cast(parts.softmax(self.gate), v.dtype)
        if self.filters == "dynamic":
            return self.out(ops.concatenate([y, self.slide(self.predicted(v, g), v)], -1))
        y = self.out(y)
        for i, k in enumerate(self.kernel_sizes):
            z = self.depth[i](ops.pad(v, ((0, 0), self.reach(k), (0, 0))))
            y = y + g[i] * self.point[i](z)
        return y

    def predicted(self, v: Any, g: Any) -> Any:
        """The gated sum of the filters, each at its place in the widest: ``b n heads k``."""
        total, (most, front) = 0.0, self.reach(max(self.kernel_sizes))
        for i, (k, predict) in enumerate(zip(self.kernel_sizes, self.predict, strict=True)):
            back, ahead = self.reach(k)
            f = ops.reshape(predict(v), (*ops.shape(v)[:2], self.num_heads, k))
            f = parts.softmax(f) * g[i]
            total = total + ops.pad(f, ((0, 0), (0, 0), (0, 0), (most - back, front - ahead)))
        return total

    def slide(self, f: Any, v: Any) -> Any:
        """The filter of each position over the values around it, without copies of them."""
        f, n = self.drop(f), ops.shape(v)[1]
        heads = ops.reshape(v, (ops.shape(v)[0], n, self.num_heads, -1))
        heads = ops.pad(heads, ((0, 0), self.reach(f.shape[-1]), (0, 0), (0, 0)))
        y = sum(f[..., i : i + 1] * heads[:, i : i + n] for i in range(f.shape[-1]))
        return ops.reshape(y, ops.shape(v))


@keras.saving.register_keras_serializable("regard")
class MUSELayer(SequenceAttention):
    """Adds self-attention, convolutions and a feed-forward branch to the input, all at once."""

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
        self.num_heads, self.hidden_dim, self.kernel_sizes = (
            num_heads,
            hidden_dim,
            tuple(kernel_sizes),
        )
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
        embed_dim, made = query[-1], {"dtype": self.dtype_policy}
        hidden_dim = 4 * embed_dim if self.hidden_dim is None else self.hidden_dim
        self.branches.build(query, key, value)
        self.norm = parts.layer_norm(embed_dim, **made)
        self.expand = parts.dense(embed_dim, hidden_dim, **made)
        self.contract = parts.dense(hidden_dim, embed_dim, **made)
        self.drop = layers.Dropout(self.dropout, **made)

    def prepare(self, query: Any, key: Any, value: Any) -> tuple[Any, Any, Any]:
        q, k, v = query, key, value
        if self.norm_first:
            q = self.norm(query)
            k = q if key is query else self.norm(key)
            v = k if value is key else self.norm(value)
        return query, q, self.branches.prepare(q, k, v)

    def attention(self, x: tuple[Any, Any, Any], mask: Any) -> Any:
        return self.branches.attention(x[2], mask)

    def combine(self, a: Any, x: tuple[Any, Any, Any]) -> Any:
        query, q, z = x
        y = self.branches.combine(a, z) + self.contract(ops.relu(self.expand(q)))
        y = query + self.drop(y)
        return y if self.norm_first else self.norm(y)
