"""GSoP: gates from the covariance of the channels, or of the positions, instead of an average."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn

from ..core import grid, precision
from ..core.attention import Attention, Tap
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import one_of, positive

# Up to this many channels, the authors halve the resolution before they compute the covariance.
MAX_STRIDED_CHANNELS = 256


class GSoP(Attention):
    r"""Scales each channel, or each position, by a gate computed from a covariance matrix.

    .. math::
        U = \delta(\mathrm{BN}(W \delta(x))), \quad
        S = \tfrac1n (U - \bar U)(U - \bar U)^\top, \quad
        a = \sigma\big(W_2\, R(\mathrm{BN}(S))\big), \quad y = a \odot x

    with :math:`\delta` = ReLU, d rows in :math:`U`, and R a grouped convolution of each row of the
    covariance :math:`S` to 4 values. The ``position`` form pools :math:`\mathrm{BN}(W \delta(x))`
    to a grid of m positions, takes their covariance, applies :math:`\delta` after R, resizes the
    gates to x and ends with ReLU; figure 2 of the paper.

    In half precision, rounding can change on which side of its step the sigmoid is where scores
    are in the hundreds.

    Args:
        channels: :math:`C`.
        hidden_dim: d.
        form: Scale each ``channel`` or each ``position``.
        stride: Stride of W in the ``channel`` form; by default 2 up to 256 channels and 1 above, as
            in the authors' networks.
        grid_size: Height and width of the grid, in the ``position`` form.
        divisor: What the ``position`` form divides its sums over the d channels by: the number of
            grid positions (``places``), as the authors' code does, or of ``channels``, as in a
            covariance.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, map ``b c 1 1``, y as x; in the ``position`` form the map is ``b m`` for the
        m positions of the grid, and the part ``tap_spatial``, resized to x, ``b 1 h w``.

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
            "The paper has a non-linearity after each of the last two layers; the authors' code, "
            "and this one, has none between them in the channel form.",
            "In the position form the authors' code computes a covariance only if it has as many "
            "channels as grid positions; its own setting has 128 channels and 64 positions "
            "(divisor='channels' always computes one).",
            "The two forms can be combined in the paper; here they are separate modules.",
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
            stride = 2 if form == "channel" and channels <= MAX_STRIDED_CHANNELS else 1
        positive(stride=stride)
        if len(grid_size) != 2:
            raise ValueError(f"grid_size must be a height and a width, got {grid_size!r}")
        for side in grid_size:
            positive(grid_size=side)
        self.form = form
        self.grid_size = h, w = grid_size[0], grid_size[1]
        self.divisor = divisor
        rows, gates = (hidden_dim, channels) if form == "channel" else (h * w, h * w)
        if form == "position":
            self.axes = replace(self.axes, map="b m", parts={"spatial": "b 1 h w"})
            self.tap_spatial = Tap()
        factory = {"device": device, "dtype": dtype}
        self.reduce = nn.Conv2d(channels, hidden_dim, 1, stride, **factory)
        self.norm = nn.BatchNorm2d(hidden_dim, **factory)
        self.norm_rows = nn.BatchNorm1d(rows, **factory)
        self.read_rows = nn.Conv1d(rows, 4 * rows, rows, groups=rows, **factory)
        self.expand = nn.Linear(4 * rows, gates, **factory)

    def attention(self, x: Tensor) -> Tensor:
        u = self.norm(self.reduce(x.relu()))
        if self.form == "channel":
            u = u.relu().flatten(2)  # b d n
            u = u - u.mean(2, keepdim=True)
            covariance = precision.matmul(u, u.transpose(-2, -1)) / u.shape[2]
            z = self.describe(covariance.to(u.dtype))
            return self.expand(z).sigmoid()[..., None, None]
        u = grid.adaptive_avg_pool2d(u, self.grid_size).flatten(2)  # b d m
        d = u.shape[1] if self.divisor == "channels" else u.shape[2]
        mean = precision.widen(u).sum(1, keepdim=True) / d  # b 1 m
        covariance = precision.matmul(u.transpose(-2, -1), u) / d
        covariance = covariance - precision.matmul(mean.transpose(-2, -1), mean)
        z = self.describe(covariance.to(u.dtype))
        return self.expand(z.relu()).sigmoid()

    def combine(self, a: Tensor, x: Tensor) -> Tensor:
        if self.form == "channel":
            return x * a
        a = grid.adaptive_avg_pool2d(a.unflatten(1, (1, *self.grid_size)), x.shape[2:])
        return grid.relu(self.tap_spatial(a) * x)

    def describe(self, covariance: Tensor) -> Tensor:
        """Return four values for each row of the covariance, in one axis."""
        return self.read_rows(self.norm_rows(covariance)).squeeze(2)
