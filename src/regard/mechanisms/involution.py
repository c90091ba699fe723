"""Involution: a convolution whose kernel is computed at each position, from that position."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from ..core import neighbors
from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import divides, odd, positive, reduced


class Involution(Attention):
    r"""Sums the neighbors of each position, weighted by a kernel computed from that position.

    .. math::
        y_{c,p} = \textstyle\sum_{k} a_{g(c),k,p}\, x_{c,p+k}, \quad
        a_p = W_1\, \delta\big(\mathrm{BN}(W_0\, x_p)\big)

    where k runs over a :math:`K \times K` window, :math:`g(c)` is the group of the channel and
    :math:`\delta` is ReLU; section 3 of the paper. With a stride s, the kernel is computed from the
    average of :math:`s \times s` positions.

    In bfloat16, the roundings of its layers add up to a little more than one percent.

    Args:
        channels: :math:`C`.
        kernel_size: :math:`K`, odd.
        stride: Stride of the windows.
        reduction: :math:`r`; the hidden layer has :math:`\lfloor C/r \rfloor` channels.
        group_width: Number of consecutive channels that share a kernel.
        bias: Add a bias to the first layer, before the batch norm.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, map ``b g k h w`` for g groups and k = :math:`K^2` neighbors, row by row,
        y as x; a stride divides height and width of both, rounded up.

    Raises:
        ValueError: a size is not positive, the kernel is even, the reduction leaves no hidden
            channel, or ``group_width`` does not divide the channels.

    >>> Involution(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = Card(
        title="Involution",
        paper="Involution: Inverting the Inherence of Convolution for Visual Recognition",
        authors=(
            "Duo Li, Jie Hu, Changhu Wang, Xiangtai Li, Qi She, Lei Zhu, Tong Zhang, Qifeng Chen"
        ),
        venue="CVPR",
        year=2021,
        url="https://arxiv.org/abs/2103.06255",
        code="https://github.com/d-li14/involution",
        license="MIT",
        domain="spatial",
        computes="conv",
        applies="matmul",
        kind="convolution",
        train_differs=True,
        cost=dict(time="n c^2", memory="n c"),
        aliases=("involution", "rednet", "involution_2d"),
        differs=(
            "Where the stride does not divide the height or width, the last kernels are computed "
            "from the average of the remaining positions; the authors' code raises an error.",
        ),
    )
    axes = Axes("b c h w", "b g k h w")

    def __init__(
        self,
        channels: int,
        kernel_size: int = 7,
        *,
        stride: int = 1,
        reduction: int = 4,
        group_width: int = 16,
        bias: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=channels)
        hidden_dim = reduced(channels, reduction)
        odd(kernel_size=kernel_size)
        positive(stride=stride)
        divides(channels=channels, group_width=group_width)
        self.kernel_size, self.stride = kernel_size, stride
        self.groups = channels // group_width
        if stride > 1:
            self.axes = replace(self.axes, map="b g k y x", output="b c y x")
        factory = {"device": device, "dtype": dtype}
        self.squeeze = nn.Conv2d(channels, hidden_dim, 1, bias=bias, **factory)
        self.norm = nn.BatchNorm2d(hidden_dim, **factory)
        self.span = nn.Conv2d(hidden_dim, self.groups * kernel_size**2, 1, **factory)

    def attention(self, x: Tensor) -> Tensor:
        z = neighbors.avg_pool(x, self.stride)
        a = self.span(self.norm(self.squeeze(z)).relu())
        return a.unflatten(1, (self.groups, self.kernel_size**2))  # b g k y x

    def combine(self, a: Tensor, x: Tensor) -> Tensor:
        return neighbors.gather(a, x, self.kernel_size, self.stride)
