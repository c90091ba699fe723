"""Large separable kernel attention: a gate from a large neighborhood, by strips one pixel wide."""

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
from ..core.strips import strips


class LargeSeparableKernel(Attention):
    r"""Scales each channel of each position by a gate computed from a large neighborhood.

    .. math::
        a = W (K_4 * K_3 * K_2 * K_1 * x), \quad y = a \odot x

    where :math:`K_1, K_2` are depthwise convolutions along the width and the height, of length
    :math:`2d - 1`, and :math:`K_3, K_4` two more of length :math:`\lfloor K/d \rfloor` with
    dilation d: together they approximate one :math:`K \times K` kernel; section 3 of the paper. The
    gate has no activation. `LargeSeparableKernelBlock` is the block around it.

    Args:
        channels: :math:`C`.
        kernel_size: :math:`K`; the paper has 7, 11, 23, 35, 41 and 53.
        dilation: :math:`d`; by default the paper's, 2 up to a kernel of 11 and 3 above it.
            :math:`\lfloor K/d \rfloor` must be odd.
        dims: Axes of space and time: 1, 2 or 3.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c *`` (``dims`` axes of space and time), map ``b c *``, y as x.

    Raises:
        ValueError: a size is not positive, :math:`\lfloor K/d \rfloor` is even, or ``dims`` is
            unknown.

    >>> LargeSeparableKernel(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = Card(
        title="Large Separable Kernel Attention",
        paper="Large Separable Kernel Attention: Rethinking the Large Kernel Attention Design in "
        "CNN",
        authors="Kin Wai Lau, Lai-Man Po, Yasar Abbas Ur Rehman",
        venue="Expert Systems with Applications",
        year=2024,
        url="https://arxiv.org/abs/2309.01439",
        code="https://github.com/StevenLauHKHK/Large-Separable-Kernel-Attention",
        license="Apache-2.0",
        domain="spatial",
        computes="conv",
        applies="gate",
        kind="gate",
        cost=dict(time="n c^2", memory="n c"),
        aliases=("lska", "large_separable_kernel_attention"),
    )
    axes = Axes("b c *", "b c *")

    def __init__(
        self,
        channels: int,
        kernel_size: int = 7,
        *,
        dilation: int | None = None,
        dims: Literal[1, 2, 3] = 2,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=channels)
        positive(channels=channels, kernel_size=kernel_size)
        dilation = (2 if kernel_size <= 11 else 3) if dilation is None else dilation
        positive(dilation=dilation)
        one_of((1, 2, 3), dims=dims)
        far = kernel_size // dilation
        if far % 2 == 0:
            raise ValueError(
                f"kernel_size ({kernel_size}) over dilation ({dilation}), rounded down, must be "
                f"odd, got {far}"
            )
        self.axes = self.axes.over(dims)
        factory = {"device": device, "dtype": dtype}
        self.near = strips(channels, 2 * dilation - 1, dims=dims, **factory)
        self.far = strips(channels, far, dims=dims, dilation=dilation, **factory)
        self.mix = CONV[dims](channels, channels, 1, **factory)

    def attention(self, x: Tensor) -> Tensor:
        return self.mix(self.far(self.near(x)))

    def combine(self, a: Tensor, x: Tensor) -> Tensor:
        return x * a


class LargeSeparableKernelBlock(GateBlock):
    r"""Adds large separable kernel attention, between two pointwise convolutions, to the input.

    .. math::
        z = \mathrm{GELU}(P_1 x), \quad y = x + P_2 (a(z) \odot z)

    where a is the map of `LargeSeparableKernel`, with its tap ``gate.tap``; section 3 of the paper.

    Args:
        channels: :math:`C`.
        kernel_size: :math:`K` of `LargeSeparableKernel`.
        dilation: :math:`d` of `LargeSeparableKernel`.
        dims: Axes of space and time: 1, 2 or 3.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c *`` (``dims`` axes of space and time), y as x; the map is that of ``gate``.

    Raises:
        ValueError: a size is not positive, :math:`\lfloor K/d \rfloor` is even, or ``dims`` is
            unknown.

    >>> LargeSeparableKernelBlock(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = LargeSeparableKernel.card

    def __init__(
        self,
        channels: int,
        kernel_size: int = 7,
        *,
        dilation: int | None = None,
        dims: Literal[1, 2, 3] = 2,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        factory = {"device": device, "dtype": dtype}
        gate = LargeSeparableKernel(channels, kernel_size, dilation=dilation, dims=dims, **factory)
        super().__init__(channels, gate, dims=dims, **factory)
