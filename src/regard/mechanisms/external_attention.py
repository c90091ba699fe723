"""External attention: tokens attend to a learned memory that all images share."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn

from ..core import grid, pairwise, precision
from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import one_of, positive

Prepared = tuple[Tensor, Tensor]  # x and its tokens, b n c or b heads n d


class ExternalAttention(Attention):
    r"""Lets tokens attend to a small learned memory of keys and values, shared by all images.

    .. math::
        a = \operatorname{softmax}_n(M_k x), \quad
        y = M_v \frac{a}{\epsilon + \sum_s a_s}

    with a softmax over the n tokens and a sum over the S slots of the memories; algorithm 1 of the
    paper. The ``block`` form puts it between two convolutions, adds the input and ends with ReLU;
    the ``heads`` form expands the tokens four times and splits them into heads that share the
    memories.

    In half precision, rounding can change which entry the softmax selects where scores are in
    the hundreds.

    Args:
        embed_dim: Channels of a token, or of the feature map in the ``block`` form.
        num_slots: :math:`S`.
        form: ``tokens``, ``block`` or ``heads``.
        num_heads: Number of heads in the ``heads`` form, which split the expanded tokens.
        eps: :math:`\epsilon`.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b n c``, map ``b n s``, y as x; in the ``block`` form x and y ``b c h w``; in the
        ``heads`` form the map is ``b heads n s``. The map is the softmax, before the division.

    Raises:
        ValueError: a size is not positive, ``num_heads`` does not divide four times ``embed_dim``,
            or the form is unknown.

    >>> ExternalAttention(64)(torch.randn(2, 49, 64)).shape
    torch.Size([2, 49, 64])
    """

    card = Card(
        title="External Attention",
        paper="Beyond Self-attention: External Attention using Two Linear Layers for Visual Tasks",
        authors="Meng-Hao Guo, Zheng-Ning Liu, Tai-Jiang Mu, Shi-Min Hu",
        venue="arXiv",
        year=2021,
        url="https://arxiv.org/abs/2105.02358",
        code="https://github.com/MenghaoGuo/EANet",
        license="none stated",
        domain="spatial",
        computes="fc",
        applies="matmul",
        kind="sequence",
        equivariant=("pixels",),
        cost=dict(time="n c", memory="n c"),
        aliases=("external", "eanet"),
        differs=(
            "The default is the attention itself; the authors' segmentation network wraps it in "
            "convolutions, a batch norm and a residual connection (form='block').",
            "The authors' multi-head code expands the tokens four times and has biases in the "
            "memories (form='heads'); the paper shows neither.",
            "In the authors' code the value memory starts as the transpose of the key memory and "
            "shares its storage until the model is moved; here the two are separate.",
        ),
    )
    axes = Axes("b n c", "b n s", range="softmax n")

    def __init__(
        self,
        embed_dim: int,
        num_slots: int = 64,
        *,
        form: Literal["tokens", "block", "heads"] = "tokens",
        num_heads: int = 32,
        eps: float = 1e-9,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=embed_dim)
        positive(embed_dim=embed_dim, num_slots=num_slots, num_heads=num_heads)
        one_of(("tokens", "block", "heads"), form=form)
        if eps < 0:
            raise ValueError(f"eps must not be below zero, got {eps}")
        self.form = form
        self.eps = eps
        factory = {"device": device, "dtype": dtype}
        token_dim, bias = embed_dim, False
        if form == "block":
            self.axes = replace(self.axes, input="b c h w", output="b c h w")
            self.before = nn.Conv2d(embed_dim, embed_dim, 1, **factory)
        elif form == "heads":
            if 4 * embed_dim % num_heads:
                raise ValueError(
                    f"num_heads ({num_heads}) must divide four times embed_dim ({embed_dim})"
                )
            self.num_heads = num_heads
            self.axes = replace(self.axes, map="b heads n s")
            self.before = nn.Linear(embed_dim, 4 * embed_dim, **factory)
            token_dim, bias = 4 * embed_dim // num_heads, True
        self.keys = nn.Linear(token_dim, num_slots, bias, **factory)
        self.values = nn.Linear(num_slots, token_dim, bias, **factory)
        if form == "block":
            self.after = nn.Sequential(
                nn.Conv2d(embed_dim, embed_dim, 1, bias=False, **factory),
                nn.BatchNorm2d(embed_dim, momentum=3e-4, **factory),
            )
        elif form == "heads":
            self.after = nn.Linear(4 * embed_dim, embed_dim, **factory)

    def prepare(self, x: Tensor) -> Prepared:
        if self.form == "block":
            return x, self.before(x).flatten(2).transpose(1, 2)
        if self.form == "heads":
            return x, pairwise.split_heads(self.before(x), self.num_heads)
        return x, x

    def attention(self, z: Prepared) -> Tensor:
        _, tokens = z
        # Never in half precision: the small ones of a token are divided by their sum.
        return precision.softmax(precision.widen(self.keys(tokens)), -2)

    def combine(self, a: Tensor, z: Prepared) -> Tensor:
        x, _ = z
        y = self.values((a / (self.eps + a.sum(-1, keepdim=True))).to(x.dtype))
        if self.form == "block":
            return grid.relu(x + self.after(y.transpose(-2, -1).unflatten(2, x.shape[2:])))
        if self.form == "heads":
            return self.after(pairwise.merge_heads(y))
        return y
