"""Efficient multi-scale attention: spatial gates from two branches that attend to each other."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..core import precision
from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import divides, odd


class EfficientMultiScale(Attention):
    r"""Scales each position of each channel group by a gate from two cross-attending branches.

    .. math::
        u = \mathrm{Norm}\big(x \odot \sigma(W \bar x^h) \odot \sigma(W \bar x^w)\big), \quad
        v = K * x, \quad
        a = \sigma\big(\operatorname{softmax}(\bar u)^\top v
            + \operatorname{softmax}(\bar v)^\top u\big), \quad y = a \odot x

    for each group of channels, where :math:`\bar x^h` and :math:`\bar x^w` are the averages of the
    rows and of the columns, :math:`\bar u` and :math:`\bar v` the averages of all positions, the
    norm is over the positions of each channel, and K is a :math:`3 \times 3` kernel; section 3 of
    the paper.

    In half precision, rounding can change which entry the softmax selects where scores are in
    the hundreds.

    Args:
        channels: :math:`C`.
        groups: Groups of channels, which share all parameters.
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
            "The output of a norm over each channel's positions has its bias as the average, so "
            "softmax(u) does not depend on the input; here it is computed from the bias.",
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
        group_dim = channels // groups
        factory = {"device": device, "dtype": dtype}
        self.strips = nn.Conv1d(group_dim, group_dim, 1, **factory)
        self.norm = nn.GroupNorm(group_dim, group_dim, **factory)
        padding = kernel_size // 2
        self.around = nn.Conv2d(group_dim, group_dim, kernel_size, padding=padding, **factory)

    def attention(self, x: Tensor) -> Tensor:
        x = x.unflatten(1, (self.groups, -1)).flatten(0, 1)  # (b g) d h w
        rows = self.strips(x.mean(3)).sigmoid().unsqueeze(3)
        columns = self.strips(x.mean(2)).sigmoid().unsqueeze(2)
        u, v = self.norm(x * rows * columns), self.around(x)
        q_u = precision.softmax(self.norm.bias, 0)  # d: the average of u is the bias
        q_v = precision.softmax(v.mean((2, 3)), 1).unsqueeze(1)  # (b g) 1 d
        a = q_u @ v.flatten(2) + (q_v @ u.flatten(2)).squeeze(1)  # (b g) n
        return a.sigmoid().unflatten(1, x.shape[2:]).unflatten(0, (-1, self.groups))

    def combine(self, a: Tensor, x: Tensor) -> Tensor:
        return (x.unflatten(1, (self.groups, -1)) * a.unsqueeze(2)).flatten(1, 2)
