"""Class attention: only the class token asks, the patches are read."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from ..core import pairwise
from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import divides, probability
from ..core.initial import small_projections

Prepared = tuple[Tensor, Tensor, Tensor, Tensor]  # x, and q, k, v: b heads n d each


class ClassAttention(Attention):
    r"""Computes the class token from itself and all patches, in each head.

    .. math::
        y = W_o [a_1 V_1; \dots; a_H V_H], \quad
        a_h = \operatorname{softmax}\big(d^{-1/2}\, q_h K_h^\top\big), \quad
        q = W_q x_0, \quad K = W_k x, \quad V = W_v x

    where :math:`x_0` is the class token, the first one; equations 6 to 9 of the paper.

    In half precision, rounding can change which entry the softmax selects where scores are in
    the hundreds.

    Args:
        channels: :math:`C`.
        num_heads: :math:`H`.
        bias: Give the projections of queries, keys and values biases.
        scale: Factor of the scores; :math:`d^{-1/2}` by default, for d channels of a head.
        keep_patches: Return all tokens, of which the patches are unchanged.
        dropout: Dropout rate of the attention weights.
        out_dropout: Dropout rate of the output.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b n c``, map ``b heads 1 n``, y ``b 1 c``, or as x with ``keep_patches``.

    Raises:
        ValueError: a size is not positive, ``num_heads`` does not divide the channels, or a dropout
            is not a rate.

    >>> ClassAttention(64)(torch.randn(2, 1 + 63, 64)).shape
    torch.Size([2, 1, 64])
    """

    card = Card(
        title="Class attention",
        paper="Going deeper with Image Transformers",
        authors=(
            "Hugo Touvron, Matthieu Cord, Alexandre Sablayrolles, Gabriel Synnaeve, Hervé Jégou"
        ),
        venue="ICCV",
        year=2021,
        url="https://arxiv.org/abs/2103.17239",
        code="https://github.com/facebookresearch/deit",
        license="Apache-2.0",
        domain="sequence",
        computes="fc+matmul",
        applies="matmul",
        kind="sequence",
        cost=dict(time="n c^2", memory="n c"),
        aliases=("cait", "class_attn"),
        differs=(
            "The residual and the learned scale of its branch belong to the block around it.",
            "XCiT's class returns the patches too, unchanged (keep_patches=True).",
        ),
    )
    axes = Axes("b n c", "b heads 1 n", output="b 1 c", range="softmax")
    may_be_empty = ()

    def __init__(
        self,
        channels: int,
        num_heads: int = 8,
        *,
        bias: bool = False,
        scale: float | None = None,
        keep_patches: bool = False,
        dropout: float = 0.0,
        out_dropout: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        divides(channels=channels, num_heads=num_heads)
        super().__init__(c=channels, heads=num_heads)
        probability(dropout=dropout, out_dropout=out_dropout)
        self.num_heads, self.keep_patches = num_heads, keep_patches
        self.scale = (channels // num_heads) ** -0.5 if scale is None else scale
        if keep_patches:
            self.axes = replace(self.axes, output=self.axes.input)
        factory = {"device": device, "dtype": dtype}
        self.query = nn.Linear(channels, channels, bias, **factory)
        self.key = nn.Linear(channels, channels, bias, **factory)
        self.value = nn.Linear(channels, channels, bias, **factory)
        self.drop = nn.Dropout(dropout)
        self.out = nn.Linear(channels, channels, **factory)
        self.drop_out = nn.Dropout(out_dropout)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weights with a small spread; zero the biases."""
        small_projections(self)

    def prepare(self, x: Tensor) -> Prepared:
        projected = self.query(x[:, :1]), self.key(x), self.value(x)
        q, k, v = (pairwise.split_heads(t, self.num_heads) for t in projected)
        return x, q, k, v

    def attention(self, z: Prepared) -> Tensor:
        _, q, k, _ = z
        return pairwise.attention_weights(q, k, scale=self.scale)

    def combine(self, a: Tensor, z: Prepared) -> Tensor:
        x, _, _, v = z
        return self.join(self.drop(a) @ v, x)

    def fused(self, z: Prepared) -> Tensor:
        x, q, k, v = z
        dropout = self.drop.p if self.training else 0.0
        return self.join(pairwise.scaled_dot_product(q, k, v, scale=self.scale, dropout=dropout), x)

    def join(self, y: Tensor, x: Tensor) -> Tensor:
        """Merge the heads of the class token, project it, and append the patches if kept."""
        y = self.drop_out(self.out(pairwise.merge_heads(y)))
        return torch.cat([y, x[:, 1:]], 1) if self.keep_patches else y
