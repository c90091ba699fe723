"""GAM: a channel gate without pooling, then a spatial gate from two large convolutions."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from ..core.attention import Attention, Tap
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import divides, odd, one_of, reduced
from ..core.conv_norm import CONV, NORM


class GAM(Attention):
    r"""Scales x by a gate from the channels of each position, then by one from its neighborhood.

    .. math::
        a^c = W_2\,\delta(W_1 x), \quad x' = a^c \odot x, \quad
        a^s = \sigma\big(\mathrm{BN}(K_2 * \delta(\mathrm{BN}(K_1 * x')))\big), \quad
        y = a^s \odot x'

    where :math:`\delta` is ReLU, :math:`W_1` and :math:`W_2` act on each position alone, and
    :math:`K_1` and :math:`K_2` are :math:`7 \times 7` kernels over all channels; equations 1 and 2
    and figures 2 and 3 of the paper.

    In half precision, rounding can change on which side of its step the sigmoid is where scores
    are in the hundreds.

    Args:
        channels: :math:`C`.
        reduction: :math:`r`; both gates have :math:`\lfloor C/r \rfloor` hidden channels.
        kernel_size: Size of :math:`K_1` and :math:`K_2`, odd.
        channel_activation: Activation of the first gate: ``sigmoid``, as in figure 2 of the paper,
            or None.
        groups: Groups of both convolutions; the channels are shuffled between them.
        dims: Axes of space and time: 1, 2 or 3.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c *`` (``dims`` axes of space and time), map ``b c *``, the product of the parts
        ``tap_channel`` and ``tap_spatial``, both ``b c *``, y as x.

    Raises:
        ValueError: a size is not positive, the kernel is even, the reduction leaves no hidden
            channel, the groups do not divide the channels or the hidden ones, or ``dims`` is
            unknown.

    >>> GAM(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = Card(
        title="Global Attention Mechanism",
        paper="Global Attention Mechanism: Retain Information to Enhance Channel-Spatial "
        "Interactions",
        authors="Yichao Liu, Zongru Shao, Nico Hoffmann",
        venue="arXiv",
        year=2021,
        url="https://arxiv.org/abs/2112.05561",
        domain="channel+spatial",
        computes="fc+conv",
        applies="gate",
        kind="gate",
        train_differs=True,
        cost=dict(time="n c^2", memory="n c"),
        aliases=("gam", "global_attention"),
        differs=(
            "The code in circulation, and the default here, has no activation on the first gate; "
            "the paper's figure has a sigmoid there (channel_activation='sigmoid').",
            "In its larger network the paper uses grouped convolutions and shuffles the channels, "
            "but does not say where: here it is between the two.",
        ),
    )
    axes = Axes("b c *", "b c *", parts=dict(channel="b c *", spatial="b c *"))

    def __init__(
        self,
        channels: int,
        reduction: int = 4,
        *,
        kernel_size: int = 7,
        channel_activation: Literal["sigmoid"] | None = None,
        groups: int = 1,
        dims: Literal[1, 2, 3] = 2,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=channels)
        hidden_dim = reduced(channels, reduction)
        odd(kernel_size=kernel_size)
        divides(channels=channels, groups=groups)
        divides(hidden_dim=hidden_dim, groups=groups)
        one_of(("sigmoid", None), channel_activation=channel_activation)
        one_of((1, 2, 3), dims=dims)
        self.channel_activation, self.groups = channel_activation, groups
        self.axes = replace(self.axes.over(dims), range="unit" if channel_activation else "real")
        factory = {"device": device, "dtype": dtype}
        options = {"padding": kernel_size // 2, "groups": groups, **factory}
        self.squeeze = CONV[dims](channels, hidden_dim, 1, **factory)
        self.excite = CONV[dims](hidden_dim, channels, 1, **factory)
        self.narrow = CONV[dims](channels, hidden_dim, kernel_size, **options)
        self.narrow_norm = NORM[dims](hidden_dim, **factory)
        self.widen = CONV[dims](hidden_dim, channels, kernel_size, **options)
        self.widen_norm = NORM[dims](channels, **factory)
        self.tap_channel = Tap()
        self.tap_spatial = Tap()

    def attention(self, x: Tensor) -> Tensor:
        a = self.channel_gate(x)
        return a * self.spatial_gate(x * a)

    def combine(self, a: Tensor, x: Tensor) -> Tensor:
        return x * a

    def fused(self, x: Tensor) -> Tensor:
        x = x * self.channel_gate(x)
        return x * self.spatial_gate(x)

    def channel_gate(self, x: Tensor) -> Tensor:
        a = self.excite(self.squeeze(x).relu())
        return self.tap_channel(a.sigmoid() if self.channel_activation else a)

    def spatial_gate(self, x: Tensor) -> Tensor:
        z = self.narrow_norm(self.narrow(x)).relu()
        if self.groups > 1:
            z = z.unflatten(1, (self.groups, -1)).transpose(1, 2).flatten(1, 2)
        return self.tap_spatial(self.widen_norm(self.widen(z)).sigmoid())
