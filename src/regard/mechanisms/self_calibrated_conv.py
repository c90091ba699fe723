"""Self-calibrated convolution: a smaller copy of the input says what to let through."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate

from ..core import grid
from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import divides, odd, one_of, positive
from ..core.tracing import leaf


@leaf
def shrink(x: Tensor, pool_size: int) -> Tensor:
    """Average windows of ``pool_size`` by ``pool_size``, or the whole side where it is shorter."""
    return avg_pool2d(x, [pool_size if n >= pool_size else n for n in x.shape[2:]])


class SelfCalibratedConv(Attention):
    r"""Convolves, gates the result by the input and a wider view of it, and convolves again.

    .. math::
        y = K_4 * \big(a \odot (K_3 * x)\big), \quad
        a = \sigma\big(x + \operatorname{Up}(K_2 * \operatorname{AvgPool}_r(x))\big)

    with a batch norm behind each convolution; section 3 of the paper, where that is done to half of
    the channels and the other half is convolved with :math:`K_1`. `SelfCalibratedBottleneck` is the
    residual block of the authors' networks.

    Args:
        in_channels: Channels of x.
        out_channels: Channels of y; as many by default.
        kernel_size: Side of every kernel, odd.
        stride: Stride of :math:`K_4` (and :math:`K_1`).
        dilation: Dilation of every kernel.
        groups: Groups of every convolution.
        pool_size: :math:`r`, the side and the step of the averaged windows.
        interpolation: How the pooled map grows again: ``nearest`` as in the authors' code,
            ``bilinear`` as in the paper.
        norm: Put a batch norm behind each convolution; else they have biases.
        split: Calibrate the first half of the channels and convolve the second, as in the paper;
            the authors' block makes the halves by itself.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, map ``b c h w`` (of half of the channels with ``split``), y ``b o h' w'``,
        smaller by the stride.

    Raises:
        ValueError: a size is not positive, the kernel is even, the groups or the halves do not
            divide the channels, or the way up is unknown.

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
            "The authors' code, and the default here, takes the nearest value on the way up; the "
            "paper interpolates bilinearly (up='bilinear').",
            "The authors' code has a batch norm behind each convolution, the equations have none "
            "(norm=False).",
            "In the paper half of the channels are calibrated (split=True); in the authors' code "
            "two 1x1 convolutions of the surrounding block make the two halves.",
            "A side shorter than the window is averaged as a whole; the authors' code stops there.",
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
        width, wide = in_channels // halves, out_channels // halves
        self.pool_size, self.interpolation, self.split = pool_size, interpolation, split
        self.axes = replace(self.axes, map="b d h w" if split else "b c h w")
        factory = {"device": device, "dtype": dtype}

        def convolve(channels: int, step: int = 1) -> nn.Sequential:
            padding = dilation * (kernel_size // 2)
            convolution = nn.Conv2d(
                width,
                channels,
                kernel_size,
                step,
                padding,
                dilation,
                groups,
                bias=not norm,
                **factory,
            )
            return nn.Sequential(
                convolution, nn.BatchNorm2d(channels, **factory) if norm else nn.Identity()
            )

        self.wide = convolve(width)
        self.near = convolve(width)
        self.out = convolve(wide, stride)
        if split:
            self.plain = convolve(wide, stride)

    def prepare(self, x: Tensor) -> Any:
        return x.chunk(2, 1) if self.split else x

    def attention(self, x: Any) -> Tensor:
        x = x[0] if self.split else x
        z = grid.check_norm_batch(shrink(x, self.pool_size), type(self).__name__, self.training)
        return (x + interpolate(self.wide(z), x.shape[2:], mode=self.interpolation)).sigmoid()

    def combine(self, a: Tensor, x: Any) -> Tensor:
        if self.split:
            return torch.cat([self.out(self.near(x[0]) * a), self.plain(x[1])], 1)
        return self.out(self.near(x) * a)


class SelfCalibratedBottleneck(Attention):
    r"""Narrows x twice, convolves one half plainly and one self-calibrated, and adds x to both.

    .. math::
        y = \delta\big(\mathrm{BN}(W_3 [\delta(K_1 * x_1); \delta(\mathrm{SC}(x_2))]) + x\big),
        \quad x_i = \delta(\mathrm{BN}(W_i x))

    where SC is `SelfCalibratedConv` and :math:`\delta` is ReLU; figure 2 of the paper in the block
    of its networks.

    Args:
        in_channels: Channels of x.
        out_channels: Channels of y; as many by default.
        hidden_dim: Channels of each half; by default an eighth of ``out_channels``.
        stride: Stride of the block; x goes through a :math:`1 \times 1` convolution of that stride
            where sizes change.
        dilation: Dilation of the kernels.
        groups: Groups of the :math:`3 \times 3` convolutions.
        average: Average windows of three behind the halves, which then take the stride instead of
            the convolutions.
        pool_size: Side and step of the windows that are averaged to calibrate.
        interpolation: How the pooled map grows again: ``nearest`` or ``bilinear``.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, map ``b d h w`` of the d hidden channels, y ``b o h' w'``, smaller by the
        stride.

    Raises:
        ValueError: a size is not positive, or the groups do not divide the hidden channels.

    >>> SelfCalibratedBottleneck(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = SelfCalibratedConv.card
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
        step = 1 if average else stride
        factory = {"device": device, "dtype": dtype}

        def convolve(c: int, o: int, kernel_size: int = 1, **how: Any) -> list[nn.Module]:
            convolution = nn.Conv2d(c, o, kernel_size, bias=False, **how, **factory)
            return [convolution, nn.BatchNorm2d(o, **factory)]

        self.narrow_plain = nn.Sequential(*convolve(in_channels, hidden_dim), nn.ReLU())
        self.narrow = nn.Sequential(*convolve(in_channels, hidden_dim), nn.ReLU())
        how = {"stride": step, "dilation": dilation, "groups": groups}
        self.plain = nn.Sequential(*convolve(hidden_dim, hidden_dim, 3, padding=dilation, **how))
        self.calibrated = SelfCalibratedConv(
            hidden_dim, **how, pool_size=pool_size, interpolation=interpolation, **factory
        )
        self.average = nn.AvgPool2d(3, stride, 1) if average else nn.Identity()
        self.widen = nn.Sequential(*convolve(2 * hidden_dim, out_channels))
        same = stride == 1 and in_channels == out_channels
        self.shortcut = nn.Sequential(
            *([] if same else convolve(in_channels, out_channels, stride=stride))
        )

    def prepare(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return x, self.narrow_plain(x), self.narrow(x)

    def attention(self, x: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        return self.calibrated.attention(x[2])

    def combine(self, a: Tensor, x: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        y = torch.cat([self.plain(x[1]), self.calibrated.combine(a, x[2])], 1).relu()
        return (self.widen(self.average(y)) + self.shortcut(x[0])).relu()
