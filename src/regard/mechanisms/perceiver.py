"""Perceiver attention: a few latent vectors read an input of any length."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from ..core import pairwise
from ..core.attention import SequenceAttention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import divides, positive, probability

Prepared = tuple[Tensor, Tensor, Tensor, Tensor]  # the latents; q, k, v: b heads n d each


class Perceiver(SequenceAttention):
    r"""Reads an input into latent vectors by cross-attention, and runs an MLP on them.

    .. math::
        y = u + \operatorname{MLP}(\operatorname{LN}(u)), \quad
        u = z + W_o \operatorname{softmax}\big(d^{-1/2}\, Q(\operatorname{LN} z)\,
        K(\operatorname{LN} x)^\top\big)\, V(\operatorname{LN} x)

    in each head, for latents z, the queries, and an input x, keys and values; section 3.1 of the
    paper, and equations 1 to 4 of "Perceiver IO: A General Architecture for Structured Inputs &
    Outputs". The MLP has one hidden layer with the tanh form of GELU.

    In half precision, rounding can change which entry the softmax selects where scores are in
    the hundreds.

    Args:
        embed_dim: Channels of the latents.
        num_heads: Number of heads.
        kdim: Channels of the input; ``embed_dim`` by default.
        qk_dim: Channels of the projected queries and keys of all heads; ``kdim`` by default.
        value_dim: Channels of the projected values of all heads; ``qk_dim`` by default.
        mlp_ratio: Hidden channels of the MLP for each of the latents.
        residual: Add the latents to what they have read.
        dropout: Dropout rate of the attention weights.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        query (the latents) ``b n d``, key (the input) ``b m e``, value ``b m e``, map
        ``b heads n m``, y ``b n d``. The mask (True = may attend, or added to the scores) is
        broadcast to the map.

    Raises:
        ValueError: a size is not positive, ``num_heads`` does not divide the channels of queries or
            values, or the dropout is not a rate.

    >>> latents, pixels = torch.randn(2, 9, 64), torch.randn(2, 1000, 3)
    >>> Perceiver(64, kdim=3, qk_dim=32)(latents, pixels).shape
    torch.Size([2, 9, 64])
    """

    card = Card(
        title="Perceiver cross-attention",
        paper="Perceiver: General Perception with Iterative Attention",
        authors=(
            "Andrew Jaegle, Felix Gimeno, Andrew Brock, Andrew Zisserman, Oriol Vinyals, Joao "
            "Carreira"
        ),
        venue="ICML",
        year=2021,
        url="https://arxiv.org/abs/2103.03206",
        code="https://github.com/google-deepmind/deepmind-research",
        license="Apache-2.0",
        domain="sequence",
        computes="fc+matmul",
        applies="matmul",
        kind="sequence",
        equivariant=("pixels",),
        cost=dict(time="n^2 c + n c^2", memory="n c"),
        aliases=("perceiver_io", "latent_cross_attention"),
        differs=(
            "The authors' code gives a latent that may attend to nothing equal weights, and zeros "
            "instead of what it reads; here the weights are zeros too.",
        ),
    )
    axes = Axes(
        "query: b n d, key: b m e, value: b m e", "b heads n m", output="b n d", range="softmax"
    )

    def __init__(
        self,
        embed_dim: int,
        num_heads: int = 1,
        *,
        kdim: int | None = None,
        qk_dim: int | None = None,
        value_dim: int | None = None,
        mlp_ratio: int = 1,
        residual: bool = True,
        dropout: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        positive(embed_dim=embed_dim, mlp_ratio=mlp_ratio)
        kdim = embed_dim if kdim is None else kdim
        qk_dim = kdim if qk_dim is None else qk_dim
        value_dim = qk_dim if value_dim is None else value_dim
        positive(kdim=kdim)
        divides(qk_dim=qk_dim, num_heads=num_heads)
        divides(value_dim=value_dim, num_heads=num_heads)
        probability(dropout=dropout)
        super().__init__(d=embed_dim, e=kdim, heads=num_heads)
        self.num_heads, self.residual = num_heads, residual
        self.scale = (qk_dim // num_heads) ** -0.5
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self.query_norm = nn.LayerNorm(embed_dim, **factory)
        self.query = nn.Linear(embed_dim, qk_dim, **factory)
        self.norm = nn.LayerNorm(kdim, **factory)
        self.key = nn.Linear(kdim, qk_dim, **factory)
        self.value = nn.Linear(kdim, value_dim, **factory)
        self.drop = nn.Dropout(dropout)
        self.out = nn.Linear(value_dim, embed_dim, **factory)
        self.mlp_norm = nn.LayerNorm(embed_dim, **factory)
        self.expand = nn.Linear(embed_dim, mlp_ratio * embed_dim, **factory)
        self.reduce = nn.Linear(mlp_ratio * embed_dim, embed_dim, **factory)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weights by their fan-in; zero the biases."""
        super().reset_parameters()
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=layer.in_features**-0.5)
                nn.init.zeros_(layer.bias)

    def prepare(self, query: Tensor, key: Tensor, value: Tensor) -> Prepared:
        q = self.query(self.query_norm(query))
        projected = q, self.key(self.norm(key)), self.value(self.norm(value))
        q, k, v = (pairwise.split_heads(t, self.num_heads) for t in projected)
        return query, q, k, v

    def attention(self, z: Prepared, mask: Tensor | None) -> Tensor:
        _, q, k, _ = z
        return pairwise.attention_weights(q, k, scale=self.scale, mask=mask)

    def combine(self, a: Tensor, z: Prepared) -> Tensor:
        latents, _, _, v = z
        return self.join(self.drop(a) @ v, latents)

    def fused(self, z: Prepared, mask: Tensor | None) -> Tensor:
        latents, q, k, v = z
        dropout = self.drop.p if self.training else 0.0
        y = pairwise.scaled_dot_product(q, k, v, scale=self.scale, mask=mask, dropout=dropout)
        return self.join(y, latents)

    def join(self, y: Tensor, latents: Tensor) -> Tensor:
        """Merge the heads, project, add the latents, and run the MLP."""
        y = self.out(pairwise.merge_heads(y))
        y = latents + y if self.residual else y
        return y + self.reduce(gelu(self.expand(self.mlp_norm(y)), approximate="tanh"))
