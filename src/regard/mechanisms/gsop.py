"""GSoP: gates from the covariances of the channels, or of the positions, instead of averages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn

from ..core import grid
from ..core.attention import Attention, Tap
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import one_of, positive

WIDE = 256  # The authors halve the map, before they compare channels, up to this width.


class GSoP(Attention):
    r"""Weighs each channel, or each position, by a gate that sees second-order statistics.

    .. math::
        U = \delta(\mathrm{BN}(W \delta(x))), \quad
        S = \tfrac1n (U - \bar U)(U - \bar U)^\top, \quad
        a = \sigma\big(W_2\, R(\mathrm{BN}(S))\big), \quad y = a \odot x

    with :math:`\delta` = ReLU, d rows in :math:`U`, and R, that makes 4 numbers of each row of the
    covariance :math:`S`. The ``position`` form pools :math:`\mathrm{BN}(W \delta(x))` to a grid of
    m places, compares those, puts :math:`\delta` behind R, spreads the gates over the map and ends
    with ReLU; figure 2 of the paper.

    Args:
        channels: :math:`C`.
        hidden_dim: d.
        form: Weigh each ``channel`` or each ``position``.
        stride: Of W, in the ``channel`` form; 2 up to 256 channels and 1 beyond, as in the authors'
            networks, if not given.
        grid_size: Height and width of the grid, in the ``position`` form.
        divisor: What the ``position`` form divides its sums over the d channels by: the number of
            ``places``, as the authors' code does, or of ``channels``, as in a covariance.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, map ``b c 1 1``, y as x; in the ``position`` form the map is ``b m`` for the
        m places of the grid, and the part ``tap_spatial``, spread over the map, ``b 1 h w``.

    Raises:
        ValueError: a size is not positive, or the form or the divisor is unknown.

    >>> GSoP(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = Card(
        title="Global Second-order Pooling",
        paper="Global Second-order Pooling Convolutional Networks",
        authors="Zilin Gao, Jiangtao Xie, Qilong Wang, Peihua Li",
        venue="CVPR",
        year=2019,
        url="https://arxiv.org/abs/1811.12006",
        code="https://github.com/ZilinGao/Global-Second-order-Pooling-Convolutional-Networks",
        license="MIT",
        domain="channel",
        computes="conv+matmul",
        applies="gate",
        kind="gate",
        train_differs=True,
        cost=dict(time="n c d + n d^2", memory="n c"),
        aliases=("gsop", "gsopnet", "gsop_net", "global_second_order_pooling"),
        differs=(
            "The paper has a non-linearity behind each of the two last layers; the authors' code, "
            "and this one, has none between them in the channel form.",
            "In the position form the authors' code is a covariance only where there are as many "
            "channels as places, which its own setting of 128 channels and 64 places is not "
            "(divisor='channels' always is).",
            "The two forms can be combined in the paper; here they are two modules.",
        ),
    )
    axes = Axes("b c h w", "b c 1 1", range="unit")

    def __init__(
        self,
        channels: int,
        hidden_dim: int = 128,
        *,
        form: Literal["channel", "position"] = "channel",
        stride: int | None = None,
        grid_size: Sequence[int] = (8, 8),
        divisor: Literal["places", "channels"] = "places",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=channels)
        positive(channels=channels, hidden_dim=hidden_dim)
        one_of(("channel", "position"), form=form)
        one_of(("places", "channels"), divisor=divisor)
        if stride is None or form == "position":
            stride = 2 if form == "channel" and channels <= WIDE else 1
        positive(stride=stride)
        if len(grid_size) != 2:
            raise ValueError(f"grid_size must be a height and a width, got {grid_size!r}")
        for side in grid_size:
            positive(grid_size=side)
        self.form = form
        self.grid_size = h, w = grid_size[0], grid_size[1]
        self.divisor = divisor
        compared, gates = (hidden_dim, channels) if form == "channel" else (h * w, h * w)
        if form == "position":
            parts = {"spatial": "b 1 h w"}
            self.axes = replace(self.axes, map="b m", parts=parts)
            self.tap_spatial = Tap()
        factory = {"device": device, "dtype": dtype}
        self.reduce = nn.Conv2d(channels, hidden_dim, 1, stride, **factory)
        self.norm = nn.BatchNorm2d(hidden_dim, **factory)
        self.norm_rows = nn.BatchNorm1d(compared, **factory)
        self.read_rows = nn.Conv1d(compared, 4 * compared, compared, groups=compared, **factory)
        self.expand = nn.Linear(4 * compared, gates, **factory)

    def attention(self, x: Tensor) -> Tensor:
        u = self.norm(self.reduce(x.relu()))
        if self.form == "channel":
            u = u.relu().flatten(2)  # b d n
            u = u - u.mean(2, keepdim=True)
            rows = self.read(u @ u.mT / u.shape[2])
            return self.expand(rows).sigmoid()[..., None, None]
        u = grid.adaptive_avg_pool2d(u, self.grid_size).flatten(2)  # b d m
        d = u.shape[1] if self.divisor == "channels" else u.shape[2]
        mean = u.sum(1, keepdim=True) / d  # b 1 m
        rows = self.read(u.mT @ u / d - mean.mT @ mean)
        return self.expand(rows.relu()).sigmoid()

    def read(self, covariance: Tensor) -> Tensor:
        return self.read_rows(self.norm_rows(covariance)).squeeze(2)

    def combine(self, a: Tensor, x: Tensor) -> Tensor:
        if self.form == "channel":
            return x * a
        a = grid.adaptive_avg_pool2d(a.unflatten(1, (1, *self.grid_size)), x.shape[2:])
        return (self.tap_spatial(a) * x).relu()
