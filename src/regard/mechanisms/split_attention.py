"""Split attention: a channel-wise softmax over the splits of one convolution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, SupportsIndex

import torch
from torch import Tensor, nn

from ..core import precision
from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import divides, odd, per_axis, positive


class SplitAttention(Attention):
    r"""Convolves x with R kernels and sums the results, weighted per channel.

    .. math::
        U_r = \delta(\mathrm{BN}(K_r * x)), \quad
        z = W_2\,\delta\big(\mathrm{BN}(W_1 \textstyle\sum_r \bar U_r)\big), \quad
        a = \operatorname{softmax}_r(z), \quad y = \textstyle\sum_r a_r \odot U_r

    in each of K groups of channels, where the bar averages over positions, :math:`\delta` is ReLU,
    :math:`W_1` and :math:`W_2` have biases, and a is :math:`\sigma(z)` for R = 1; equations 1 to 3
    of the paper.

    In half precision, rounding can change which entry the softmax selects where scores are in
    the hundreds.

    Args:
        in_channels: Channels of x.
        out_channels: Channels of y; ``in_channels`` by default.
        kernel_size: Side of every kernel, odd, or one for each axis.
        stride: Stride of every kernel, or one for each axis.
        padding: Zeros on each side, or one number for each axis; by default those that keep the
            size at stride 1.
        dilation: Dilation of every kernel, or one for each axis.
        groups: :math:`K`, the paper's cardinality.
        radix: :math:`R`.
        reduction: The hidden layer has :math:`\max(32, \lfloor R\,C/r \rfloor)` units for C
            channels of x.
        hidden_dim: Units of the hidden layer, instead of ``reduction``.
        bias: Give the kernels biases.
        norm: Put batch norms after the kernels and :math:`W_1`.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, map ``b r o 1 1`` over the r splits, y ``b o h' w'``, smaller by the stride.

    Raises:
        ValueError: a size is not positive, the kernel is even, the padding is negative, the groups
            do not divide the hidden units or the channels of y, or groups times splits do not
            divide the channels of x.

    >>> SplitAttention(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = Card(
        title="Split Attention",
        paper="ResNeSt: Split-Attention Networks",
        authors=(
            "Hang Zhang, Chongruo Wu, Zhongyue Zhang, Yi Zhu, Haibin Lin, Zhi Zhang, Yue Sun, Tong "
            "He, Jonas Mueller, R. Manmatha, Mu Li, Alexander Smola"
        ),
        venue="CVPR Workshops",
        year=2022,
        url="https://arxiv.org/abs/2004.08955",
        code="https://github.com/zhanghang1989/ResNeSt",
        license="Apache-2.0",
        domain="branch",
        computes="conv+pool+fc",
        applies="select",
        kind="convolution",
        train_differs=True,
        cost=dict(time="n c^2", memory="n c"),
        aliases=("split", "splat", "resnest"),
        differs=(
            "With groups, the channels of the convolution are ordered by split, then by group, as "
            "in the released code; in the paper by group, then by split.",
            "The hidden layer has at least 32 units, as in the released code; the paper sets no "
            "minimum.",
        ),
    )
    axes = Axes("b c h w", "b r o 1 1", output="b o y x", range="softmax r")

    def __init__(
        self,
        in_channels: int,
        out_channels: int | None = None,
        kernel_size: int | Sequence[int] = 3,
        *,
        stride: int | Sequence[int] = 1,
        padding: SupportsIndex | Sequence[int] | None = None,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
        radix: int = 2,
        reduction: int = 4,
        hidden_dim: int | None = None,
        bias: bool = False,
        norm: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=in_channels)
        out_channels = in_channels if out_channels is None else out_channels
        positive(in_channels=in_channels, out_channels=out_channels)
        positive(groups=groups, radix=radix, reduction=reduction)
        kernel_size = per_axis(2, 1, kernel_size=kernel_size)
        dilation = per_axis(2, 1, dilation=dilation)
        for side in kernel_size:
            odd(kernel_size=side)
        if padding is None:
            padding = [d * (k // 2) for k, d in zip(kernel_size, dilation, strict=True)]
        if hidden_dim is None:
            hidden_dim = max(32, in_channels * radix // reduction)
        divides(in_channels=in_channels, groups_and_splits=groups * radix)
        divides(out_channels=out_channels, groups=groups)
        divides(hidden_dim=hidden_dim, groups=groups)
        self.radix, self.groups = radix, groups
        self.axes = replace(self.axes, range="softmax r" if radix > 1 else "unit")
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        split_channels = radix * out_channels
        self.split = nn.Sequential(
            nn.Conv2d(
                in_channels,
                split_channels,
                kernel_size,
                per_axis(2, 1, stride=stride),
                per_axis(2, 0, padding=padding),
                dilation,
                groups * radix,
                bias,
                **factory,
            ),
            nn.BatchNorm2d(split_channels, **factory) if norm else nn.Identity(),
            nn.ReLU(),
        )
        # 1 x 1 convolutions, because nn.Linear has no groups.
        self.squeeze = nn.Conv2d(out_channels, hidden_dim, 1, groups=groups, **factory)
        self.norm = nn.BatchNorm2d(hidden_dim, **factory) if norm else None
        self.excite = nn.Conv2d(hidden_dim, split_channels, 1, groups=groups, **factory)

    def prepare(self, x: Tensor) -> Tensor:
        return self.split(x).unflatten(1, (self.radix, -1))  # b r o h w

    def attention(self, z: Tensor) -> Tensor:
        hidden = self.squeeze(z.mean((3, 4), keepdim=True).sum(1))  # b d 1 1
        if self.norm is not None:
            hidden = self.norm(hidden)
        scores = self.excite(hidden.relu())
        # The excite layer orders its channels by group, then by split.
        scores = scores.unflatten(1, (self.groups, self.radix, -1)).transpose(1, 2).flatten(2, 3)
        return precision.softmax(scores, 1) if self.radix > 1 else scores.sigmoid()

    def combine(self, a: Tensor, z: Tensor) -> Tensor:
        # Split by split: in channels_last this takes a tenth of the time of (a * z).sum(1).
        weights, splits = a.unbind(1), z.unbind(1)
        y = weights[0] * splits[0]
        for r in range(1, self.radix):
            y = torch.addcmul(y, weights[r], splits[r])
        return y
