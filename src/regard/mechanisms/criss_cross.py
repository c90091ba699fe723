"""Criss-cross attention: every position reads its column and its row, and so, twice, everything."""

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
from ..core.tracing import leaf


class CrissCross(Attention):
    r"""Adds to each position what its column and its row hold, as often as it is repeated.

    .. math::
        x^{(r+1)}_u = x^{(r)}_u + \gamma \textstyle\sum_{i \in N(u)} a^{(r)}_{ui} V x^{(r)}_i,
        \quad a^{(r)}_u = \operatorname{softmax}_{i \in N(u)}
        \big(Q x^{(r)}_u\big)^\top K x^{(r)}_i, \quad x^{(0)} = x, \quad y = x^{(R)}

    where N(u) are the h + w - 1 positions in the column and the row of u, itself counted once;
    equations 1 and 2 and section 3.3 of the paper. All passes have the same weights. After two,
    every position has read every other, in memory that grows with n (h + w) instead of n².
    `CrissCrossHead` is the network's head.

    Args:
        channels: :math:`C`.
        reduction: Queries and keys have :math:`\lfloor C/r \rfloor` channels.
        recurrence: :math:`R`, how many passes are made.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, y as x; a map ``b h w k`` for each pass: the k = h + w weights of a position,
        of its column from top to bottom and of its row from left to right. In the column its own
        place has weight zero: it is counted in the row.

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
            "Two passes are made, as in the paper's network; one module of the authors' code makes "
            "one (recurrence=1).",
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
        hidden = reduced(channels, reduction)
        positive(recurrence=recurrence)
        self.recurrence = recurrence
        self.axes = replace(self.axes, map=", ".join(["b h w k"] * recurrence))
        factory = {"device": device, "dtype": dtype}
        self.query = nn.Conv2d(channels, hidden, 1, **factory)
        self.key = nn.Conv2d(channels, hidden, 1, **factory)
        self.value = nn.Conv2d(channels, channels, 1, **factory)
        self.gamma = nn.Parameter(torch.zeros(1, **factory))

    def reset_parameters(self) -> None:
        """Draw new projections; the scale starts at zero, so that the module starts as x."""
        super().reset_parameters()
        nn.init.zeros_(self.gamma)

    def attention(self, x: Tensor) -> tuple[Tensor, ...]:
        maps = [self.weigh(x)]
        for _ in range(self.recurrence - 1):
            x = self.read(maps[-1], x)
            maps.append(self.weigh(x))
        return tuple(maps)

    def combine(self, a: tuple[Tensor, ...], x: Tensor) -> Tensor:
        for one in a:
            x = self.read(one, x)
        return x

    def fused(self, x: Tensor) -> Tensor:
        for _ in range(self.recurrence):  # one map at a time, and no pass made twice
            x = self.read(self.weigh(x), x)
        return x

    def weigh(self, x: Tensor) -> Tensor:
        """The map of one pass."""
        return _weigh(self.query(x), self.key(x))

    def read(self, a: Tensor, x: Tensor) -> Tensor:
        """One pass."""
        return x + self.gamma * _gather(a, self.value(x))


class CrissCrossHead(nn.Module):
    """The head of CCNet: criss-cross attention between convolutions, joined with its input.

    Args:
        in_channels: Channels of the backbone's map; a quarter of them is used inside.
        out_channels: Channels before the classifier.
        num_classes: Channels of the output.
        recurrence: How many passes the attention makes.
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
        hidden = in_channels // 4

        def convolve(before: int, after: int) -> nn.Sequential:
            return nn.Sequential(
                nn.Conv2d(before, after, 3, padding=1, bias=False, **factory),
                nn.BatchNorm2d(after, **factory),
                nn.LeakyReLU(0.01),
            )

        self.before = convolve(in_channels, hidden)
        self.criss_cross = CrissCross(hidden, recurrence=recurrence, **factory)
        self.after = convolve(hidden, hidden)
        self.join = convolve(in_channels + hidden, out_channels)
        self.drop = nn.Dropout2d(dropout)
        self.classify = nn.Conv2d(out_channels, num_classes, 1, **factory)

    def forward(self, x: Tensor) -> Tensor:
        """Score each class at each position."""
        y = self.after(self.criss_cross(self.before(x)))
        return self.classify(self.drop(self.join(torch.cat([x, y], 1))))


@leaf
def _weigh(q: Tensor, k: Tensor) -> Tensor:
    """The softmax of each position over its column and its row, ``b h w k``."""
    if q.dtype == torch.float16:  # the sums of products leave its range
        with torch.autocast(q.device.type, enabled=False):
            return _weigh(q.float(), k.float()).half()
    q, k = q.permute(0, 2, 3, 1), k.permute(0, 2, 3, 1)  # b h w d
    rows = q @ k.mT  # b h w j
    columns = q.transpose(1, 2) @ k.permute(0, 2, 3, 1)  # b w h i
    i = torch.arange(q.shape[1], device=q.device)
    columns = columns.masked_fill(i[:, None] == i, -torch.inf)  # counted in the row
    return precision.softmax(torch.cat([columns.transpose(1, 2), rows], -1), -1)


@leaf
def _gather(a: Tensor, v: Tensor) -> Tensor:
    """The sum over column and row, ``b c h w``."""
    columns, rows = a.split([*v.shape[2:]], -1)
    v = v.permute(0, 2, 3, 1).contiguous()  # b h w c, read twice
    y = columns.transpose(1, 2) @ v.transpose(1, 2)  # b w h c
    return (rows @ v + y.transpose(1, 2)).permute(0, 3, 1, 2)
