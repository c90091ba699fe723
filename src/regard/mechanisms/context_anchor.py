"""Context anchor attention: a gate from long strips of an averaged image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool1d, avg_pool2d

from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import odd, one_of, per_axis, positive
from ..core.conv_norm import CONV, NORM
from ..core.strips import strips
from ..core.tracing import leaf


class ContextAnchor(Attention):
    r"""Scales each channel of each position by a gate that sees long strips around it.

    .. math::
        a = \sigma\big(P_2\, D_{k \times 1}\, D_{1 \times k}\, P_1\, \bar x\big), \quad
        y = a \odot x

    where :math:`\bar x` averages x over :math:`7 \times 7` windows, with zeros outside the image,
    D are depthwise convolutions one pixel wide, and P mixes the channels of a position; equations
    3 to 5 of the paper. Block l of a stage of the paper's network
    has :math:`k = 11 + 2l`; `ContextAnchorBlock` is that block.

    In half precision, rounding can change on which side of its step the sigmoid is where scores
    are in the hundreds.

    Args:
        channels: :math:`C`.
        kernel_size: :math:`k`, odd, or one length for each axis, height first.
        norm: Apply batch norm after :math:`P_1` and :math:`P_2`, instead of a bias.
        activation: Apply SiLU after :math:`P_1` and :math:`P_2`.
        dims: Axes of space and time: 1, 2 or 3.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c *`` (``dims`` axes of space and time), map ``b c *``, y as x.

    Raises:
        ValueError: a size is not positive, a kernel is even, or ``dims`` is unknown.

    >>> ContextAnchor(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = Card(
        title="Context Anchor Attention",
        paper="Poly Kernel Inception Network for Remote Sensing Detection",
        authors="Xinhao Cai, Qiuxia Lai, Yuwei Wang, Wenguan Wang, Zeren Sun, Yazhou Yao",
        venue="CVPR",
        year=2024,
        url="https://arxiv.org/abs/2403.06258",
        code="https://github.com/PKINet/PKINet",
        license="Apache-2.0",
        domain="spatial",
        computes="pool+conv",
        applies="gate",
        kind="gate",
        cost=dict(time="n c^2", memory="n c"),
        aliases=("caa", "pkinet", "context_anchor_attention"),
        differs=(
            "The authors' class has batch norm and SiLU by default (norm=True, activation=True), "
            "and is often copied so; their network switches both off, as here.",
            "The authors' class returns the gate alone; here, as in their network, it is applied.",
        ),
    )
    axes = Axes("b c *", "b c *", range="unit")

    def __init__(
        self,
        channels: int,
        kernel_size: int | Sequence[int] = 11,
        *,
        norm: bool = False,
        activation: bool = False,
        dims: Literal[1, 2, 3] = 2,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=channels)
        positive(channels=channels)
        one_of((1, 2, 3), dims=dims)
        kernel_size = per_axis(dims, 1, kernel_size=kernel_size)
        for length in kernel_size:
            odd(kernel_size=length)
        self.axes, self.dims = self.axes.over(dims), dims
        factory = {"device": device, "dtype": dtype}
        options = {"dims": dims, "norm": norm, "activation": activation, **factory}
        self.before = _pointwise(channels, channels, **options)
        self.strips = strips(channels, kernel_size, dims=dims, **factory)
        self.after = _pointwise(channels, channels, **options)

    def attention(self, x: Tensor) -> Tensor:
        return self.after(self.strips(self.before(_average(x, self.dims)))).sigmoid()

    def combine(self, a: Tensor, x: Tensor) -> Tensor:
        return x * a


class ContextAnchorBlock(Attention):
    r"""Convolves with kernels of several sizes in parallel, and gates the result by its context.

    .. math::
        y = N(P_3 (z + a(u) \odot z)), \quad
        z = N\big(P_2 (t + \textstyle\sum_{i \ge 2} D_i t)\big), \quad
        t = D_1 u, \quad u = N(P_1 x)

    where P are pointwise convolutions, :math:`D_i` depthwise ones, N is batch norm with SiLU, and a
    is the map of `ContextAnchor`; section 3.2 of the paper.

    In bfloat16, the roundings of its layers add up to a little more than one percent.

    Args:
        in_channels: Channels of x.
        out_channels: Channels of y; those of x by default.
        hidden_dim: Channels between; those of y by default.
        kernel_sizes: Sides of the depthwise kernels, odd.
        kernel_size: :math:`k` of `ContextAnchor`, odd.
        norm: Apply batch norm, instead of a bias; the gate has none.
        activation: Apply SiLU; the gate has none.
        residual: Add z to the gated z.
        dims: Axes of space and time: 1, 2 or 3.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c *`` (``dims`` axes of space and time), map ``b d *``, y ``b o *``.

    Raises:
        ValueError: a size is not positive, a kernel is even, there is no depthwise kernel, or
            ``dims`` is unknown.

    >>> ContextAnchorBlock(16)(torch.randn(2, 16, 9, 7)).shape
    torch.Size([2, 16, 9, 7])
    """

    card = replace(ContextAnchor.card, kind="convolution", train_differs=True)
    axes = Axes("b c *", "b d *", output="b o *", range="unit")

    def __init__(
        self,
        in_channels: int,
        out_channels: int | None = None,
        *,
        hidden_dim: int | None = None,
        kernel_sizes: Sequence[int] = (3, 5, 7, 9, 11),
        kernel_size: int = 11,
        norm: bool = True,
        activation: bool = True,
        residual: bool = True,
        dims: Literal[1, 2, 3] = 2,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=in_channels)
        out_channels = in_channels if out_channels is None else out_channels
        hidden_dim = out_channels if hidden_dim is None else hidden_dim
        positive(in_channels=in_channels, out_channels=out_channels, hidden_dim=hidden_dim)
        if not kernel_sizes:
            raise ValueError("kernel_sizes must be one number or more, got none")
        for side in kernel_sizes:
            odd(kernel_sizes=side)
        one_of((1, 2, 3), dims=dims)
        self.axes, self.residual = self.axes.over(dims), residual
        factory = {"device": device, "dtype": dtype}
        options = {"dims": dims, "norm": norm, "activation": activation, **factory}
        self.before = _pointwise(in_channels, hidden_dim, **options)
        self.kernels = nn.ModuleList(
            CONV[dims](hidden_dim, hidden_dim, k, padding=k // 2, groups=hidden_dim, **factory)
            for k in kernel_sizes
        )
        self.mix = _pointwise(hidden_dim, hidden_dim, **options)
        self.gate = ContextAnchor(hidden_dim, kernel_size, dims=dims, **factory)
        self.after = _pointwise(hidden_dim, out_channels, **options)

    def prepare(self, x: Tensor) -> tuple[Tensor, Tensor]:
        u = self.before(x)
        first, *others = self.kernels
        t = first(u)
        return u, self.mix(sum((kernel(t) for kernel in others), t))

    def attention(self, z: tuple[Tensor, Tensor]) -> Tensor:
        return self.gate.tap(self.gate.attention(z[0]))

    def combine(self, a: Tensor, z: tuple[Tensor, Tensor]) -> Tensor:
        gated = z[1] * a
        return self.after(z[1] + gated if self.residual else gated)


def _pointwise(
    before: int,
    after: int,
    *,
    dims: int,
    norm: bool,
    activation: bool,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> nn.Sequential:
    factory = {"device": device, "dtype": dtype}
    conv = CONV[dims](before, after, 1, bias=not norm, **factory)
    # The constants of the authors' code.
    normed = NORM[dims](after, eps=1e-3, momentum=0.03, **factory) if norm else nn.Identity()
    return nn.Sequential(conv, normed, nn.SiLU() if activation else nn.Identity())


@leaf
def _average(x: Tensor, dims: int) -> Tensor:
    """Average the window of side seven around each position, with zeros outside the image."""
    if dims == 3:  # in two steps: its own operator has no half precision, nor small images
        c, t, h, w = x.shape[1:]
        x = avg_pool2d(x.flatten(1, 2), 7, 1, 3).unflatten(1, (c, t))
        return avg_pool2d(x.flatten(3), (7, 1), 1, (3, 0)).unflatten(3, (h, w))
    return avg_pool2d(x, 7, 1, 3) if dims == 2 else avg_pool1d(x, 7, 1, 3)
