"""Neighborhood attention: each position attends to its nearest positions, also at the border."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..core import grid, pairwise, precision, sparse, tokens
from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import divides, odd, one_of, per_axis, probability
from ..core.initial import small_projections
from ..core.tracing import at_least, leaf

Prepared = tuple[Tensor, Tensor, Tensor, Tensor]  # x, and q, k, v: b heads n d each


class Neighborhood(Attention):
    r"""Applies multi-head attention to the nearest positions of each position.

    .. math::
        y_i = W_o \sum_{j \in \rho(i)} \operatorname{softmax}_j\big(
        d^{-1/2}\, q_i^\top k_j + \beta_{(p_j - p_i) / \delta}\big)\, v_j

    in each head, for positions p, a table :math:`\beta`, and the :math:`k \times k` nearest
    positions :math:`\rho(i)`, of those that differ from i by multiples of :math:`\delta` along each
    axis; equations 1 to 4 of the paper, and equation 2 of "Dilated Neighborhood Attention
    Transformer". At the border the neighborhood is moved inside, so that it always has
    :math:`k^2` positions; an axis shorter than :math:`k \delta` is padded with zeros.

    In half precision, rounding can change which entry the softmax selects where scores are in
    the hundreds.

    Args:
        channels: :math:`C`.
        num_heads: Number of heads.
        kernel_size: :math:`k`, odd, one for all axes or one for each.
        dilation: :math:`\delta`, likewise.
        positions: Add the biases by position, :math:`\beta`.
        bias: Give the projections of queries, keys and values biases.
        scale: Factor of the dot products; :math:`d^{-1/2}` by default, for d channels of a head.
        dropout: Dropout rate of the attention weights.
        out_dropout: Dropout rate of the output.
        dims: Axes of space and time: 1, 2 or 3.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c *`` (``dims`` axes of space and time), map ``b heads * k`` for k neighbors, row by
        row, y as x.

    Raises:
        ValueError: a size is not positive, ``num_heads`` does not divide the channels, the kernel
            is even, a dropout is not a rate, or ``dims`` is unknown.

    >>> Neighborhood(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = Card(
        title="Neighborhood attention",
        paper="Neighborhood Attention Transformer",
        authors="Ali Hassani, Steven Walton, Jiachen Li, Shen Li, Humphrey Shi",
        venue="CVPR",
        year=2023,
        url="https://arxiv.org/abs/2204.07143",
        code="https://github.com/SHI-Labs/NATTEN",
        license="MIT",
        domain="spatial",
        computes="fc+matmul",
        applies="matmul",
        kind="relation",
        cost=dict(time="n k c + n c^2", memory="n k + n c"),
        aliases=("neighbourhood", "na", "nat", "dinat", "natten", "dilated_neighborhood"),
        differs=(
            "The authors' operators have had no biases by position since version 0.20 of their "
            "package (positions=False); those of both papers have.",
        ),
    )
    axes = Axes("b c *", "b heads * k", range="softmax")

    def __init__(
        self,
        channels: int,
        num_heads: int = 8,
        *,
        kernel_size: int | Sequence[int] = 7,
        dilation: int | Sequence[int] = 1,
        positions: bool = True,
        bias: bool = True,
        scale: float | None = None,
        dropout: float = 0.0,
        out_dropout: float = 0.0,
        dims: Literal[1, 2, 3] = 2,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        divides(channels=channels, num_heads=num_heads)
        super().__init__(c=channels, heads=num_heads)
        one_of((1, 2, 3), dims=dims)
        probability(dropout=dropout, out_dropout=out_dropout)
        self.kernel_size = per_axis(dims, 1, kernel_size=kernel_size)
        self.dilation = per_axis(dims, 1, dilation=dilation)
        for side in self.kernel_size:
            odd(kernel_size=side)
        self.num_heads = num_heads
        self.scale = (channels // num_heads) ** -0.5 if scale is None else scale
        self.axes = self.axes.over(dims)
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self.query = nn.Linear(channels, channels, bias, **factory)
        self.key = nn.Linear(channels, channels, bias, **factory)
        self.value = nn.Linear(channels, channels, bias, **factory)
        self.positions = None
        if positions:
            distances = torch.Size(2 * side - 1 for side in self.kernel_size).numel()
            self.positions = nn.Parameter(torch.empty(num_heads, distances, **factory))
        self.drop = nn.Dropout(dropout)
        self.out = nn.Linear(channels, channels, **factory)
        self.drop_out = nn.Dropout(out_dropout)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weights and biases by position with a small spread; zero all other biases."""
        if self.positions is not None:
            nn.init.trunc_normal_(self.positions, std=0.02)
        small_projections(self)

    def prepare(self, x: Tensor) -> Prepared:
        reach = [k * step for k, step in zip(self.kernel_size, self.dilation, strict=True)]
        source = tokens.to_tokens(grid.fill_up(x, reach))
        projected = self.query(tokens.to_tokens(x)), self.key(source), self.value(source)
        q, k, v = (pairwise.split_heads(t, self.num_heads) for t in projected)
        return x, q, k, v

    def attention(self, z: Prepared) -> Tensor:
        x, q, k, v = z
        lists, distances = _neighbors(x, self.kernel_size, self.dilation)
        scores = sparse.scores(q * self.scale, k, lists)
        if self.positions is not None:
            scores = scores + self.positions[:, distances]
        return _over_grid(precision.softmax(scores, -1, v.dtype), x)

    def combine(self, a: Tensor, z: Prepared) -> Tensor:
        x, _, _, v = z
        lists, _ = _neighbors(x, self.kernel_size, self.dilation)
        y = sparse.weighted_sum(self.drop(a).flatten(2, -2), v, lists)
        return tokens.to_grid(self.drop_out(self.out(pairwise.merge_heads(y))), x)


@leaf
def _neighbors(
    x: Tensor, kernel_size: Sequence[int], dilation: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Return the neighbors of each position, and the rows of their distances, ``n k`` both."""
    lists = distances = torch.zeros(1, 1, dtype=torch.long, device=x.device)
    for n, side, step in zip(x.shape[2:], kernel_size, dilation, strict=True):
        size = at_least(n, side * step)  # with the padding
        place = torch.arange(n, device=x.device)
        # Only positions in the same class, those with the same remainder, may be neighbors.
        remainder, rank = place % step, place // step
        last = (size - remainder + step - 1) // step - side
        start = torch.minimum((rank - side // 2).clamp(min=0), last)
        rank_of = start[:, None] + torch.arange(side, device=x.device)
        at, distance = remainder[:, None] + step * rank_of, rank_of - rank[:, None] + side - 1
        lists = _combined(lists, at, size)
        distances = _combined(distances, distance, 2 * side - 1)
    return lists, distances


def _combined(index: Tensor, other: Tensor, size: int) -> Tensor:
    """Combine indices ``n j`` of the axes so far with those of a further axis of that size."""
    index = index[:, None, :, None] * size + other[None, :, None]
    return index.flatten(2).flatten(0, 1)


@leaf
def _over_grid(a: Tensor, x: Tensor) -> Tensor:
    return a.unflatten(2, x.shape[2:])
