"""LSK: a gate from two large kernels in a row, weighed against each other at each position."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from ..core import grid
from ..core.attention import Attention, Tap
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import one_of
from ..core.conv_norm import CONV
from ..core.gate_block import GateBlock


class LSK(Attention):
    r"""Scales each channel of each position by a gate that chooses between two kernel sizes.

    .. math::
        a = P (s_1 \odot v_1 + s_2 \odot v_2), \quad
        [s_1; s_2] = \sigma\big(K * [\operatorname{mean}_c v; \max_c v]\big), \quad
        y = a \odot x

    .. math::
        v = [v_1; v_2], \quad v_1 = P_1 u_1, \quad v_2 = P_2 u_2, \quad
        u_1 = D_5 * x, \quad u_2 = D_7 * u_1

    with depthwise kernels :math:`D_5` and :math:`D_7`, the latter with dilation 3,
    :math:`P_1, P_2` to half the channels and P back, and a :math:`7 \times 7` kernel K; section
    3 of the paper. The gate has no activation, and the two weights of a position do not sum to
    one. `LSKAttention` is the block around it.

    In half precision, rounding can change on which side of its step the sigmoid is where scores
    are in the hundreds.

    Args:
        channels: :math:`C`, two or more.
        dims: Axes of space and time: 1, 2 or 3.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c *`` (``dims`` axes of space and time), map ``b c *``, y as x; the part ``selection``
        is ``b 2 *``.

    Raises:
        ValueError: there are fewer than two channels, or ``dims`` is unknown.

    >>> LSK(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = Card(
        title="Large Selective Kernel",
        paper="Large Selective Kernel Network for Remote Sensing Object Detection",
        authors="Yuxuan Li, Qibin Hou, Zhaohui Zheng, Ming-Ming Cheng, Jian Yang, Xiang Li",
        venue="ICCV",
        year=2023,
        url="https://arxiv.org/abs/2303.09030",
        code="https://github.com/zcablii/LSKNet",
        license="CC-BY-NC-4.0",
        domain="spatial",
        computes="conv+pool",
        applies="gate",
        kind="gate",
        cost=dict(time="n c^2", memory="n c"),
        aliases=("lsknet", "large_selective_kernel", "lskblock", "lsk_block", "lskblock_sa"),
    )
    axes = Axes("b c *", "gate: b c *", parts=dict(selection="b 2 *"))

    def __init__(
        self,
        channels: int,
        *,
        dims: Literal[1, 2, 3] = 2,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=channels)
        if not isinstance(channels, int) or channels < 2:
            raise ValueError(f"channels must be two or more, got {channels!r}")
        one_of((1, 2, 3), dims=dims)
        self.axes = self.axes.over(dims)
        conv, half = CONV[dims], channels // 2
        factory = {"device": device, "dtype": dtype}
        depthwise = {"groups": channels, **factory}
        self.near = conv(channels, channels, 5, padding=2, **depthwise)
        self.far = conv(channels, channels, 7, padding=9, dilation=3, **depthwise)
        self.near_half = conv(channels, half, 1, **factory)
        self.far_half = conv(channels, half, 1, **factory)
        self.select = conv(2, 2, 7, padding=3, **factory)
        self.mix = conv(half, channels, 1, **factory)
        self.tap_selection = Tap()

    def attention(self, x: Tensor) -> Tensor:
        near = self.near(x)
        near, far = self.near_half(near), self.far_half(self.far(near))
        v = torch.cat([near, far], 1)
        pooled = torch.cat([v.mean(1, keepdim=True), grid.amax(v, 1, keepdim=True)], 1)
        s = self.tap_selection(self.select(pooled).sigmoid())  # b 2 *
        return self.mix(near * s[:, :1] + far * s[:, 1:])

    def combine(self, a: Tensor, x: Tensor) -> Tensor:
        return x * a


class LSKAttention(GateBlock):
    r"""Adds the gated features of `LSK`, between two pointwise convolutions, to the input.

    .. math::
        z = \mathrm{GELU}(P_1 x), \quad y = x + P_2 (a(z) \odot z)

    where a is the map of `LSK`, with its tap ``gate.tap``; section 3 of the paper. In the
    authors' network, it stands in a second residual connection, with a norm before it.

    In bfloat16, the roundings of its layers add up, and can change on which side of its step the
    sigmoid is where scores are in the hundreds.

    Args:
        channels: :math:`C`, two or more.
        dims: Axes of space and time: 1, 2 or 3.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c *`` (``dims`` axes of space and time), y as x; the map is that of ``gate``.

    Raises:
        ValueError: there are fewer than two channels, or ``dims`` is unknown.

    >>> LSKAttention(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = LSK.card

    def __init__(
        self,
        channels: int,
        *,
        dims: Literal[1, 2, 3] = 2,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        factory = {"device": device, "dtype": dtype}
        super().__init__(channels, LSK(channels, dims=dims, **factory), dims=dims, **factory)
