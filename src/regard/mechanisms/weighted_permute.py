"""Weighted Permute-MLP: a channel-wise softmax over layers along height, width and channels."""

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

Prepared = tuple[Tensor, Tensor, Tensor]  # mixed along channels, width and height, b c h w each


class WeightedPermute(Attention):
    r"""Mixes along channels, width and height, and sums the three results, weighted per channel.

    .. math::
        X_C = W_C x, \quad X_W = W_W \pi_W(x), \quad X_H = W_H \pi_H(x), \quad
        a = \operatorname{softmax}_k\big(\mathrm{MLP}(\overline{X_C + X_W + X_H})\big), \quad
        y = W (a_C \odot X_C + a_W \odot X_W + a_H \odot X_H)

    where :math:`\pi_H` swaps the H positions of a column with H of the channels, so that
    :math:`W_H` mixes :math:`C` entries of one column, and the result is swapped back; :math:`\pi_W`
    does so with rows. The bar averages over positions, and the MLP is two layers with a GELU
    between them. Section 3.2 of the paper, whose plain Permute-MLP adds the three.

    Args:
        channels: :math:`C`, a multiple of H and of W.
        reduction: :math:`r`; the MLP has :math:`\lfloor C/r \rfloor` hidden units.
        height: H.
        width: W; ``height`` by default.
        bias: Give the three layers biases.
        gate_dropout: Dropout rate of the MLP's hidden units and of its scores.
        dropout: Dropout rate of y.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w`` of this height and width, map ``b k c 1 1`` over channels, width and height,
        y as x.

    Raises:
        ValueError: a size is not positive, height or width does not divide the channels, the
            reduction leaves no hidden unit, or a dropout is not a rate.

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
            "In the paper the channels that are swapped with positions are adjacent; in the "
            "best-known re-implementation, and here, they are C/H or C/W apart, which is the same "
            "up to the order of the channels.",
            "Height and width may differ here; that re-implementation has one size for both.",
            "That re-implementation has dropout in the MLP (gate_dropout=0.1); the paper mentions "
            "no dropout.",
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
        hidden_dim = reduced(channels, reduction)
        probability(gate_dropout=gate_dropout, dropout=dropout)
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self.channel = nn.Conv2d(channels, channels, 1, bias=bias, **factory)
        self.row = nn.Linear(channels, channels, bias, **factory)
        self.column = nn.Linear(channels, channels, bias, **factory)
        self.squeeze = nn.Linear(channels, hidden_dim, **factory)
        self.select = nn.Linear(hidden_dim, 3 * channels, **factory)
        self.gate_drop = nn.Dropout(gate_dropout)
        self.out = nn.Conv2d(channels, channels, 1, **factory)
        self.drop = nn.Dropout(dropout)

    def prepare(self, x: Tensor) -> Prepared:
        h, w = self.fixed_axes["h"], self.fixed_axes["w"]
        rows = x.unflatten(1, (w, -1)).permute(0, 1, 3, 4, 2)  # b n h w s
        rows = self.row(rows.flatten(3)).unflatten(3, (w, -1)).permute(0, 1, 4, 2, 3)
        columns = x.unflatten(1, (h, -1)).permute(0, 1, 4, 3, 2)  # b n w h s
        columns = self.column(columns.flatten(3)).unflatten(3, (h, -1)).permute(0, 1, 4, 3, 2)
        return self.channel(x), _merge_channels(rows, x), _merge_channels(columns, x)

    def attention(self, z: Prepared) -> Tensor:
        channels, rows, columns = z
        pooled = grid.mean(channels) + grid.mean(rows) + grid.mean(columns)  # b c
        scores = self.gate_drop(self.select(self.gate_drop(gelu(self.squeeze(pooled)))))
        return precision.softmax(scores.unflatten(1, (3, -1, 1, 1)), 1)

    def combine(self, a: Tensor, z: Prepared) -> Tensor:
        channels, rows, columns = z
        y = a[:, 0] * channels + a[:, 1] * rows + a[:, 2] * columns
        return self.drop(self.out(y))


@leaf
def _merge_channels(y: Tensor, like: Tensor) -> Tensor:
    """Merge the two channel axes of ``b n s h w``, in the memory format of ``like``."""
    if like.is_contiguous(memory_format=torch.channels_last):
        return y.permute(0, 3, 4, 1, 2).flatten(3).permute(0, 3, 1, 2)
    return y.flatten(1, 2)
