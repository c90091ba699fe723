"""Large kernel attention: a gate from a large neighborhood, by two small depthwise convolutions."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import one_of, positive
from ..core.conv_norm import CONV
from ..core.gate_block import GateBlock


class LargeKernel(Attention):
    r"""Scales each channel of each position by a gate computed from a large neighborhood.

    .. math::
        a = W (K_2 * (K_1 * x)), \quad y = a \odot x

    where :math:`K_1` and :math:`K_2` are depthwise convolutions of kernel sizes :math:`2d - 1` and
    :math:`\lceil K/d \rceil`, the latter with dilation d, and W mixes the channels of a position:
    together they approximate one :math:`K \times K` kernel; equations 1 and 2 of the paper. The
    gate has no activation. `LargeKernelBlock` is the block around it.

    Args:
        channels: :math:`C`.
        kernel_size: :math:`K`.
        dilation: :math:`d`; :math:`\lceil K/d \rceil` must be odd.
        dims: Axes of space and time: 1, 2 or 3.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c *`` (``dims`` axes of space and time), map ``b c *``, y as x.

    Raises:
        ValueError: a size is not positive, :math:`\lceil K/d \rceil` is even, or ``dims`` is
            unknown.

    >>> LargeKernel(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = Card(
        title="Large Kernel Attention",
        paper="Visual Attention Network",
        authors="Meng-Hao Guo, Cheng-Ze Lu, Zheng-Ning Liu, Ming-Ming Cheng, Shi-Min Hu",
        venue="CVMJ",
        year=2023,
        url="https://arxiv.org/abs/2202.09741",
        code="https://github.com/Visual-Attention-Network/VAN-Classification",
        license="Apache-2.0",
        domain="channel+spatial",
        computes="conv",
        applies="gate",
        kind="gate",
        cost=dict(time="n c^2", memory="n c"),
        aliases=("lka", "van", "visual_attention_network"),
    )
    axes = Axes("b c *", "b c *")

    def __init__(
        self,
        channels: int,
        kernel_size: int = 21,
        *,
        dilation: int = 3,
        dims: Literal[1, 2, 3] = 2,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=channels)
        positive(channels=channels, kernel_size=kernel_size, dilation=dilation)
        one_of((1, 2, 3), dims=dims)
        self.axes = self.axes.over(dims)
        near, far = 2 * dilation - 1, -(-kernel_size // dilation)
        if far % 2 == 0:
            raise ValueError(
                f"kernel_size ({kernel_size}) over dilation ({dilation}), rounded up, must be odd, "
                f"got {far}"
            )
        self.kernel_size, self.dilation = kernel_size, dilation
        factory = {"device": device, "dtype": dtype}
        depthwise = {"groups": channels, **factory}
        self.near = CONV[dims](channels, channels, near, padding=near // 2, **depthwise)
        padding = dilation * (far // 2)
        depthwise |= {"padding": padding, "dilation": dilation}
        self.far = CONV[dims](channels, channels, far, **depthwise)
        self.mix = CONV[dims](channels, channels, 1, **factory)

    def attention(self, x: Tensor) -> Tensor:
        return self.mix(self.far(self.near(x)))

    def combine(self, a: Tensor, x: Tensor) -> Tensor:
        return x * a


class LargeKernelBlock(GateBlock):
    r"""Adds large kernel attention, between two pointwise convolutions, to the input.

    .. math::
        z = \mathrm{GELU}(P_1 x), \quad y = x + P_2 (a(z) \odot z)

    where a is the map of `LargeKernel`, with its tap ``gate.tap``; section 3.2 of the paper, which
    has a norm before it.

    Args:
        channels: :math:`C`.
        kernel_size: :math:`K` of `LargeKernel`.
        dilation: :math:`d` of `LargeKernel`.
        dims: Axes of space and time: 1, 2 or 3.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c *`` (``dims`` axes of space and time), y as x; the map is that of ``gate``.

    Raises:
        ValueError: a size is not positive, :math:`\lceil K/d \rceil` is even, or ``dims`` is
            unknown.

    >>> LargeKernelBlock(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = LargeKernel.card

    def __init__(
        self,
        channels: int,
        kernel_size: int = 21,
        *,
        dilation: int = 3,
        dims: Literal[1, 2, 3] = 2,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        factory = {"device": device, "dtype": dtype}
        gate = LargeKernel(channels, kernel_size, dilation=dilation, dims=dims, **factory)
        super().__init__(channels, gate, dims=dims, **factory)
