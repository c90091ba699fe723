"""Multi-head attention: queries read keys and values, in several subspaces at once."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from ..core.check import divides, positive, probability
from . import parts
from .attention import SequenceAttention, Shape


def extend_mask(mask: Any, keys: Any, extra: int) -> Any:
    """Extend a mask to all keys, of which the last ``extra`` are open to every query."""
    if mask is None or not extra:
        return mask
    may = float(keras.backend.standardize_dtype(mask.dtype) == "bool")
    mask = ops.broadcast_to(mask, (*ops.shape(mask)[:-1], keys - extra))
    more = ops.full((*ops.shape(mask)[:-1], extra), may, dtype=mask.dtype)
    return ops.concatenate([mask, more], -1)


@keras.saving.register_keras_serializable("regard")
class MultiHead(SequenceAttention):
    """Gives each query a weighted sum of the values, one for each head."""

    def __init__(
        self,
        heads: int = 8,
        *,
        head_width: int | None = None,
        value_head_width: int | None = None,
        bias: bool = True,
        out_bias: bool | None = None,
        dropout: float = 0.0,
        bias_kv: bool = False,
        zero_kv: bool = False,
        causal: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        positive(heads=heads)
        positive(head_width=1 if head_width is None else head_width)
        positive(value_head_width=1 if value_head_width is None else value_head_width)
        probability(dropout=dropout)
        if causal and (bias_kv or zero_kv):
            raise ValueError("causal must be False with bias_kv or zero_kv: they stand at the end")
        self.heads, self.head_width, self.value_head_width = heads, head_width, value_head_width
        self.bias, self.out_bias, self.dropout = bias, out_bias, dropout
        self.bias_kv, self.zero_kv, self.causal = bias_kv, zero_kv, causal

    def construct(self, query: Shape, key: Shape, value: Shape) -> None:
        width = query[-1]
        if self.head_width is None:
            divides(width=width, heads=self.heads)
        each = width // self.heads if self.head_width is None else self.head_width
        each_value = each if self.value_head_width is None else self.value_head_width
        read, held = self.heads * each, self.heads * each_value
        made = {"bias": self.bias, "dtype": self.dtype_policy}
        self.query = parts.dense(width, read, **made)
        self.key = parts.dense(key[-1], read, **made)
        self.value = parts.dense(value[-1], held, **made)
        if self.bias_kv:
            self.extra_key = self._vector(read, "extra_key")
            self.extra_value = self._vector(held, "extra_value")
        self.drop = keras.layers.Dropout(self.dropout, dtype=self.dtype_policy)
        made["bias"] = self.bias if self.out_bias is None else self.out_bias
        self.out = parts.dense(held, width, **made)

    def _vector(self, width: int, name: str) -> Any:
        start = keras.initializers.RandomNormal(stddev=width**-0.5)
        return self.add_weight(shape=(width,), initializer=start, name=name)

    def prepare(self, query: Any, key: Any, value: Any) -> tuple[Any, Any, Any]:
        q, k, v = self.query(query), self.key(key), self.value(value)
        if self.bias_kv:
            one = ops.ones_like(k[:, :1, :1])  # one more key for each image
            k = ops.concatenate([k, one * self.extra_key], 1)
            v = ops.concatenate([v, one * self.extra_value], 1)
        if self.zero_kv:
            k, v = (ops.pad(x, ((0, 0), (0, 1), (0, 0))) for x in (k, v))
        return tuple(parts.divide(x, self.heads) for x in (q, k, v))  # b heads n d

    def attention(self, x: tuple[Any, Any, Any], mask: Any) -> Any:
        q, k, _ = x
        mask = extend_mask(mask, ops.shape(k)[2], self.bias_kv + self.zero_kv)
        return parts.weigh(q, k, scale=q.shape[-1] ** -0.5, mask=mask, causal=self.causal)

    def combine(self, a: Any, x: tuple[Any, Any, Any]) -> Any:
        return self.out(parts.join(ops.matmul(self.drop(a), x[2])))
