"""Triplet attention: a gate for each pair of the axes channel, height and width."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from ..core import grid
from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import odd, positive


class Triplet(Attention):
    r"""Scales each entry by the mean of three gates, each pooled over one of the three axes.

    .. math::
        y = \tfrac13\, x \odot (a^{cw} + a^{hc} + a^{hw}), \quad
        a^{cw} = \sigma\big(\mathrm{BN}(k^{cw} * [\max_h x; \operatorname{mean}_h x])\big)

    and so on: :math:`a^{cw}` pools the height and convolves over channels and width, :math:`a^{hc}`
    pools the width and :math:`a^{hw}` the channels; section 3.2 of the paper.

    Args:
        channels: :math:`C`, only checked: no parameter depends on it.
        kernel_size: Side of the three kernels, odd.
        spatial: Include :math:`a^{hw}`; without it the mean is of two gates.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, maps ``b c 1 w``, ``b c h 1`` and ``b 1 h w``, y as x.

    Raises:
        ValueError: a size is not positive, or the kernel is even.

    >>> Triplet()(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = Card(
        title="Triplet Attention",
        paper="Rotate to Attend: Convolutional Triplet Attention Module",
        authors="Diganta Misra, Trikay Nalamada, Ajay Uppili Arasanipalai, Qibin Hou",
        venue="WACV",
        year=2021,
        url="https://arxiv.org/abs/2010.03045",
        code="https://github.com/landskape-ai/triplet-attention",
        license="MIT",
        domain="channel+spatial",
        computes="pool+conv",
        applies="gate",
        kind="gate",
        train_differs=True,
        cost=dict(time="n c", memory="n c"),
        aliases=("triplet", "triplet_attention", "rotate_to_attend"),
    )
    axes = Axes("b c h w", "cw: b c 1 w, hc: b c h 1, hw: b 1 h w", range="unit")

    def __init__(
        self,
        channels: int | None = None,
        *,
        kernel_size: int = 7,
        spatial: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(**({} if channels is None else {"c": channels}))
        if channels is not None:
            positive(channels=channels)
        odd(kernel_size=kernel_size)
        self.spatial = spatial
        factory = {"device": device, "dtype": dtype}

        def gate() -> nn.Sequential:
            return nn.Sequential(
                nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2, bias=False, **factory),
                nn.BatchNorm2d(1, momentum=0.01, **factory),
                nn.Sigmoid(),
            )

        self.cw, self.hc = gate(), gate()
        if spatial:
            self.hw = gate()
        else:
            self.axes = replace(self.axes, map="cw: b c 1 w, hc: b c h 1")

    def attention(self, x: Tensor) -> tuple[Tensor, ...]:
        a_cw = self.cw(torch.stack([grid.amax(x, 2), x.mean(2)], 1)).transpose(1, 2)  # b c 1 w
        z = torch.stack([grid.amax(x, 3), x.mean(3)], 1).transpose(-2, -1)  # b 2 h c
        a_hc = self.hc(z).permute(0, 3, 2, 1)  # b c h 1
        if not self.spatial:
            return a_cw, a_hc
        return a_cw, a_hc, self.hw(torch.stack([grid.amax(x, 1), x.mean(1)], 1))  # b 1 h w

    def combine(self, a: tuple[Tensor, ...], x: Tensor) -> Tensor:
        # The small gates are divided, not their sum, which has the size of x.
        if not self.spatial:
            a_cw, a_hc = a
            return x * (a_cw / 2 + a_hc / 2)
        a_cw, a_hc, a_hw = a
        return x * (a_cw / 3 + a_hc / 3 + a_hw / 3)
