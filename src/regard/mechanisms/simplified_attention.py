"""Simplified attention: multi-head attention without query, key and value projections."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..core import pairwise
from ..core.attention import SequenceAttention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import divides, probability

Prepared = tuple[Tensor, Tensor, Tensor]  # q, k, v: b heads n d


class SimplifiedAttention(SequenceAttention):
    r"""Applies multi-head attention to the inputs themselves; only its output is projected.

    .. math::
        a_h = \operatorname{softmax}\Big(\frac{Q_h K_h^\top}{\sqrt{d/H}} + M\Big), \quad
        y = W_o [a_1 V_1; \dots; a_H V_H]

    where :math:`Q_h`, :math:`K_h` and :math:`V_h` are slices of :math:`d/H` channels of the inputs
    and M is the mask; section 3.2 of the paper with only the last of its four projections.

    Args:
        embed_dim: :math:`d`, channels of queries, keys, values and output.
        num_heads: :math:`H`.
        dropout: Dropout rate of the attention weights.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        query ``b n d``, key ``b m d``, value ``b m d``, map ``b heads n m``, y ``b n d``. The mask
        is broadcast to the map; True = may attend, or it is added to the scores.

    Raises:
        ValueError: a size is not positive, the heads do not divide the embedding dimension, or the
            dropout is not a rate.

    >>> attention = SimplifiedAttention(64, num_heads=4)
    >>> attention(torch.randn(2, 9, 64), torch.randn(2, 5, 64)).shape
    torch.Size([2, 9, 64])
    """

    card = Card(
        title="Simplified attention",
        paper="Attention Is All You Need",
        authors=(
            "Ashish Vaswani, Noam Shazeer, Niki Parmar, Jakob Uszkoreit, Llion Jones, Aidan N. "
            "Gomez, Lukasz Kaiser, Illia Polosukhin"
        ),
        venue="NeurIPS",
        year=2017,
        url="https://arxiv.org/abs/1706.03762",
        code="https://github.com/xmu-xiaoma666/External-Attention-pytorch",
        license="MIT",
        domain="sequence",
        computes="matmul",
        applies="matmul",
        kind="sequence",
        equivariant=("pixels",),
        cost=dict(time="n^2 c + n c^2", memory="n c"),
        aliases=(
            "simplified_sdpa",
            "simplified_self_attention",
            "simplified_scaled_dot_product_attention",
        ),
        differs=(
            "No paper describes it: it is the paper's attention without the projections of "
            "queries, keys and values, as in the re-implementation that made it known.",
            "There is no dropout by default; that re-implementation has dropout=0.1.",
        ),
    )
    axes = Axes(
        "query: b n d, key: b m d, value: b m d", "b heads n m", output="b n d", range="softmax"
    )

    def __init__(
        self,
        embed_dim: int,
        num_heads: int = 8,
        *,
        dropout: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(d=embed_dim, heads=num_heads)
        divides(embed_dim=embed_dim, num_heads=num_heads)
        probability(dropout=dropout)
        self.num_heads = num_heads
        self.scale = (embed_dim // num_heads) ** -0.5
        self.drop = nn.Dropout(dropout)
        self.out = nn.Linear(embed_dim, embed_dim, device=device, dtype=dtype)

    def prepare(self, query: Tensor, key: Tensor, value: Tensor) -> Prepared:
        q, k, v = (pairwise.split_heads(x, self.num_heads) for x in (query, key, value))
        return q, k, v

    def attention(self, z: Prepared, mask: Tensor | None) -> Tensor:
        q, k, _ = z
        return pairwise.attention_weights(q, k, scale=self.scale, mask=mask)

    def combine(self, a: Tensor, z: Prepared) -> Tensor:
        _, _, v = z
        return self.out(pairwise.merge_heads(self.drop(a) @ v))

    def fused(self, z: Prepared, mask: Tensor | None) -> Tensor:
        q, k, v = z
        dropout = self.drop.p if self.training else 0.0
        y = pairwise.scaled_dot_product(q, k, v, scale=self.scale, mask=mask, dropout=dropout)
        return self.out(pairwise.merge_heads(y))
