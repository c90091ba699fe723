"""Multi-scale convolutional attention: a gate from strips of several lengths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import odd, one_of, positive
from ..core.conv_norm import CONV
from ..core.gate_block import GateBlock
from ..core.strips import strips


class MultiScaleConv(Attention):
    r"""Scales each channel of each position by a gate that sees neighborhoods of several sizes.

    .. math::
        a = W \big(t + \textstyle\sum_k D_k t\big), \quad t = D_5 x, \quad y = a \odot x

    where :math:`D_5` is a :math:`5 \times 5` depthwise convolution, :math:`D_k` a depthwise
    :math:`1 \times k` one followed by a :math:`k \times 1` one, and W mixes the channels of a
    position; equations 1 and 2 of the paper. The gate has no activation. `MultiScaleConvBlock` is
    the block around it.

    Args:
        channels: :math:`C`.
        kernel_sizes: The lengths k, odd.
        dims: Axes of space and time: 1, 2 or 3.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c *`` (``dims`` axes of space and time), map ``b c *``, y as x.

    Raises:
        ValueError: a size is not positive, a kernel is even, or ``dims`` is unknown.

    >>> MultiScaleConv(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = Card(
        title="Multi-Scale Convolutional Attention",
        paper="SegNeXt: Rethinking Convolutional Attention Design for Semantic Segmentation",
        authors="Meng-Hao Guo, Cheng-Ze Lu, Qibin Hou, Zheng-Ning Liu, Ming-Ming Cheng, Shi-Min Hu",
        venue="NeurIPS",
        year=2022,
        url="https://arxiv.org/abs/2209.08575",
        code="https://github.com/Visual-Attention-Network/SegNeXt",
        license="Apache-2.0",
        domain="spatial",
        computes="conv",
        applies="gate",
        kind="gate",
        cost=dict(time="n c^2", memory="n c"),
        aliases=(
            "msca",
            "segnext",
            "segnext_attention",
            "multi_scale_conv_attention",
            "multi_scale_convolutional",
        ),
    )
    axes = Axes("b c *", "b c *")

    def __init__(
        self,
        channels: int,
        *,
        kernel_sizes: Sequence[int] = (7, 11, 21),
        dims: Literal[1, 2, 3] = 2,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=channels)
        positive(channels=channels)
        for kernel in kernel_sizes:
            odd(kernel_sizes=kernel)
        one_of((1, 2, 3), dims=dims)
        self.axes = self.axes.over(dims)
        factory = {"device": device, "dtype": dtype}
        self.near = CONV[dims](channels, channels, 5, padding=2, groups=channels, **factory)
        self.strips = nn.ModuleList(
            strips(channels, kernel, dims=dims, **factory) for kernel in kernel_sizes
        )
        self.mix = CONV[dims](channels, channels, 1, **factory)

    def attention(self, x: Tensor) -> Tensor:
        t = self.near(x)
        total = t
        for strip in self.strips:
            total = total + strip(t)
        return self.mix(total)

    def combine(self, a: Tensor, x: Tensor) -> Tensor:
        return x * a


class MultiScaleConvBlock(GateBlock):
    r"""Adds multi-scale convolutional attention, between two pointwise convolutions, to the input.

    .. math::
        z = \mathrm{GELU}(P_1 x), \quad y = x + P_2 (a(z) \odot z)

    where a is the map of `MultiScaleConv`, with its tap ``gate.tap``; figure 2 of the paper, which
    has a norm before it.

    In bfloat16, the roundings of its layers add up to a little more than one percent.

    Args:
        channels: :math:`C`.
        kernel_sizes: The lengths of `MultiScaleConv`, odd.
        dims: Axes of space and time: 1, 2 or 3.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c *`` (``dims`` axes of space and time), y as x; the map is that of ``gate``.

    Raises:
        ValueError: a size is not positive, a kernel is even, or ``dims`` is unknown.

    >>> MultiScaleConvBlock(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = MultiScaleConv.card

    def __init__(
        self,
        channels: int,
        *,
        kernel_sizes: Sequence[int] = (7, 11, 21),
        dims: Literal[1, 2, 3] = 2,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        factory = {"device": device, "dtype": dtype}
        gate = MultiScaleConv(channels, kernel_sizes=kernel_sizes, dims=dims, **factory)
        super().__init__(channels, gate, dims=dims, **factory)
