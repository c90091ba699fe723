"""Criss-cross attention: each position attends to its row and column, in repeated passes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..core import precision
from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import divides, positive, probability, reduced
from ..core.conv_norm import conv_norm
from ..core.tracing import leaf


class CrissCross(Attention):
    r"""Adds attention over the row and the column of each position, in repeated passes.

    .. math::
        x^{(r+1)}_u = x^{(r)}_u + \gamma \textstyle\sum_{i \in N(u)} a^{(r)}_{ui} V x^{(r)}_i,
        \quad a^{(r)}_u = \operatorname{softmax}_{i \in N(u)}
        \big(Q x^{(r)}_u\big)^\top K x^{(r)}_i, \quad x^{(0)} = x, \quad y = x^{(R)}

    where N(u) are the h + w - 1 positions in the column and the row of u, itself counted once;
    equations 1 and 2 and section 3.3 of the paper. All passes share their weights. After two,
    information from every position has reached every other, in memory that grows with n (h + w)
    instead of n². `CrissCrossHead` is the network's head.

    In half precision, rounding can change which entry the softmax selects where scores are in
    the hundreds.

    Args:
        channels: :math:`C`.
        reduction: Queries and keys have :math:`\lfloor C/r \rfloor` channels.
        recurrence: :math:`R`, the number of passes.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, y as x; a map ``b h w k`` for each pass: the k = h + w weights of a position,
        of its column from top to bottom and of its row from left to right. In the column its own
        weight is zero: it is counted in the row.

    Raises:
        ValueError: a size is not positive, or the reduction leaves no channel.

    >>> CrissCross(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = Card(
        title="Criss-cross attention",
        paper="CCNet: Criss-Cross Attention for Semantic Segmentation",
        authors="Zilong Huang, Xinggang Wang, Lichao Huang, Chang Huang, Yunchao Wei, Wenyu Liu",
        venue="ICCV",
        year=2019,
        url="https://arxiv.org/abs/1811.11721",
        code="https://github.com/speedinghzl/CCNet",
        license="MIT",
        domain="spatial",
        computes="conv+matmul",
        applies="matmul",
        kind="relation",
        identity_at_init=True,
        cost=dict(time="n h c + n w c + n c^2", memory="n h + n w + n c"),
        aliases=("ccnet", "criss_cross_attention", "cca", "rcca"),
        differs=(
            "The sum is multiplied by a learned scale that starts at zero, as in the authors' "
            "code; the paper's equations have none.",
            "The default is two passes, as in the paper's network; one module of the authors' code "
            "makes one (recurrence=1).",
        ),
    )
    axes = Axes("b c h w", "b h w k, b h w k", range="softmax")

    def __init__(
        self,
        channels: int,
        reduction: int = 8,
        *,
        recurrence: int = 2,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=channels)
        hidden_dim = reduced(channels, reduction)
        positive(recurrence=recurrence)
        self.recurrence = recurrence
        self.axes = replace(self.axes, map=", ".join(["b h w k"] * recurrence))
        factory = {"device": device, "dtype": dtype}
        self.query = nn.Conv2d(channels, hidden_dim, 1, **factory)
        self.key = nn.Conv2d(channels, hidden_dim, 1, **factory)
        self.value = nn.Conv2d(channels, channels, 1, **factory)
        self.gamma = nn.Parameter(torch.zeros(1, **factory))

    def reset_parameters(self) -> None:
        """Draw new projections; the scale starts at zero, so the module starts as the identity."""
        super().reset_parameters()
        nn.init.zeros_(self.gamma)

    def attention(self, x: Tensor) -> tuple[Tensor, ...]:
        maps = [self.attention_of_pass(x)]
        for _ in range(self.recurrence - 1):
            x = self.run_pass(maps[-1], x)
            maps.append(self.attention_of_pass(x))
        return tuple(maps)

    def combine(self, a: tuple[Tensor, ...], x: Tensor) -> Tensor:
        for a_pass in a:
            x = self.run_pass(a_pass, x)
        return x

    def fused(self, x: Tensor) -> Tensor:
        for _ in range(self.recurrence):  # keeps one map at a time, and computes no pass twice
            x = self.run_pass(self.attention_of_pass(x), x)
        return x

    def attention_of_pass(self, x: Tensor) -> Tensor:
        """Return the map of one pass."""
        return _attention_weights(self.query(x), self.key(x))

    def run_pass(self, a: Tensor, x: Tensor) -> Tensor:
        """Return the output of one pass."""
        return x + self.gamma * _weighted_sum(a, self.value(x))


class CrissCrossHead(nn.Module):
    """Scores classes by CCNet's head: criss-cross attention, concatenated with its input.

    Args:
        in_channels: Channels of x; the attention has a quarter of them.
        out_channels: Channels before the classifier.
        num_classes: Channels of the output.
        recurrence: Number of passes of the attention.
        dropout: Rate of dropping whole channels before the classifier.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, the scores ``b k h w``.

    >>> CrissCrossHead(32, 12, num_classes=5)(torch.randn(2, 32, 9, 7)).shape
    torch.Size([2, 5, 9, 7])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        num_classes: int,
        *,
        recurrence: int = 2,
        dropout: float = 0.1,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        positive(out_channels=out_channels, num_classes=num_classes)
        divides(in_channels=in_channels, quarter=4)
        probability(dropout=dropout)
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        hidden_dim = in_channels // 4

        def conv(inputs: int, outputs: int) -> nn.Sequential:
            return conv_norm(inputs, outputs, 3, activation=nn.LeakyReLU(0.01), **factory)

        self.before = conv(in_channels, hidden_dim)
        self.criss_cross = CrissCross(hidden_dim, recurrence=recurrence, **factory)
        self.after = conv(hidden_dim, hidden_dim)
        self.join = conv(in_channels + hidden_dim, out_channels)
        self.drop = nn.Dropout2d(dropout)
        self.classify = nn.Conv2d(out_channels, num_classes, 1, **factory)

    def forward(self, x: Tensor) -> Tensor:
        """Score each class at each position."""
        y = self.after(self.criss_cross(self.before(x)))
        return self.classify(self.drop(self.join(torch.cat([x, y], 1))))


@leaf
def _attention_weights(q: Tensor, k: Tensor) -> Tensor:
    """Return the softmax of each position over its column and its row, ``b h w k``."""
    dtype = q.dtype
    q, k = q.permute(0, 2, 3, 1), k.permute(0, 2, 3, 1)  # b h w d
    rows = precision.matmul(q, k.transpose(-2, -1))  # b h w j
    columns = precision.matmul(q.transpose(1, 2), k.permute(0, 2, 3, 1))  # b w h i
    i = torch.arange(q.shape[1], device=q.device)
    columns = columns.masked_fill(i[:, None] == i, -torch.inf)  # counted in the row
    return precision.softmax(torch.cat([columns.transpose(1, 2), rows], -1), -1, dtype)


@leaf
def _weighted_sum(a: Tensor, v: Tensor) -> Tensor:
    """Return the weighted sum of the values over column and row, ``b c h w``."""
    columns, rows = a.split([*v.shape[2:]], -1)
    v = v.permute(0, 2, 3, 1).contiguous()  # b h w c, used twice
    y = columns.transpose(1, 2) @ v.transpose(1, 2)  # b w h c
    return (rows @ v + y.transpose(1, 2)).permute(0, 3, 1, 2)
