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
        heads: int = 8,
        *,
        kernels: Sequence[int] = (3, 15),
        filters: Literal["dynamic", "static"] = "dynamic",
        padding: Literal["same", "causal"] = "same",
        head_width: int | None = None,
        value_head_width: int | None = None,
        mask_values: bool = False,
        dropout: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        one_of(("dynamic", "static"), filters=filters)
        one_of(("same", "causal"), padding=padding)
        positive(heads=heads)
        positive(head_width=1 if head_width is None else head_width)
        positive(value_head_width=1 if value_head_width is None else value_head_width)
        probability(dropout=dropout)
        if not kernels:
            raise ValueError("kernels must hold at least one width, got ()")
        for k in kernels:
            (positive if padding == "causal" else odd)(kernels=k)
        self.heads, self.kernels, self.filters = heads, tuple(kernels), filters
        self.padding, self.mask_values, self.dropout = padding, mask_values, dropout
        self.head_width, self.value_head_width = head_width, value_head_width

    def construct(self, query: Shape, key: Shape, value: Shape) -> None:
        width, made = query[-1], {"dtype": self.dtype_policy}
        if self.head_width is None:
            divides(width=width, heads=self.heads)
        each = width // self.heads if self.head_width is None else self.head_width
        inner = self.heads * (each if self.value_head_width is None else self.value_head_width)
        self.query = parts.dense(width, self.heads * each, **made)
        self.key = parts.dense(width, self.heads * each, **made)
        self.value = parts.dense(width, inner, **made)
        # All kernels start with the same weight.
        size = (len(self.kernels),)
        self.gate = self.add_weight(shape=size, initializer="zeros", name="gate")
        if self.filters == "dynamic":
            self.predict = [
                parts.dense(inner, self.heads * k, bias=False, **made) for k in self.kernels
            ]
        else:
            self.depth = [self._depthwise(inner, k) for k in self.kernels]
            self.point = [parts.dense(inner, width, **made) for _ in self.kernels]
        self.drop = layers.Dropout(self.dropout, **made)
        both = 2 * inner if self.filters == "dynamic" else inner
        self.out = parts.dense(both, width, **made)

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
        q, k = (parts.divide(z, self.heads) for z in (self.query(query), self.key(key)))
        return q, k, self.value(value)  # b heads n d twice, b n (heads d)

    def attention(self, x: tuple[Any, Any, Any], mask: Any) -> Any:
        q, k, _ = x
        return parts.weigh(q, k, scale=q.shape[-1] ** -0.5, mask=mask)

    def combine(self, a: Any, x: tuple[Any, Any, Any]) -> Any:
        v = x[2]
        y = parts.join(ops.matmul(self.drop(a), parts.divide(v, self.heads)))
        if self.mask_values:  # what no query looks at
            v = v * ops.cast(ops.any(a != 0, (1, 2)), v.dtype)[..., None]
        g = ops.cast(parts.softmax(self.gate), v.dtype)
        if self.filters == "dynamic":
            return self.out(ops.concatenate([y, self.slide(self.predicted(v, g), v)], -1))
        y = self.out(y)
        for i, k in enumerate(self.kernels):
            z = self.depth[i](ops.pad(v, ((0, 0), self.reach(k), (0, 0))))
            y = y + g[i] * self.point[i](z)
        return y

    def predicted(self, v: Any, g: Any) -> Any:
        """The gated sum of the filters, each at its place in the widest: ``b n heads k``."""
        total, (most, front) = 0.0, self.reach(max(self.kernels))
        for i, (k, predict) in enumerate(zip(self.kernels, self.predict, strict=True)):
            back, ahead = self.reach(k)
            f = ops.reshape(predict(v), (*ops.shape(v)[:2], self.heads, k))
            f = parts.softmax(f) * g[i]
            total = total + ops.pad(f, ((0, 0), (0, 0), (0, 0), (most - back, front - ahead)))
        return total

    def slide(self, f: Any, v: Any) -> Any:
        """The filter of each position over the values around it, without copies of them."""
        f, n = self.drop(f), ops.shape(v)[1]
        heads = ops.reshape(v, (ops.shape(v)[0], n, self.heads, -1))
        heads = ops.pad(heads, ((0, 0), self.reach(f.shape[-1]), (0, 0), (0, 0)))
        y = sum(f[..., i : i + 1] * heads[:, i : i + n] for i in range(f.shape[-1]))
        return ops.reshape(y, ops.shape(v))


@keras.saving.register_keras_serializable("regard")
class MUSELayer(SequenceAttention):
    """Adds self-attention, convolutions and a feed-forward branch to the input, all at once."""

    def __init__(
        self,
        heads: int = 8,
        hidden: int | None = None,
        *,
        kernels: Sequence[int] = (3, 15),
        filters: Literal["dynamic", "static"] = "dynamic",
        padding: Literal["same", "causal"] = "same",
        mask_values: bool = False,
        norm_first: bool = False,
        dropout: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        positive(hidden=1 if hidden is None else hidden)
        self.heads, self.hidden, self.kernels = heads, hidden, tuple(kernels)
        self.filters, self.padding, self.mask_values = filters, padding, mask_values
        self.norm_first, self.dropout = norm_first, dropout
        self.branches = MUSE(
            heads,
            kernels=kernels,
            filters=filters,
            padding=padding,
            mask_values=mask_values,
            dropout=dropout,
            dtype=self.dtype_policy,
        )

    def construct(self, query: Shape, key: Shape, value: Shape) -> None:
        width, made = query[-1], {"dtype": self.dtype_policy}
        hidden = 4 * width if self.hidden is None else self.hidden
        self.branches.build(query, key, value)
        self.norm = parts.layer_norm(width, **made)
        self.expand = parts.dense(width, hidden, **made)
        self.contract = parts.dense(hidden, width, **made)
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
