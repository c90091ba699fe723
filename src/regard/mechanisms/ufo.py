"""UFO: attention without softmax, whose cost grows with the tokens and not with their pairs."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..core import pairwise
from ..core.attention import SequenceAttention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import divides, positive
from ..core.tracing import leaf

TINY = 1e-12


@leaf
def openness(mask: Tensor | None, k: Tensor) -> Tensor | None:
    """How far each key is open to each query; a bias counts by its exponential, as in a softmax."""
    if mask is None:
        return None
    return mask.to(k.dtype) if mask.dtype == torch.bool else mask.exp().to(k.dtype)


class UFO(SequenceAttention):
    r"""Sums keys times values over all tokens, normalizes the sums, and has queries read them.

    .. math::
        y = W_o [y_1; \dots; y_H], \quad
        y_h = \mathrm{XN}(Q_h)\, \mathrm{XN}(K_h^\top V_h), \quad
        \mathrm{XN}(u) = \gamma_h \frac{u}{\lVert u \rVert_2}

    with the norms of the rows, those of a query and of a channel of the keys; section 3 of the
    paper. Written out, the map is :math:`a_{ij} = \mathrm{XN}(q_i)^\top D k_j`, where the diagonal
    D holds what the norm multiplies each row of :math:`K^\top V` by.

    Args:
        embed_dim: Channels of queries, keys, values and output.
        num_heads: :math:`H`.
        head_dim: Channels of a head's queries and keys; ``embed_dim / heads`` if none.
        value_head_dim: Channels of a head's values; ``head_dim`` by default.
        bias: Give the projections biases.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        query ``b n d``, key ``b m d``, value ``b m d``, map ``b heads n m``, y ``b n d``. The mask
        is broadcast to the map; True = may attend. A key that is closed to a query is not in the
        sums that it reads, and a bias multiplies the key there by its exponential.

    Raises:
        ValueError: a size is not positive, or the heads do not divide the width.

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
            "No code of the author's is known. The paper can be read to normalize the columns of "
            "the sums; here it is their rows, and one scale for each head serves both norms, as "
            "in the re-implementation that people know it from.",
            "A row of zeros stays one; that re-implementation divides by zero there.",
            "The paper has no mask, and no weights of single keys; a query here reads what it "
            "would read if the keys that are closed to it did not exist.",
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
        positive(embed_dim=embed_dim, num_heads=num_heads)
        if head_dim is None:
            divides(embed_dim=embed_dim, num_heads=num_heads)
            head_dim = embed_dim // num_heads
        value_head_dim = head_dim if value_head_dim is None else value_head_dim
        positive(head_dim=head_dim, value_head_dim=value_head_dim)
        self.num_heads = num_heads
        factory = {"device": device, "dtype": dtype}
        self.query = nn.Linear(embed_dim, num_heads * head_dim, bias, **factory)
        self.key = nn.Linear(embed_dim, num_heads * head_dim, bias, **factory)
        self.value = nn.Linear(embed_dim, num_heads * value_head_dim, bias, **factory)
        self.gamma = nn.Parameter(torch.ones(num_heads, 1, 1, **factory))
        self.out = nn.Linear(num_heads * value_head_dim, embed_dim, bias, **factory)

    def reset_parameters(self) -> None:
        """Draw new projections; the scales start at one."""
        super().reset_parameters()
        nn.init.ones_(self.gamma)

    def prepare(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        projected = self.query(query), self.key(key), self.value(value)
        q, k, v = (pairwise.split_heads(x, self.num_heads) for x in projected)  # b heads n d
        # Both scales at once: a factor for each query is cheaper than one for each number.
        return q * (self.gamma**2 / lengths(q).unsqueeze(-1)), k, v

    def attention(self, x: tuple[Tensor, Tensor, Tensor], mask: Tensor | None) -> Tensor:
        q, k, v = x
        w = openness(mask, k)
        if w is None:
            return (q / lengths(k.mT @ v).unsqueeze(-2)) @ k.mT
        pairs = (k.unsqueeze(-1) * v.unsqueeze(-2)).flatten(3)  # b heads m (d e)
        sums = (w.expand(*w.shape[:-1], k.shape[2]) @ pairs).unflatten(3, (k.shape[3], -1))
        return (q / lengths(sums)) @ k.mT * w

    def combine(self, a: Tensor, x: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        return self.out(pairwise.merge_heads(a @ x[2]))

    def fused(self, x: tuple[Tensor, Tensor, Tensor], mask: Tensor | None) -> Tensor | None:
        if mask is not None:
            return None
        q, k, v = x
        sums = k.mT @ v  # b heads d e
        return self.out(pairwise.merge_heads(q @ (sums / lengths(sums).unsqueeze(-1))))


def lengths(x: Tensor) -> Tensor:
    """The norms of the rows, none of them zero."""
    return torch.linalg.vector_norm(x, dim=-1).clamp_min(TINY)
