"""Selective kernel convolution: a channel-wise softmax over branches of different kernel sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..core import precision
from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import divides, odd, positive
from ..core.conv_norm import conv_norm


class SelectiveKernel(Attention):
    r"""Convolves with kernels of different sizes and sums the results, weighted per channel.

    .. math::
        U_k = \delta(\mathrm{BN}(F_k * x)), \quad
        s = \overline{\textstyle\sum_k U_k}, \quad z = \delta\big(\mathrm{BN}(W s)\big), \quad
        a = \operatorname{softmax}_k(V_k z), \quad y = \textstyle\sum_k a_k \odot U_k

    where the bar averages over positions and :math:`\delta` is ReLU; equations 1 to 6 of the
    paper.

    Args:
        in_channels: Channels of x.
        out_channels: Channels of y; ``in_channels`` by default.
        kernel_sizes: Side of each branch's kernel, odd.
        stride: Stride of every branch.
        dilation: Dilation of every branch, multiplied by the one that ``dilate`` implies.
        groups: Groups of every branch's convolution.
        reduction: r; :math:`z` has :math:`\max(L, \lfloor C/r \rfloor)` units for C channels of y.
        min_hidden_dim: L.
        hidden_dim: Dimension of :math:`z`, instead of ``reduction`` and ``min_hidden_dim``.
        dilate: Replace a :math:`5 \times 5` kernel by a :math:`3 \times 3` one with dilation 2, and
            so on, as the authors do.
        norm: Give the hidden layer batch norm and ReLU; without them :math:`z = W s`, and both
            layers have biases.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, map ``b k o 1 1`` over the k branches, y ``b o h' w'``, smaller by the
        stride.

    Raises:
        ValueError: a size is not positive, a kernel is even, there are fewer than two kernels, or
            the groups do not divide the channels.

    >>> SelectiveKernel(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = Card(
        title="Selective Kernel",
        paper="Selective Kernel Networks",
        authors="Xiang Li, Wenhai Wang, Xiaolin Hu, Jian Yang",
        venue="CVPR",
        year=2019,
        url="https://arxiv.org/abs/1903.06586",
        code="https://github.com/implus/SKNet",
        license="none stated",
        domain="branch",
        computes="conv+pool+fc",
        applies="select",
        kind="convolution",
        train_differs=True,
        cost=dict(time="n c^2", memory="n c"),
        aliases=("sk", "sknet"),
    )
    axes = Axes("b c h w", "b k o 1 1", output="b o y x", range="softmax k")

    def __init__(
        self,
        in_channels: int,
        out_channels: int | None = None,
        *,
        kernel_sizes: Sequence[int] = (3, 5),
        stride: int = 1,
        dilation: int = 1,
        groups: int = 32,
        reduction: int = 16,
        min_hidden_dim: int = 32,
        hidden_dim: int | None = None,
        dilate: bool = True,
        norm: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=in_channels)
        out_channels = in_channels if out_channels is None else out_channels
        positive(
            stride=stride, dilation=dilation, reduction=reduction, min_hidden_dim=min_hidden_dim
        )
        divides(in_channels=in_channels, groups=groups)
        divides(out_channels=out_channels, groups=groups)
        if isinstance(kernel_sizes, int) or len(kernel_sizes) < 2:
            raise ValueError(f"kernel_sizes must be two sizes or more, got {kernel_sizes!r}")
        if hidden_dim is None:
            hidden_dim = max(out_channels // reduction, min_hidden_dim)
        positive(hidden_dim=hidden_dim)
        self.kernel_sizes = tuple(kernel_sizes)
        factory: dict[str, Any] = {"device": device, "dtype": dtype}

        def branch(kernel: int) -> nn.Sequential:
            odd(kernel_sizes=kernel)
            dilated = dilate and kernel > 3
            return conv_norm(
                in_channels,
                out_channels,
                3 if dilated else kernel,
                stride=stride,
                dilation=dilation * (kernel // 2) if dilated else dilation,
                groups=groups,
                activation=nn.ReLU(),
                **factory,
            )

        self.branches = nn.ModuleList(branch(kernel) for kernel in kernel_sizes)
        self.squeeze = nn.Conv2d(out_channels, hidden_dim, 1, bias=not norm, **factory)
        self.norm = nn.BatchNorm2d(hidden_dim, **factory) if norm else None
        self.select = nn.Conv2d(
            hidden_dim, len(kernel_sizes) * out_channels, 1, bias=not norm, **factory
        )

    def prepare(self, x: Tensor) -> list[Tensor]:
        return [branch(x) for branch in self.branches]  # k times b o h w

    def attention(self, z: list[Tensor]) -> Tensor:
        hidden = self.squeeze(sum(u.mean((2, 3), keepdim=True) for u in z))  # b d 1 1
        if self.norm is not None:
            hidden = self.norm(hidden).relu()
        return precision.softmax(self.select(hidden).unflatten(1, (len(z), -1)), 1)

    def combine(self, a: Tensor, z: list[Tensor]) -> Tensor:
        return sum(a[:, k] * u for k, u in enumerate(z))
