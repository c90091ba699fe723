"""Attention Free Transformer: weights from the keys and learned position biases, not from q·k."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from ..core import precision
from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import positive

Prepared = tuple[Tensor, Tensor, Tensor]  # sigmoid of the queries, keys, values: b n e each


class AttentionFree(Attention):
    r"""Averages values with weights from keys and position biases, and gates the result by queries.

    .. math::
        a_{cts} = \operatorname{softmax}_s(K_{sc} + w_{ts}), \quad
        y_{tc} = \sigma(Q_{tc}) \textstyle\sum_s a_{cts} V_{sc}

    with linear queries Q, keys K and values V: equation 2 of the paper, AFT-full. Without a
    ``max_length``, :math:`w = 0` and every position gets the same average: AFT-simple. With a
    ``window_size``, :math:`w_{ts} = 0` where :math:`|t - s|` is that or more, but position s is
    still averaged: AFT-local.

    In half precision, rounding can change which entry the softmax selects where scores are in
    the hundreds.

    Args:
        embed_dim: Channels of a token.
        max_length: Largest number of tokens, for which w is learned; fewer read its upper left
            corner. None for no w.
        hidden_dim: Channels e of queries, keys and values, which an output layer projects to
            ``embed_dim``; None for ``embed_dim`` channels and no output layer.
        window_size: Distance at and beyond which w is zero.
        rank: Factor w into matrices ``n rank`` and ``rank n``.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b n c``, map ``b e n m`` for each of the e channels of the keys, y as x. Without a
        length the map is ``b e 1 m``.

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
            "The default is AFT-simple, which takes any number of tokens; the paper's general "
            "form has a table of biases for the largest number of them (max_length).",
            "The paper's models learn w as the product of two factors (rank); the "
            "re-implementations, and the default here, learn the table itself.",
            "The projections have biases, as in the re-implementations; the paper's have none.",
            "The paper's equation ends with the gate; one of the re-implementations adds a layer "
            "after it, and another number of channels for queries, keys and values (hidden_dim).",
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
        inner_dim = embed_dim if hidden_dim is None else hidden_dim
        positive(embed_dim=embed_dim, hidden_dim=inner_dim)
        sizes = {"max_length": max_length, "window_size": window_size, "rank": rank}
        for name, size in sizes.items():
            if size is None:
                continue
            positive(**{name: size})
            if max_length is None:
                raise ValueError(f"{name} ({size}) needs max_length: without it there is no w")
        self.max_length, self.window_size, self.rank = max_length, window_size, rank
        factory = {"device": device, "dtype": dtype}
        self.query = nn.Linear(embed_dim, inner_dim, **factory)
        self.key = nn.Linear(embed_dim, inner_dim, **factory)
        self.value = nn.Linear(embed_dim, inner_dim, **factory)
        self.out = (
            nn.Identity() if hidden_dim is None else nn.Linear(inner_dim, embed_dim, **factory)
        )
        if max_length is not None:
            self.max_sizes["n"] = max_length
            self.axes = replace(self.axes, map="b e n m")
            self.rows = nn.Parameter(torch.empty(max_length, rank or max_length, **factory))
            if rank is not None:
                self.columns = nn.Parameter(torch.empty(rank, max_length, **factory))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new projections, and w close to zero: the layer starts close to AFT-simple."""
        super().reset_parameters()
        for parameter in self.parameters(recurse=False):
            nn.init.normal_(parameter, std=0.01)

    def prepare(self, x: Tensor) -> Prepared:
        return self.query(x).sigmoid(), self.key(x), self.value(x)

    def attention(self, z: Prepared) -> Tensor:
        _, k, _ = z
        scores = k.transpose(-2, -1).unsqueeze(2)  # b e 1 m
        if self.max_length is not None:
            scores = scores + self.position_bias(k.shape[1])
        return precision.softmax(scores, 3)

    def combine(self, a: Tensor, z: Prepared) -> Tensor:
        gate, _, v = z
        return self.out(gate * (a @ v.transpose(-2, -1).unsqueeze(3)).squeeze(3).transpose(-2, -1))

    def fused(self, z: Prepared) -> Tensor:
        gate, k, v = z
        a = precision.softmax(k, 1)  # b m e
        if self.max_length is None:
            return self.out(gate * (a * v).sum(1, keepdim=True))
        # exp(K + w) factors into exp(K) exp(w), so two matrix products replace the map. Normalized
        # by softmax, it cannot overflow, nor underflow unless keys and w both span more than 80.
        w = precision.softmax(self.position_bias(k.shape[1]), 1)
        return self.out(gate * ((w @ (a * v)) / (w @ a)))

    def position_bias(self, length: int) -> Tensor:
        """Return w for so many tokens, a row for each position of the output, ``n m``."""
        rows = self.rows[:length]
        w = rows[:, :length] if self.rank is None else rows @ self.columns[:, :length]
        if self.window_size is None:
            return w
        i = torch.arange(length, device=w.device)
        return w * ((i[:, None] - i).abs() < self.window_size)
