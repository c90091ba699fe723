"""Simplified attention: multi-head attention without query, key and value projections."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from ..core.check import divides, positive, probability
from . import parts
from .attention import SequenceAttention, Shape
from .parts import Tensor

Prepared = tuple[Tensor, Tensor, Tensor]  # q, k, v: b heads n d


@keras.saving.register_keras_serializable("regard")
class SimplifiedAttention(SequenceAttention):
    """Applies multi-head attention to the inputs themselves; only its output is projected."""

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

    def prepare(self, query: Tensor, key: Tensor, value: Tensor) -> Prepared:
        q, k, v = (parts.split_heads(x, self.num_heads) for x in (query, key, value))
        return q, k, v

    def attention(self, z: Prepared, mask: Tensor | None) -> Tensor:
        q, k, _ = z
        return parts.attention_weights(q, k, scale=q.shape[-1] ** -0.5, mask=mask)

    def combine(self, a: Tensor, z: Prepared) -> Tensor:
        _, _, v = z
        return self.out(parts.merge_heads(ops.matmul(self.drop(a), v)))
