"""CPCA: a gate per channel, then weights per position and channel from strips of several sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from ..core import grid
from ..core.attention import Attention, Tap
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import odd, one_of, reduced
from ..core.conv_norm import CONV
from ..core.strips import strips


class CPCA(Attention):
    r"""Scales each channel by a gate, then each position of each channel by a linear weight.

    .. math::
        u = \mathrm{GELU}(P x), \quad
        a^c = \sigma(M \bar u) + \sigma(M \hat u), \quad
        a^s = P\big(t + \textstyle\sum_k D_k t\big), \quad t = D_5 (a^c \odot u), \quad
        y = P (a^s \odot a^c \odot u)

    where :math:`\bar u` and :math:`\hat u` are the average and the maximum of each channel,
    :math:`M = W_2\,\delta\,W_1` with ReLU, :math:`D_5` is a :math:`5 \times 5` depthwise
    convolution, and :math:`D_k` a depthwise :math:`1 \times k` one followed by a
    :math:`k \times 1` one; section 3 of the paper. The weights :math:`a^s` have no activation.

    In bfloat16, the roundings of its layers add up to a little more than one percent.

    Args:
        channels: :math:`C`.
        reduction: :math:`r`; M has :math:`\lfloor C/r \rfloor` hidden channels.
        kernel_sizes: The lengths k of the strips, odd.
        order: Whether the channel gate is the sum of two sigmoids, ``sigmoid-sum``, or the sigmoid
            of the sum, ``sum-sigmoid``, as in the paper and in CBAM.
        shared: Use one pointwise convolution P in all three places, as the authors' code does; if
            False, there are three.
        dims: Axes of space and time: 1, 2 or 3.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c *`` (``dims`` axes of space and time), map ``b c *``, y as x; the parts are the
        channel gate ``b c 1*`` and the spatial weights ``b c *``.

    Raises:
        ValueError: a size is not positive, a kernel is even, the reduction leaves no hidden
            channel, or a choice is unknown.

    >>> CPCA(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = Card(
        title="Channel Prior Convolutional Attention",
        paper="Channel prior convolutional attention for medical image segmentation",
        authors="Hejun Huang, Zuguo Chen, Ying Zou, Ming Lu, Chaoyang Chen",
        venue="Computers in Biology and Medicine",
        year=2024,
        url="https://arxiv.org/abs/2306.05196",
        code="https://github.com/Cuthbert-Huang/CPCANet",
        license="Apache-2.0",
        domain="channel+spatial",
        computes="pool+fc+conv",
        applies="gate",
        kind="gate",
        cost=dict(time="n c^2", memory="n c"),
        aliases=("channel_prior_convolutional", "channel_prior", "cpcanet", "cpca_block"),
        differs=(
            "The authors' code uses one pointwise convolution in three places, and so does the "
            "default here; the paper's figure shows separate ones (shared=False).",
            "The paper's channel gate is the sigmoid of a sum, as in CBAM (order='sum-sigmoid'); "
            "that of the code is a sum of two sigmoids.",
        ),
    )
    axes = Axes("b c *", "b c *", parts=dict(channel="b c 1*", spatial="b c *"))

    def __init__(
        self,
        channels: int,
        reduction: int = 4,
        *,
        kernel_sizes: Sequence[int] = (7, 11, 21),
        order: Literal["sigmoid-sum", "sum-sigmoid"] = "sigmoid-sum",
        shared: bool = True,
        dims: Literal[1, 2, 3] = 2,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=channels)
        hidden_dim = reduced(channels, reduction)
        for kernel in kernel_sizes:
            odd(kernel_sizes=kernel)
        one_of(("sigmoid-sum", "sum-sigmoid"), order=order)
        one_of((1, 2, 3), dims=dims)
        self.axes, self.order = self.axes.over(dims), order
        factory = {"device": device, "dtype": dtype}

        def pointwise() -> nn.Module:
            return CONV[dims](channels, channels, 1, **factory)

        self.mix = pointwise()
        self.spread = None if shared else pointwise()
        self.project = None if shared else pointwise()
        self.squeeze = nn.Linear(channels, hidden_dim, **factory)
        self.excite = nn.Linear(hidden_dim, channels, **factory)
        self.near = CONV[dims](channels, channels, 5, padding=2, groups=channels, **factory)
        self.strips = nn.ModuleList(
            strips(channels, kernel, dims=dims, **factory) for kernel in kernel_sizes
        )
        self.tap_channel, self.tap_spatial = Tap(), Tap()

    def prepare(self, x: Tensor) -> Tensor:
        return gelu(self.mix(x))

    def attention(self, u: Tensor) -> Tensor:
        pooled = torch.stack([u.flatten(2).mean(2), grid.amax(u.flatten(2), 2)])  # 2 b c
        scores = self.excite(self.squeeze(pooled).relu())
        gate = scores.sigmoid().sum(0) if self.order == "sigmoid-sum" else scores.sum(0).sigmoid()
        a = self.tap_channel(grid.broadcast_gate(gate, u))
        t = self.near(a * u)
        total = t
        for strip in self.strips:
            total = total + strip(t)
        spread = self.mix if self.spread is None else self.spread
        return a * self.tap_spatial(spread(total))

    def combine(self, a: Tensor, u: Tensor) -> Tensor:
        return (self.mix if self.project is None else self.project)(a * u)
