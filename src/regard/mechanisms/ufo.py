"""UFO: attention without softmax, at a cost linear in the number of tokens."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..core import pairwise, precision
from ..core.attention import SequenceAttention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import head_dims
from ..core.tracing import leaf

TINY = 1e-12
Prepared = tuple[Tensor, Tensor, Tensor]  # normalized queries, keys, values: b heads n d


class UFO(SequenceAttention):
    r"""Multiplies normalized queries by the normalized product of keys and values.

    .. math::
        y = W_o [y_1; \dots; y_H], \quad
        y_h = \mathrm{XN}(Q_h)\, \mathrm{XN}(K_h^\top V_h), \quad
        \mathrm{XN}(u) = \gamma_h \frac{u}{\lVert u \rVert_2}

    where XN normalizes rows: one per query, or per channel of the keys; section 3 of the paper. The
    map is :math:`a_{ij} = \mathrm{XN}(q_i)^\top D k_j` with the diagonal matrix D of the factors by
    which XN multiplies the rows of :math:`K^\top V`.

    Args:
        embed_dim: Channels of queries, keys, values and output.
        num_heads: :math:`H`.
        head_dim: Channels of a head's queries and keys; ``embed_dim / num_heads`` by default.
        value_head_dim: Channels of a head's values; ``head_dim`` by default.
        bias: Give the projections biases.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        query ``b n d``, key ``b m d``, value ``b m d``, map ``b heads n m``, y ``b n d``. The mask
        is broadcast to the map; True = may attend. Keys masked for a query are left out of its sum
        over the keys; a bias multiplies the keys by its exponential.

    Raises:
        ValueError: a size is not positive, or the heads do not divide the embedding dimension.

    >>> attention = UFO(64, num_heads=4)
    >>> attention(torch.randn(2, 9, 64), torch.randn(2, 5, 64)).shape
    torch.Size([2, 9, 64])
    """

    card = Card(
        title="UFO attention",
        paper="UFO-ViT: High Performance Linear Vision Transformer without Softmax",
        authors="Jeong-geun Song",
        venue="arXiv",
        year=2021,
        url="https://arxiv.org/abs/2109.14382",
        code="https://github.com/xmu-xiaoma666/External-Attention-pytorch",
        license="MIT",
        domain="sequence",
        computes="fc+matmul",
        applies="matmul",
        kind="sequence",
        equivariant=("pixels",),
        cost=dict(time="n c^2", memory="n c"),
        aliases=("ufo", "ufo_vit", "ufo_attention"),
        differs=(
            "No code of the author's is known. The paper can be read as normalizing the columns of "
            "the key-value product; here its rows are normalized, and both norms share one scale "
            "per head, as in the re-implementation that made it known.",
            "A row of zeros stays zero; that re-implementation divides by zero there.",
            "The paper has no mask; here a query gets the output that it would get if the keys "
            "masked for it did not exist.",
        ),
    )
    axes = Axes("query: b n d, key: b m d, value: b m d", "b heads n m", output="b n d")

    def __init__(
        self,
        embed_dim: int,
        num_heads: int = 8,
        *,
        head_dim: int | None = None,
        value_head_dim: int | None = None,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(d=embed_dim, heads=num_heads)
        head_dim, value_head_dim = head_dims(
            num_heads, head_dim, value_head_dim, embed_dim=embed_dim
        )
        self.num_heads = num_heads
        factory = {"device": device, "dtype": dtype}
        self.query = nn.Linear(embed_dim, num_heads * head_dim, bias, **factory)
        self.key = nn.Linear(embed_dim, num_heads * head_dim, bias, **factory)
        self.value = nn.Linear(embed_dim, num_heads * value_head_dim, bias, **factory)
        self.gamma = nn.Parameter(torch.ones(num_heads, 1, 1, **factory))
        self.out = nn.Linear(num_heads * value_head_dim, embed_dim, bias, **factory)

    def reset_parameters(self) -> None:
        """Reset the projections, and the scales to one."""
        super().reset_parameters()
        nn.init.ones_(self.gamma)

    def prepare(self, query: Tensor, key: Tensor, value: Tensor) -> Prepared:
        projected = self.query(query), self.key(key), self.value(value)
        q, k, v = (pairwise.split_heads(x, self.num_heads) for x in projected)
        # The scales of both norms, here where one factor per query applies them.
        return (q * (self.gamma**2 / _row_norms(q).unsqueeze(-1))).to(q.dtype), k, v

    def attention(self, z: Prepared, mask: Tensor | None) -> Tensor:
        q, k, v = z
        w = _key_weights(mask, k)
        if w is None:
            norms = _row_norms(precision.matmul(k.transpose(-2, -1), v)).unsqueeze(-2)
            return precision.matmul(q / norms, k.transpose(-2, -1))
        products = precision.widen(k).unsqueeze(-1) * v.unsqueeze(-2)
        products = products.flatten(3)  # b heads m (d e)
        # One key-value product per query, over the keys that it may attend to.
        sums = precision.matmul(w.expand(*w.shape[:-1], k.shape[2]), products)
        norms = _row_norms(sums.unflatten(3, (k.shape[3], -1)))
        return precision.matmul(q / norms, k.transpose(-2, -1)) * w

    def combine(self, a: Tensor, z: Prepared) -> Tensor:
        _, _, v = z
        return self.out(pairwise.merge_heads(precision.matmul(a, v).to(v.dtype)))

    def fused(self, z: Prepared, mask: Tensor | None) -> Tensor | None:
        if mask is not None:
            return None
        q, k, v = z
        sums = precision.matmul(k.transpose(-2, -1), v)  # b heads d e
        sums = sums / _row_norms(sums).unsqueeze(-1)
        return self.out(pairwise.merge_heads(q @ sums.to(q.dtype)))


@leaf
def _key_weights(mask: Tensor | None, k: Tensor) -> Tensor | None:
    """Return the weight of each key for each query: 0 or 1, or the exponential of a bias."""
    if mask is None:
        return None
    return mask.to(k.dtype) if mask.dtype == torch.bool else mask.exp().to(k.dtype)


def _row_norms(x: Tensor) -> Tensor:
    """Return the 2-norms of the rows, clamped to stay above zero."""
    return torch.linalg.vector_norm(precision.widen(x), dim=-1).clamp_min(TINY)
