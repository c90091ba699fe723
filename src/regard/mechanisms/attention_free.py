"""Attention-free layer: a learned bias for each pair of places stands in for queries times keys."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from ..core import precision
from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import positive


class AttentionFree(Attention):
    r"""Averages the values by weights of each channel's keys and of the places, and gates the sum.

    .. math::
        a_{cts} = \operatorname{softmax}_s(K_{sc} + w_{ts}), \quad
        y_{tc} = \sigma(Q_{tc}) \textstyle\sum_s a_{cts} V_{sc}

    with linear queries Q, keys K and values V: equation 2 of the paper, AFT-full. Without a
    ``max_length``, :math:`w = 0` and every place gets the same average: AFT-simple. With a
    ``window_size``, :math:`w_{ts} = 0` where :math:`|t - s|` is that or more, though place s is
    still read: AFT-local.

    Args:
        embed_dim: Channels of a token.
        max_length: Tokens of the input, which w has a row and a column for; None for no w.
        hidden_dim: Channels of queries, keys and values, which a last layer brings back to
            ``embed_dim``; if None they have ``embed_dim``, and there is no such layer.
        window_size: Distance from which on w is zero.
        rank: Make w the product of two matrices of so many columns and rows.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b n c``, map ``b e n m`` for each of the e channels of the keys, y as x. Without a
        length, n may be any and the map is ``b e 1 m``.

    Raises:
        ValueError: a size is not positive, or there is a window or a rank without a length.

    >>> AttentionFree(64)(torch.randn(2, 63, 64)).shape
    torch.Size([2, 63, 64])
    >>> AttentionFree(64, max_length=63, window_size=8)(torch.randn(2, 63, 64)).shape
    torch.Size([2, 63, 64])
    """

    card = Card(
        title="Attention Free Transformer",
        paper="An Attention Free Transformer",
        authors=(
            "Shuangfei Zhai, Walter Talbott, Nitish Srivastava, Chen Huang, Hanlin Goh, Ruixiang "
            "Zhang, Josh Susskind"
        ),
        venue="arXiv",
        year=2021,
        url="https://arxiv.org/abs/2105.14103",
        domain="sequence",
        computes="fc",
        applies="matmul+gate",
        kind="sequence",
        equivariant=("pixels",),
        cost=dict(time="n c^2", memory="n c"),
        aliases=("aft", "aft_full", "aft_simple", "aft_local"),
        differs=(
            "The default is AFT-simple, which reads any number of tokens; the paper's general "
            "form has a table of biases for one number of them (length).",
            "The paper's models learn w as the product of two factors (rank); the "
            "re-implementations, and the default here, learn the table itself.",
            "The projections have biases, as in the re-implementations; the paper's have none.",
            "The paper's equation ends with the gate; one of the re-implementations puts a layer "
            "behind it, and lets queries, keys and values have another width (hidden).",
            "That one reads fewer tokens with a corner of its table; here there are as many as "
            "the length says.",
            "The convolutional form of the paper, whose biases depend on the offset alone, is not "
            "offered.",
        ),
    )
    axes = Axes("b n c", "b e 1 m", range="softmax")

    def __init__(
        self,
        embed_dim: int,
        *,
        max_length: int | None = None,
        hidden_dim: int | None = None,
        window_size: int | None = None,
        rank: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=embed_dim)
        inner = embed_dim if hidden_dim is None else hidden_dim
        positive(embed_dim=embed_dim, hidden_dim=inner)
        for name, size in {"length": max_length, "window": window_size, "rank": rank}.items():
            if size is None:
                continue
            positive(**{name: size})
            if max_length is None:
                raise ValueError(f"{name} ({size}) needs a length: without it there is no w")
        self.max_length, self.window_size, self.rank = max_length, window_size, rank
        factory = {"device": device, "dtype": dtype}
        self.query = nn.Linear(embed_dim, inner, **factory)
        self.key = nn.Linear(embed_dim, inner, **factory)
        self.value = nn.Linear(embed_dim, inner, **factory)
        self.out = nn.Identity() if hidden_dim is None else nn.Linear(inner, embed_dim, **factory)
        if max_length is not None:
            self.fixed_axes["n"] = max_length
            self.axes = replace(self.axes, map="b e n m")
            self.rows = nn.Parameter(torch.empty(max_length, rank or max_length, **factory))
            if rank is not None:
                self.columns = nn.Parameter(torch.empty(rank, max_length, **factory))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new projections, and a w so small that the layer starts close to AFT-simple."""
        super().reset_parameters()
        for parameter in self.parameters(recurse=False):
            nn.init.normal_(parameter, std=0.01)

    def prepare(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.query(x).sigmoid(), self.key(x), self.value(x)  # b n e

    def table(self) -> Tensor:
        """w, whose row t belongs to the place that reads, ``n m``."""
        w = self.rows if self.rank is None else self.rows @ self.columns
        if self.window_size is None:
            return w
        place = torch.arange(self.max_length, device=w.device)
        return w * ((place[:, None] - place).abs() < self.window_size)

    def attention(self, x: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        scores = x[1].mT.unsqueeze(2)  # b e 1 m
        return precision.softmax(scores if self.max_length is None else scores + self.table(), 3)

    def combine(self, a: Tensor, x: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        gate, _, v = x
        return self.out(gate * (a @ v.mT.unsqueeze(3)).squeeze(3).mT)

    def fused(self, x: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        gate, k, v = x
        a = precision.softmax(k, 1)  # b m e
        if self.max_length is None:
            return self.out(gate * (a * v).sum(1, keepdim=True))
        # exp(K + w) is a product, so two products of matrices do what the map does. Normalized
        # like this it neither overflows nor, unless keys and w both spread over 80, vanishes.
        w = precision.softmax(self.table(), 1)
        return self.out(gate * ((w @ (a * v)) / (w @ a)))
