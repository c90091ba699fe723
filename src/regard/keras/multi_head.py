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
        num_heads: int = 8,
        *,
        head_dim: int | None = None,
        value_head_dim: int | None = None,
        bias: bool = True,
        out_bias: bool | None = None,
        dropout: float = 0.0,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        causal: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        positive(num_heads=num_heads)
        positive(head_dim=1 if head_dim is None else head_dim)
        positive(value_head_dim=1 if value_head_dim is None else value_head_dim)
        probability(dropout=dropout)
        if causal and (add_bias_kv or add_zero_attn):
            raise ValueError("causal must be False with bias_kv or zero_kv: they stand at the end")
        self.num_heads, self.head_dim, self.value_head_dim = num_heads, head_dim, value_head_dim
        self.bias, self.out_bias, self.dropout = bias, out_bias, dropout
        self.add_bias_kv, self.add_zero_attn, self.causal = add_bias_kv, add_zero_attn, causal

    def construct(self, query: Shape, key: Shape, value: Shape) -> None:
        embed_dim = query[-1]
        if self.head_dim is None:
            divides(embed_dim=embed_dim, num_heads=self.num_heads)
        each = embed_dim // self.num_heads if self.head_dim is None else self.head_dim
        each_value = each if self.value_head_dim is None else self.value_head_dim
        read, held = self.num_heads * each, self.num_heads * each_value
        made = {"bias": self.bias, "dtype": self.dtype_policy}
        self.query = parts.dense(embed_dim, read, **made)
        self.key = parts.dense(key[-1], read, **made)
        self.value = parts.dense(value[-1], held, **made)
        if self.add_bias_kv:
            self.extra_key = self._vector(read, "extra_key")
            self.extra_value = self._vector(held, "extra_value")
        self.drop = keras.layers.Dropout(self.dropout, dtype=self.dtype_policy)
        made["bias"] = self.bias if self.out_bias is None else self.out_bias
        self.out = parts.dense(held, embed_dim, **made)

    def _vector(self, embed_dim: int, name: str) -> Any:
        start = keras.initializers.RandomNormal(stddev=embed_dim**-0.5)
        return self.add_weight(shape=(embed_dim,), initializer=start, name=name)

    def prepare(self, query: Any, key: Any, value: Any) -> tuple[Any, Any, Any]:
        q, k, v = self.query(query), self.key(key), self.value(value)
        if self.add_bias_kv:
            one = ops.ones_like(k[:, :1, :1])  # one more key for each image
            k = ops.concatenate([k, one * self.extra_key], 1)
            v = ops.concatenate([v, one * self.extra_value], 1)
        if self.add_zero_attn:
            k, v = (ops.pad(x, ((0, 0), (0, 1), (0, 0))) for x in (k, v))
        return tuple(parts.divide(x, self.num_heads) for x in (q, k, v))  # b heads n d

    def attention(self, x: tuple[Any, Any, Any], mask: Any) -> Any:
        q, k, _ = x
        mask = extend_mask(mask, ops.shape(k)[2], self.add_bias_kv + self.add_zero_attn)
        return parts.weigh(q, k, scale=q.shape[-1] ** -0.5, mask=mask, causal=self.causal)

    def combine(self, a: Any, x: tuple[Any, Any, Any]) -> Any:
        return self.out(parts.join(ops.matmul(self.drop(a), x[2])))
