"""Effective squeeze-excitation: one gate per channel, by one layer without a bottleneck."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import hardsigmoid

from ..core import grid
from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import positive


class EffectiveSE(Attention):
    r"""Scales each channel by a gate that one full layer computes from the channels' averages.

    .. math::
        a = \sigma_h(W z + b), \quad z_c = \tfrac{1}{HW}\textstyle\sum_{ij} x_{cij}, \quad
        y = a \odot x

    where W is :math:`C \times C` and :math:`\sigma_h(u) = \min(\max(u + 3, 0), 6) / 6` is the hard
    sigmoid; equations 2 and 3 of the paper.

    Args:
        channels: :math:`C`.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c *`` (one to three axes of space and time), map ``b c 1*``, y as x.

    Raises:
        ValueError: ``channels`` is not positive.

    >>> EffectiveSE(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = Card(
        title="Effective Squeeze-Excitation",
        paper="CenterMask: Real-Time Anchor-Free Instance Segmentation",
        authors="Youngwan Lee, Jongyoul Park",
        venue="CVPR",
        year=2020,
        url="https://arxiv.org/abs/1911.06667",
        code="https://github.com/youngwanLEE/CenterMask",
        license="BSD-2-Clause",
        domain="channel",
        computes="pool+fc",
        applies="gate",
        kind="gate",
        equivariant=("pixels",),
        map_invariant=("pixels",),
        cost=dict(time="n c + c^2", memory="n c"),
        aliases=("ese", "ese_module", "esemodule", "effectivesemodule", "effective_se_module"),
        differs=("The paper writes a sigmoid; the authors' code has a hard one, as here.",),
    )
    axes = Axes("b c *", "b c 1*", range="unit")

    def __init__(
        self,
        channels: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=channels)
        positive(channels=channels)
        self.excite = nn.Linear(channels, channels, device=device, dtype=dtype)

    def attention(self, x: Tensor) -> Tensor:
        return grid.broadcast_gate(hardsigmoid(self.excite(grid.mean(x))), x)

    def combine(self, a: Tensor, x: Tensor) -> Tensor:
        return x * a
