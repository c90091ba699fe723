"""Self-calibrated convolution: a convolution gated by a downsampled view of its input."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from ..core import grid
from ..core.attention import Attention, Mechanism, names_itself
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import divides, odd, one_of, positive
from ..core.conv_norm import conv_norm

Prepared = tuple[Tensor, Tensor | None]  # the channels to calibrate, and the other half if split


class SelfCalibratedConv(Attention):
    r"""Convolves x, scales the result by a gate with a larger receptive field, convolves again.

    .. math::
        y = K_4 * \big(a \odot (K_3 * x)\big), \quad
        a = \sigma\big(x + \operatorname{Up}(K_2 * \operatorname{AvgPool}_r(x))\big)

    with a batch norm after each convolution; section 3 of the paper, where this is applied to half
    of the channels and the other half is convolved with :math:`K_1`. `SelfCalibratedBottleneck` is
    the residual block of the authors' networks.

    Args:
        in_channels: Channels of x.
        out_channels: Channels of y; ``in_channels`` by default.
        kernel_size: Side of every kernel, odd.
        stride: Stride of :math:`K_4` (and :math:`K_1`).
        dilation: Dilation of every kernel.
        groups: Groups of every convolution.
        pool_size: :math:`r`, the side and the stride of the pooling windows.
        interpolation: Upsampling of the pooled features: ``nearest`` as in the authors' code,
            ``bilinear`` as in the paper.
        norm: Put a batch norm after each convolution; without it they have biases.
        split: Calibrate the first half of the channels and convolve the second, as in the paper;
            in the authors' code the surrounding block makes the two halves.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, map ``b c h w`` (half of the channels with ``split``), y ``b o h' w'``,
        smaller by the stride.

    Raises:
        ValueError: a size is not positive, the kernel is even, the groups or the halves do not
            divide the channels, or the interpolation is unknown.

    >>> SelfCalibratedConv(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = Card(
        title="Self-Calibrated Convolution",
        paper="Improving Convolutional Networks with Self-Calibrated Convolutions",
        authors="Jiang-Jiang Liu, Qibin Hou, Ming-Ming Cheng, Changhu Wang, Jiashi Feng",
        venue="CVPR",
        year=2020,
        url="https://mmcheng.net/scconv/",
        code="https://github.com/MCG-NKU/SCNet",
        license="MIT",
        domain="channel+spatial",
        computes="pool+conv",
        applies="gate",
        kind="convolution",
        train_differs=True,
        cost=dict(time="n c^2", memory="n c"),
        aliases=("scconv", "scnet", "self_calibrated"),
        differs=(
            "The authors' code, and the default here, upsamples to the nearest value; the paper "
            "interpolates bilinearly (interpolation='bilinear').",
            "The authors' code has a batch norm after each convolution, the equations have none "
            "(norm=False).",
            "In the paper half of the channels are calibrated (split=True); in the authors' code "
            "two 1x1 convolutions of the surrounding block make the two halves.",
            "A side shorter than the pooling window is averaged whole; the authors' code fails.",
        ),
    )
    axes = Axes("b c h w", "b c h w", output="b o y x", range="unit")

    def __init__(
        self,
        in_channels: int,
        out_channels: int | None = None,
        kernel_size: int = 3,
        *,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        pool_size: int = 4,
        interpolation: Literal["nearest", "bilinear"] = "nearest",
        norm: bool = True,
        split: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=in_channels)
        out_channels = in_channels if out_channels is None else out_channels
        positive(in_channels=in_channels, out_channels=out_channels)
        positive(stride=stride, dilation=dilation, groups=groups, pool_size=pool_size)
        odd(kernel_size=kernel_size)
        one_of(("nearest", "bilinear"), interpolation=interpolation)
        halves = 2 if split else 1
        divides(in_channels=in_channels, halves=halves)
        divides(out_channels=out_channels, halves=halves)
        divides(in_channels=in_channels // halves, groups=groups)
        divides(out_channels=out_channels // halves, groups=groups)
        self.pool_size, self.interpolation, self.split = pool_size, interpolation, split
        self.axes = replace(self.axes, map="b d h w" if split else "b c h w")
        c, o = in_channels // halves, out_channels // halves

        def conv(channels: int, stride: int = 1) -> nn.Sequential:
            return conv_norm(
                c,
                channels,
                kernel_size,
                stride=stride,
                dilation=dilation,
                groups=groups,
                bias=not norm,
                norm=norm,
                device=device,
                dtype=dtype,
            )

        self.wide = conv(c)
        self.near = conv(c)
        self.out = conv(o, stride)
        if split:
            self.plain = conv(o, stride)

    def prepare(self, x: Tensor) -> Prepared:
        if not self.split:
            return x, None
        calibrated, plain = x.chunk(2, 1)
        return calibrated, plain

    def attention(self, z: Prepared) -> Tensor:
        x, _ = z
        pooled = grid.avg_pool(x, self.pool_size)
        return (x + interpolate(self.wide(pooled), x.shape[2:], mode=self.interpolation)).sigmoid()

    def combine(self, a: Tensor, z: Prepared) -> Tensor:
        x, plain = z
        y = self.out(self.near(x) * a)
        return y if plain is None else torch.cat([y, self.plain(plain)], 1)


class SelfCalibratedBottleneck(Mechanism):
    r"""Applies a plain and a self-calibrated convolution in the two paths of a residual bottleneck.

    .. math::
        y = \delta\big(\mathrm{BN}(W_3 [\delta(K_1 * x_1); \delta(\mathrm{SC}(x_2))]) + x\big),
        \quad x_i = \delta(\mathrm{BN}(W_i x))

    where SC is `SelfCalibratedConv` and :math:`\delta` is ReLU; figure 2 of the paper within the
    block of its networks. The map is at ``calibrated.tap``.

    Args:
        in_channels: Channels of x.
        out_channels: Channels of y; ``in_channels`` by default.
        hidden_dim: Channels of each path; by default an eighth of ``out_channels``.
        stride: Stride of the block; where sizes change, the shortcut is a :math:`1 \times 1`
            convolution of that stride.
        dilation: Dilation of the kernels.
        groups: Groups of the :math:`3 \times 3` convolutions.
        average: Apply the stride by average pooling, with windows of 3 x 3, after the convolutions
            instead of in them.
        pool_size: Side and stride of the pooling windows of the calibration.
        interpolation: Upsampling of the calibration: ``nearest`` or ``bilinear``.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, map ``b d h w`` of the d hidden channels, y ``b o h' w'``, smaller by the
        stride.

    Raises:
        ValueError: a size is not positive, the groups do not divide the hidden channels, or the
            interpolation is unknown.

    >>> SelfCalibratedBottleneck(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = replace(SelfCalibratedConv.card, plug=False)
    axes = Axes("b c h w", "b d h w", output="b o y x", range="unit")

    def __init__(
        self,
        in_channels: int,
        out_channels: int | None = None,
        *,
        hidden_dim: int | None = None,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        average: bool = False,
        pool_size: int = 4,
        interpolation: Literal["nearest", "bilinear"] = "nearest",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=in_channels)
        out_channels = in_channels if out_channels is None else out_channels
        positive(in_channels=in_channels, out_channels=out_channels, stride=stride)
        hidden_dim = out_channels // 8 if hidden_dim is None else hidden_dim
        positive(hidden_dim=hidden_dim, dilation=dilation)
        divides(hidden_dim=hidden_dim, groups=groups)
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        options: dict[str, Any] = {
            "stride": 1 if average else stride,
            "dilation": dilation,
            "groups": groups,
            **factory,
        }
        self.narrow_plain = conv_norm(in_channels, hidden_dim, activation=nn.ReLU(), **factory)
        self.narrow = conv_norm(in_channels, hidden_dim, activation=nn.ReLU(), **factory)
        self.plain = conv_norm(hidden_dim, hidden_dim, 3, **options)
        self.calibrated = SelfCalibratedConv(
            hidden_dim, pool_size=pool_size, interpolation=interpolation, **options
        )
        self.average = nn.AvgPool2d(3, stride, 1) if average else nn.Identity()
        self.widen = conv_norm(2 * hidden_dim, out_channels, **factory)
        if stride == 1 and in_channels == out_channels:
            self.shortcut = nn.Identity()
        else:
            self.shortcut = conv_norm(in_channels, out_channels, stride=stride, **factory)

    @names_itself
    def forward(self, x: Tensor) -> Tensor:
        self.check(x)
        plain = self.plain(self.narrow_plain(x))
        y = torch.cat([plain, self.calibrated(self.narrow(x))], 1).relu()
        return grid.relu(self.widen(self.average(y)) + self.shortcut(x))
