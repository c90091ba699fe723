"""Simplified attention: multi-head attention whose queries, keys and values are the input."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from ..core.check import divides, positive, probability
from . import parts
from .attention import SequenceAttention, Shape


@keras.saving.register_keras_serializable("regard")
class SimplifiedAttention(SequenceAttention):
    """Gives each query a weighted sum of the values, without projecting what it compares."""

    def __init__(self, num_heads: int = 8, *, dropout: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        positive(num_heads=num_heads)
        probability(dropout=dropout)
        self.num_heads, self.dropout = num_heads, dropout

    def construct(self, query: Shape, key: Shape, value: Shape) -> None:
        embed_dim = query[-1]
        divides(embed_dim=embed_dim, num_heads=self.num_heads)
        self.drop = keras.layers.Dropout(self.dropout, dtype=self.dtype_policy)
        self.out = parts.dense(embed_dim, embed_dim, dtype=self.dtype_policy)

    def prepare(self, query: Any, key: Any, value: Any) -> tuple[Any, ...]:
        return tuple(parts.divide(x, self.num_heads) for x in (query, key, value))  # b heads n d

    def attention(self, x: tuple[Any, ...], mask: Any) -> Any:
        q, k, _ = x
        return parts.weigh(q, k, scale=q.shape[-1] ** -0.5, mask=mask)

    def combine(self, a: Any, x: tuple[Any, ...]) -> Any:
        return self.out(parts.join(ops.matmul(self.drop(a), x[2])))
