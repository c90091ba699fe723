"""Deformable large kernel attention: a gate from a large neighborhood whose points may move."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from ..core import precision
from ..core.attention import Attention, Tap
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import one_of, positive
from ..core.gate_block import GateBlock
from . import deformable_conv


class DeformableLargeKernel(Attention):
    r"""Scales each channel of each position by a gate computed from points of a neighborhood.

    .. math::
        a = W (K_2 \circledast K_1 \circledast x), \quad y = a \odot x

    where :math:`\circledast` is a depthwise deformable convolution, without modulation, whose
    offsets another convolution computes from all channels: a :math:`5 \times 5` one, then a
    :math:`7 \times 7` one with dilation 3; section 3 of the paper. All channels share the
    offsets. They do not start at zero, and are computed in single precision at least.
    `DeformableLargeKernelBlock` is the block around it.

    Args:
        channels: :math:`C`.
        offsets: How offsets are computed: by a ``dense`` convolution of the size of the kernel, or
            by a pointwise and a depthwise :math:`3 \times 3` one, ``separable``, the authors'
            lighter form.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, map ``b c h w``, y as x; the parts are the offsets ``b k 2 h w``, down and to
        the right, for the k points of a kernel, row by row.

    Raises:
        ValueError: ``channels`` is not positive, or ``offsets`` is unknown.

    >>> DeformableLargeKernel(8)(torch.randn(2, 8, 9, 7)).shape
    torch.Size([2, 8, 9, 7])
    """

    card = Card(
        title="Deformable Large Kernel Attention",
        paper="Beyond Self-Attention: Deformable Large Kernel Attention for Medical Image "
        "Segmentation",
        authors="Reza Azad, Leon Niggemeier, Michael Huttemann, Amirhossein Kazerouni, "
        "Ehsan Khodapanah Aghdam, Yury Velichko, Ulas Bagci, Dorit Merhof",
        venue="WACV",
        year=2024,
        url="https://arxiv.org/abs/2309.00121",
        code="https://github.com/xmindflow/deformableLKA",
        license="MIT",
        domain="spatial",
        computes="conv",
        applies="gate",
        kind="gate",
        cost=dict(time="n c^2", memory="n c"),
        aliases=("dlka", "d_lka", "deformable_lka", "deformable_lka_attention"),
        differs=("The authors' form for volumes needs an operator of its own, and is left out.",),
    )
    axes = Axes("b c h w", "b c h w", parts=dict(offset_near="b k 2 h w", offset_far="b k 2 h w"))

    def __init__(
        self,
        channels: int,
        *,
        offsets: Literal["dense", "separable"] = "dense",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=channels)
        positive(channels=channels)
        one_of(("dense", "separable"), offsets=offsets)
        factory = {"device": device, "dtype": dtype}
        self.near = _Moved(channels, 5, 1, offsets, **factory)
        self.far = _Moved(channels, 7, 3, offsets, **factory)
        self.mix = nn.Conv2d(channels, channels, 1, **factory)
        self.tap_offset_near, self.tap_offset_far = Tap(), Tap()

    def attention(self, x: Tensor) -> Tensor:
        z = self.near(precision.widen(x), self.tap_offset_near(self.near.offsets(x)))
        z = self.far(z, self.tap_offset_far(self.far.offsets(z)))
        return precision.conv2d(self.mix, z).to(x.dtype)

    def combine(self, a: Tensor, x: Tensor) -> Tensor:
        return x * a


class DeformableLargeKernelBlock(GateBlock):
    r"""Adds deformable large kernel attention, between two pointwise convolutions, to the input.

    .. math::
        z = \mathrm{GELU}(P_1 x), \quad y = x + P_2 (a(z) \odot z)

    where a is the map of `DeformableLargeKernel`, with its tap ``gate.tap``; section 3 of the
    paper.

    Args:
        channels: :math:`C`.
        offsets: How `DeformableLargeKernel` computes offsets, ``dense`` or ``separable``.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, y as x; the map is that of ``gate``.

    Raises:
        ValueError: ``channels`` is not positive, or ``offsets`` is unknown.

    >>> DeformableLargeKernelBlock(8)(torch.randn(2, 8, 9, 7)).shape
    torch.Size([2, 8, 9, 7])
    """

    card = DeformableLargeKernel.card
    axes = Axes("b c h w", "b c h w")

    def __init__(
        self,
        channels: int,
        *,
        offsets: Literal["dense", "separable"] = "dense",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        factory = {"device": device, "dtype": dtype}
        gate = DeformableLargeKernel(channels, offsets=offsets, **factory)
        super().__init__(channels, gate, wide=True, **factory)


class _Moved(nn.Module):
    """A depthwise deformable convolution that keeps the size, and the layer of its offsets."""

    def __init__(
        self,
        channels: int,
        side: int,
        dilation: int,
        offsets: str,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        factory = {"device": device, "dtype": dtype}
        padding = dilation * (side // 2)
        options = {"padding": padding, "dilation": dilation}
        self.conv = nn.Conv2d(
            channels, channels, side, groups=channels, bias=False, **options, **factory
        )
        numbers = 2 * side**2
        if offsets == "dense":
            self.place = nn.Sequential(nn.Conv2d(channels, numbers, side, **options, **factory))
        else:
            self.place = nn.Sequential(
                nn.Conv2d(channels, numbers, 1, **factory),
                nn.Conv2d(numbers, numbers, 3, padding=1, groups=numbers, **factory),
            )
        self.options = (1, 1), (padding, padding), (dilation, dilation)

    def offsets(self, x: Tensor) -> Tensor:
        """Return the offsets ``b k 2 h w``."""
        for layer in self.place:
            x = precision.conv2d(layer, x)
        return x.unflatten(1, (-1, 2))

    def forward(self, x: Tensor, offset: Tensor) -> Tensor:
        weight = self.conv.weight
        return deformable_conv.deform(x, offset.unsqueeze(1), None, weight, None, *self.options)
