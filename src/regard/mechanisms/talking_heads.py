"""Talking-heads attention: the heads are mixed before and after the softmax."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..core import pairwise, precision
from ..core.attention import Attention, Tap
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import divides, probability

Prepared = tuple[Tensor, Tensor, Tensor]  # q, k, v: b heads n d each


class TalkingHeads(Attention):
    r"""Applies multi-head self-attention with linear maps between the heads.

    .. math::
        y = W_o [a_1 V_1; \dots; a_H V_H], \quad
        a_h = \textstyle\sum_g w_{hg}\, s_g + c_h, \quad
        s_h = \operatorname{softmax}\big(\textstyle\sum_g l_{hg}\, d^{-1/2} Q_g K_g^\top + b_h\big)

    with learned l, b, w and c; equations 2 to 8 of the paper. The map a, which multiplies the
    values, does not sum to one.

    In half precision, rounding can change which entry the softmax selects where scores are in
    the hundreds.

    Args:
        channels: :math:`C`.
        num_heads: :math:`H`.
        bias: Give the projections of queries, keys and values biases.
        mix_bias: Give the maps between the heads biases, b and c.
        scale: Factor of the scores; :math:`d^{-1/2}` by default, for d channels of a head.
        dropout: Dropout rate of the attention weights.
        out_dropout: Dropout rate of the output.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b n c``, map a ``b heads n n``, y as x; the part ``tap_softmax`` is s, ``b heads n n``.

    Raises:
        ValueError: a size is not positive, ``num_heads`` does not divide the channels, or a dropout
            is not a rate.

    >>> TalkingHeads(64)(torch.randn(2, 63, 64)).shape
    torch.Size([2, 63, 64])
    """

    card = Card(
        title="Talking-heads attention",
        paper="Talking-Heads Attention",
        authors="Noam Shazeer, Zhenzhong Lan, Youlong Cheng, Nan Ding, Le Hou",
        venue="arXiv",
        year=2020,
        url="https://arxiv.org/abs/2003.02436",
        code="https://github.com/facebookresearch/deit",
        license="Apache-2.0",
        domain="spatial",
        computes="fc+matmul",
        applies="matmul",
        kind="relation",
        equivariant=("pixels",),
        cost=dict(time="n^2 c + n c^2", memory="n^2 + n c"),
        aliases=("th_attention", "talking_head_attention", "talking_heads_attention"),
        differs=(
            "The default is the form of CaiT, whose maps between the heads have biases; those of "
            "the paper have none (mix_bias=False), and may change the number of heads.",
        ),
    )
    axes = Axes("b n c", "b heads n n", parts=dict(softmax="b heads n n"))
    may_be_empty = ()

    def __init__(
        self,
        channels: int,
        num_heads: int = 8,
        *,
        bias: bool = False,
        mix_bias: bool = True,
        scale: float | None = None,
        dropout: float = 0.0,
        out_dropout: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        divides(channels=channels, num_heads=num_heads)
        super().__init__(c=channels, heads=num_heads)
        probability(dropout=dropout, out_dropout=out_dropout)
        self.num_heads = num_heads
        self.scale = (channels // num_heads) ** -0.5 if scale is None else scale
        factory = {"device": device, "dtype": dtype}
        self.query = nn.Linear(channels, channels, bias, **factory)
        self.key = nn.Linear(channels, channels, bias, **factory)
        self.value = nn.Linear(channels, channels, bias, **factory)
        self.mix_scores = nn.Conv2d(num_heads, num_heads, 1, bias=mix_bias, **factory)
        self.tap_softmax = Tap()
        self.mix_weights = nn.Conv2d(num_heads, num_heads, 1, bias=mix_bias, **factory)
        self.drop = nn.Dropout(dropout)
        self.out = nn.Linear(channels, channels, **factory)
        self.drop_out = nn.Dropout(out_dropout)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weights with a small spread; zero the biases."""
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.trunc_normal_(parameter, std=0.02)
            else:
                nn.init.zeros_(parameter)

    def prepare(self, x: Tensor) -> Prepared:
        q, k, v = (
            pairwise.split_heads(layer(x), self.num_heads)
            for layer in (self.query, self.key, self.value)
        )
        return q, k, v

    def attention(self, z: Prepared) -> Tensor:
        q, k, _ = z
        scores = self.mix_scores((q * self.scale) @ k.transpose(-2, -1))
        return self.mix_weights(self.tap_softmax(precision.softmax(scores, -1)))

    def combine(self, a: Tensor, z: Prepared) -> Tensor:
        _, _, v = z
        return self.drop_out(self.out(pairwise.merge_heads(self.drop(a) @ v)))
