"""Weighted Permute-MLP: layers along height, width and channels, and a choice between the three."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from ..core import grid, precision
from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import divides, probability, reduced
from ..core.tracing import leaf


@leaf
def place(y: Tensor, x: Tensor) -> Tensor:
    """Put the two axes of channels of ``b n s h w`` together again, laid out like an image x."""
    if x.is_contiguous(memory_format=torch.channels_last):
        return y.permute(0, 3, 4, 1, 2).flatten(3).permute(0, 3, 1, 2)
    return y.flatten(1, 2)


class WeightedPermute(Attention):
    r"""Mixes along the channels, the width and the height, and lets each channel weigh the three.

    .. math::
        X_C = W_C x, \quad X_W = W_W \pi_W(x), \quad X_H = W_H \pi_H(x), \quad
        a = \operatorname{softmax}_k\big(\mathrm{MLP}(\overline{X_C + X_W + X_H})\big), \quad
        y = W (a_C \odot X_C + a_W \odot X_W + a_H \odot X_H)

    where :math:`\pi_H` lets the H positions of a column and H of the channels change places, so
    that :math:`W_H` mixes :math:`C` numbers of one column, and what it gives is put back;
    :math:`\pi_W` does the same with a row. The bar averages over positions, and the MLP is two
    layers with a GELU between them. Section 3.2 of the paper, which weighs what its plain
    Permute-MLP adds up.

    Args:
        channels: :math:`C`, a multiple of H and of W.
        reduction: :math:`r`; the MLP's hidden width is :math:`\lfloor C/r \rfloor`.
        height: H.
        width: W; as the height by default.
        bias: Give the three layers biases.
        gate_dropout: Rate of dropping the MLP's hidden numbers and its scores in training.
        dropout: Rate of dropping numbers of y in training.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w`` of this height and width, map ``b k c 1 1`` over channels, width and height,
        y as x.

    Raises:
        ValueError: a size is not positive, height or width does not divide the channels, the
            reduction leaves no hidden channel, or a dropout is not a rate.

    >>> WeightedPermute(63, height=9, width=7)(torch.randn(2, 63, 9, 7)).shape
    torch.Size([2, 63, 9, 7])
    """

    card = Card(
        title="Weighted Permute-MLP",
        paper="Vision Permutator: A Permutable MLP-Like Architecture for Visual Recognition",
        authors="Qibin Hou, Zihang Jiang, Li Yuan, Ming-Ming Cheng, Shuicheng Yan, Jiashi Feng",
        venue="TPAMI",
        year=2022,
        url="https://arxiv.org/abs/2106.12368",
        code="https://github.com/houqb/VisionPermutator",
        license="none stated",
        domain="branch",
        computes="pool+fc",
        applies="select",
        kind="relation",
        cost=dict(time="n c^2", memory="n c"),
        aliases=("vip", "vision_permutator", "permute_mlp", "weighted_permute_mlp"),
        differs=(
            "In the paper the channels that change places with the positions are neighbors; in "
            "the code that people use, and here, they are C/H or C/W apart, which is the same for "
            "another order of the channels.",
            "Height and width may differ here; the code that people use has one number for both.",
            "The re-implementation that can be loaded drops a tenth of the MLP's numbers and "
            "scores in training (gate_dropout=0.1); the paper speaks of no dropout.",
        ),
    )
    axes = Axes("b c h w", "b k c 1 1", range="softmax k")

    def __init__(
        self,
        channels: int,
        reduction: int = 4,
        *,
        height: int = 8,
        width: int | None = None,
        bias: bool = False,
        gate_dropout: float = 0.0,
        dropout: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        width = height if width is None else width
        super().__init__(c=channels, h=height, w=width)
        divides(channels=channels, height=height)
        divides(channels=channels, width=width)
        hidden = reduced(channels, reduction)
        probability(gate_dropout=gate_dropout, dropout=dropout)
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self.channel = nn.Conv2d(channels, channels, 1, bias=bias, **factory)
        self.row = nn.Linear(channels, channels, bias, **factory)
        self.column = nn.Linear(channels, channels, bias, **factory)
        self.squeeze = nn.Linear(channels, hidden, **factory)
        self.select = nn.Linear(hidden, 3 * channels, **factory)
        self.gate_drop = nn.Dropout(gate_dropout)
        self.out = nn.Conv2d(channels, channels, 1, **factory)
        self.drop = nn.Dropout(dropout)

    def prepare(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h, w = self.fixed_axes["h"], self.fixed_axes["w"]
        rows = x.unflatten(1, (w, -1)).permute(0, 1, 3, 4, 2)  # b n h w s
        rows = self.row(rows.flatten(3)).unflatten(3, (w, -1)).permute(0, 1, 4, 2, 3)
        columns = x.unflatten(1, (h, -1)).permute(0, 1, 4, 3, 2)  # b n w h s
        columns = self.column(columns.flatten(3)).unflatten(3, (h, -1)).permute(0, 1, 4, 3, 2)
        return self.channel(x), place(rows, x), place(columns, x)

    def attention(self, x: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        z = grid.mean(x[0]) + grid.mean(x[1]) + grid.mean(x[2])  # b c
        z = self.gate_drop(self.select(self.gate_drop(gelu(self.squeeze(z)))))
        return precision.softmax(z.unflatten(1, (3, -1, 1, 1)), 1)

    def combine(self, a: Tensor, x: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        y = a[:, 0] * x[0] + a[:, 1] * x[1] + a[:, 2] * x[2]
        return self.drop(self.out(y))
