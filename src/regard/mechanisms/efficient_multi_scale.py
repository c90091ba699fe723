"""Efficient multi-scale attention: two views of a group of channels, each read by the other."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..core import precision
from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import divides, odd


class EfficientMultiScale(Attention):
    r"""Weighs each position, group by group, by two views of it that summarize each other.

    .. math::
        u = \mathrm{Norm}\big(x \odot \sigma(W \bar x^h) \odot \sigma(W \bar x^w)\big), \quad
        v = K * x, \quad
        a = \sigma\big(\operatorname{softmax}(\bar u)^\top v
            + \operatorname{softmax}(\bar v)^\top u\big), \quad y = a \odot x

    for each group of channels alike, where :math:`\bar x^h` and :math:`\bar x^w` are the averages
    of the rows and of the columns, :math:`\bar u` and :math:`\bar v` those of the image, the norm
    is over the positions of each channel, and K is a :math:`3 \times 3` kernel; section 3 of the
    paper.

    Args:
        channels: :math:`C`.
        groups: Groups of channels, which share all weights.
        kernel_size: Side of K, odd.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, map ``b g h w`` over the g groups, y as x.

    Raises:
        ValueError: a size is not positive, the kernel is even, or the groups do not divide the
            channels.

    >>> EfficientMultiScale(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = Card(
        title="Efficient Multi-Scale Attention",
        paper="Efficient Multi-Scale Attention Module with Cross-Spatial Learning",
        authors=(
            "Daliang Ouyang, Su He, Guozhong Zhang, Mingzhu Luo, Huaiyong Guo, Jian Zhan, Zhijie "
            "Huang"
        ),
        venue="ICASSP",
        year=2023,
        url="https://arxiv.org/abs/2305.13563",
        code="https://github.com/YOLOonMe/EMA-attention-module",
        license="none stated",
        domain="spatial",
        computes="pool+conv+matmul",
        applies="gate",
        kind="gate",
        cost=dict(time="n c^2", memory="n c"),
        aliases=("ema_multiscale", "ema"),
        differs=(
            "The average of what a norm over each channel's positions gives is its bias, so that "
            "one of the two summaries never sees the input; it is taken from the bias here.",
        ),
    )
    axes = Axes("b c h w", "b g h w", range="unit")

    def __init__(
        self,
        channels: int,
        groups: int = 32,
        *,
        kernel_size: int = 3,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=channels)
        divides(channels=channels, groups=groups)
        odd(kernel_size=kernel_size)
        self.groups = groups
        width = channels // groups
        factory = {"device": device, "dtype": dtype}
        self.strips = nn.Conv1d(width, width, 1, **factory)
        self.norm = nn.GroupNorm(width, width, **factory)
        self.around = nn.Conv2d(width, width, kernel_size, padding=kernel_size // 2, **factory)

    def attention(self, x: Tensor) -> Tensor:
        x = x.unflatten(1, (self.groups, -1)).flatten(0, 1)  # b·g d h w, the weights being shared
        rows = self.strips(x.mean(3)).sigmoid().unsqueeze(3)
        columns = self.strips(x.mean(2)).sigmoid().unsqueeze(2)
        u, v = self.norm(x * rows * columns), self.around(x)
        of_u = precision.softmax(self.norm.bias, 0)  # the average of u is the bias, d
        of_v = precision.softmax(v.mean((2, 3)), 1).unsqueeze(1)  # b·g 1 d
        a = of_u @ v.flatten(2) + (of_v @ u.flatten(2)).squeeze(1)  # b·g n
        return a.sigmoid().unflatten(1, x.shape[2:]).unflatten(0, (-1, self.groups))

    def combine(self, a: Tensor, x: Tensor) -> Tensor:
        return (x.unflatten(1, (self.groups, -1)) * a.unsqueeze(2)).flatten(1, 2)
