"""Multi-head attention: scaled dot-product attention in parallel subspaces."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from ..core.check import head_dims, positive, probability
from . import parts
from .attention import SequenceAttention, Shape
from .parts import Tensor

Prepared = tuple[Tensor, Tensor, Tensor]  # q, k, v: b heads n d


def _extend_mask(mask: Tensor | None, keys: Any, extra: int) -> Tensor | None:
    """Extend a mask to all keys, of which every query may attend to the last ``extra``."""
    if mask is None or not extra:
        return mask
    open_value = float(keras.backend.standardize_dtype(mask.dtype) == "bool")
    axes = ops.shape(mask)[:-1]
    extra_keys = ops.full((*axes, extra), open_value, dtype=mask.dtype)
    return ops.concatenate([ops.broadcast_to(mask, (*axes, keys - extra)), extra_keys], -1)


@keras.saving.register_keras_serializable("regard")
class MultiHead(SequenceAttention):
    """Computes a weighted sum of the values for each query, in each head."""

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
            raise ValueError(
                "causal must be False with add_bias_kv or add_zero_attn: they are after every query"
            )
        self.num_heads, self.head_dim, self.value_head_dim = num_heads, head_dim, value_head_dim
        self.bias, self.out_bias, self.dropout = bias, out_bias, dropout
        self.add_bias_kv, self.add_zero_attn, self.causal = add_bias_kv, add_zero_attn, causal

    def construct(self, query: Shape, key: Shape, value: Shape) -> None:
        embed_dim = query[-1]
        head_dim, value_head_dim = head_dims(
            self.num_heads, self.head_dim, self.value_head_dim, embed_dim=embed_dim
        )
        key_dim, value_dim = self.num_heads * head_dim, self.num_heads * value_head_dim
        out_bias = self.bias if self.out_bias is None else self.out_bias
        factory = {"dtype": self.dtype_policy}
        self.query = parts.dense(embed_dim, key_dim, bias=self.bias, **factory)
        self.key = parts.dense(key[-1], key_dim, bias=self.bias, **factory)
        self.value = parts.dense(value[-1], value_dim, bias=self.bias, **factory)
        if self.add_bias_kv:
            self.extra_key = self._vector(key_dim, "extra_key")
            self.extra_value = self._vector(value_dim, "extra_value")
        self.drop = keras.layers.Dropout(self.dropout, **factory)
        self.out = parts.dense(value_dim, embed_dim, bias=out_bias, **factory)

    def _vector(self, size: int, name: str) -> keras.Variable:
        initializer = keras.initializers.RandomNormal(stddev=size**-0.5)
        return self.add_weight(shape=(size,), initializer=initializer, name=name)

    def prepare(self, query: Tensor, key: Tensor, value: Tensor) -> Prepared:
        q, k, v = self.query(query), self.key(key), self.value(value)
        if self.add_bias_kv:
            ones = ops.ones_like(k[:, :1, :1])  # b 1 1
            k = ops.concatenate([k, ones * self.extra_key], 1)
            v = ops.concatenate([v, ones * self.extra_value], 1)
        if self.add_zero_attn:
            k, v = (ops.pad(x, ((0, 0), (0, 1), (0, 0))) for x in (k, v))
        q, k, v = (parts.split_heads(x, self.num_heads) for x in (q, k, v))
        return q, k, v

    def attention(self, z: Prepared, mask: Tensor | None) -> Tensor:
        q, k, _ = z
        mask = _extend_mask(mask, ops.shape(k)[2], self.add_bias_kv + self.add_zero_attn)
        scale = q.shape[-1] ** -0.5
        return parts.attention_weights(q, k, scale=scale, mask=mask, causal=self.causal)

    def combine(self, a: Tensor, z: Prepared) -> Tensor:
        _, _, v = z
        return self.out(parts.merge_heads(ops.matmul(self.drop(a), v)))
