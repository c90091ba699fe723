"""Cross-covariance attention: the channels of a head attend to each other, over all tokens."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..core import channel_map, pairwise
from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import divides, probability
from ..core.initial import small_projections

Prepared = tuple[Tensor, Tensor, Tensor]  # q, k, v: b heads d n each


class CrossCovariance(Attention):
    r"""Weighs the channels of each head by the cosines between its keys and queries.

    .. math::
        y = W_o [a_1 V_1; \dots; a_H V_H], \quad
        a_h = \operatorname{softmax}\big(\tau_h\, \hat Q_h \hat K_h^\top\big)

    where :math:`\hat Q_h` and :math:`\hat K_h` have a row for each channel, of length 1 over all
    tokens, and :math:`\tau_h` is learned; equation 2 of the paper.

    In half precision, rounding can change which entry the softmax selects where the factor of the
    cosines is large.

    Args:
        channels: :math:`C`.
        num_heads: :math:`H`.
        bias: Give the projections of queries, keys and values biases.
        dropout: Dropout rate of the attention weights.
        out_dropout: Dropout rate of the output.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b n c``, map ``b heads d d``, from the channels of the queries to those of the keys, y
        as x.

    Raises:
        ValueError: a size is not positive, ``num_heads`` does not divide the channels, or a dropout
            is not a rate.

    >>> CrossCovariance(64)(torch.randn(2, 63, 64)).shape
    torch.Size([2, 63, 64])
    """

    card = Card(
        title="Cross-covariance attention",
        paper="XCiT: Cross-Covariance Image Transformers",
        authors=(
            "Alaaeldin El-Nouby, Hugo Touvron, Mathilde Caron, Piotr Bojanowski, Matthijs Douze, "
            "Armand Joulin, Ivan Laptev, Natalia Neverova, Gabriel Synnaeve, Jakob Verbeek, Hervé "
            "Jegou"
        ),
        venue="NeurIPS",
        year=2021,
        url="https://arxiv.org/abs/2106.09681",
        code="https://github.com/facebookresearch/xcit",
        license="Apache-2.0",
        domain="channel",
        computes="fc+matmul",
        applies="matmul",
        kind="relation",
        equivariant=("pixels",),
        map_invariant=("pixels",),
        cost=dict(time="n c^2", memory="n c"),
        aliases=("xca", "xcit", "cross_covariance_attention"),
        differs=(
            "The paper divides the cosines by a temperature; the authors' code, and this file, "
            "multiplies them by one.",
        ),
    )
    axes = Axes("b n c", "b heads d d", range="softmax")

    def __init__(
        self,
        channels: int,
        num_heads: int = 8,
        *,
        bias: bool = False,
        dropout: float = 0.0,
        out_dropout: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        divides(channels=channels, num_heads=num_heads)
        super().__init__(c=channels, heads=num_heads, d=channels // num_heads)
        probability(dropout=dropout, out_dropout=out_dropout)
        self.num_heads = num_heads
        factory = {"device": device, "dtype": dtype}
        self.query = nn.Linear(channels, channels, bias, **factory)
        self.key = nn.Linear(channels, channels, bias, **factory)
        self.value = nn.Linear(channels, channels, bias, **factory)
        self.temperature = nn.Parameter(torch.empty(num_heads, 1, 1, **factory))
        self.drop = nn.Dropout(dropout)
        self.out = nn.Linear(channels, channels, **factory)
        self.drop_out = nn.Dropout(out_dropout)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weights with a small spread; zero the biases; factors of one."""
        small_projections(self)
        nn.init.ones_(self.temperature)

    def prepare(self, x: Tensor) -> Prepared:
        q, k, v = (
            pairwise.split_heads(layer(x), self.num_heads).transpose(-2, -1)
            for layer in (self.query, self.key, self.value)
        )
        return q, k, v

    def attention(self, z: Prepared) -> Tensor:
        q, k, _ = z
        return channel_map.cosine_weights(q, k, self.temperature)

    def combine(self, a: Tensor, z: Prepared) -> Tensor:
        _, _, v = z
        y = self.drop(a) @ v  # b heads d n
        return self.drop_out(self.out(y.flatten(1, 2).transpose(1, 2)))
