"""Large kernel attention: a gate from a wide neighborhood, by two small kernels in a row."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import positive


class LargeKernel(Attention):
    r"""Weighs each channel of each position by a view of the wide neighborhood around it.

    .. math::
        a = W (K_2 * (K_1 * x)), \quad y = a \odot x

    where :math:`K_1` and :math:`K_2` have one kernel for each channel, of the sides :math:`2d - 1`
    and :math:`\lceil K/d \rceil`, the latter with dilation d, and W mixes the channels of a
    position: together they reach as far as one :math:`K \times K` kernel; equations 1 and 2 of the
    paper. Nothing squashes the gate. `LargeKernelBlock` is the block around it.

    Args:
        channels: :math:`C`.
        kernel_size: :math:`K`.
        dilation: :math:`d`; :math:`\lceil K/d \rceil` must be odd.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, map ``b c h w``, y as x.

    Raises:
        ValueError: a size is not positive, or the second kernel has no center.

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
    axes = Axes("b c h w", "b c h w")

    def __init__(
        self,
        channels: int,
        kernel_size: int = 21,
        *,
        dilation: int = 3,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=channels)
        positive(channels=channels, kernel_size=kernel_size, dilation=dilation)
        near, far = 2 * dilation - 1, -(-kernel_size // dilation)
        if far % 2 == 0:
            raise ValueError(
                f"kernel_size ({kernel_size}) over dilation ({dilation}) must be odd when it is "
                f"rounded up, got {far}"
            )
        self.kernel_size, self.dilation = kernel_size, dilation
        factory = {"device": device, "dtype": dtype}
        how = {"groups": channels, **factory}
        self.near = nn.Conv2d(channels, channels, near, padding=near // 2, **how)
        reach = dilation * (far // 2)
        self.far = nn.Conv2d(channels, channels, far, padding=reach, dilation=dilation, **how)
        self.mix = nn.Conv2d(channels, channels, 1, **factory)

    def attention(self, x: Tensor) -> Tensor:
        return self.mix(self.far(self.near(x)))

    def combine(self, a: Tensor, x: Tensor) -> Tensor:
        return x * a


class LargeKernelBlock(Attention):
    r"""Adds to the input what large kernel attention makes of it between two linear layers.

    .. math::
        z = \mathrm{GELU}(P_1 x), \quad y = x + P_2 (a(z) \odot z)

    with a from `LargeKernel`; section 3.2 of the paper, where a norm stands before it.

    Args:
        channels: :math:`C`.
        kernel_size: Of `LargeKernel`.
        dilation: Likewise.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, map ``b c h w``, y as x.

    Raises:
        ValueError: a size is not positive, or the second kernel has no center.

    >>> LargeKernelBlock(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = LargeKernel.card
    axes = Axes("b c h w", "b c h w")

    def __init__(
        self,
        channels: int,
        kernel_size: int = 21,
        *,
        dilation: int = 3,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=channels)
        positive(channels=channels)
        factory = {"device": device, "dtype": dtype}
        self.before = nn.Sequential(nn.Conv2d(channels, channels, 1, **factory), nn.GELU())
        self.gate = LargeKernel(channels, kernel_size, dilation=dilation, **factory)
        self.after = nn.Conv2d(channels, channels, 1, **factory)

    def prepare(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, self.before(x)

    def attention(self, x: tuple[Tensor, Tensor]) -> Tensor:
        return self.gate.attention(x[1])

    def combine(self, a: Tensor, x: tuple[Tensor, Tensor]) -> Tensor:
        return x[0] + self.after(self.gate.combine(a, x[1]))
