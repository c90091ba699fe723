"""MLCA: a gate per channel and cell, from the averages of a coarse grid and of the image."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..core import grid
from ..core.adaptive_kernel import adaptive_kernel
from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import odd, positive, probability


class MLCA(Attention):
    r"""Scales each channel of each cell of a grid by a mixture of a local and a global gate.

    .. math::
        a = U\big(w\, \sigma(k_l * l) + (1 - w)\, \sigma(k_g * g)\big), \quad y = a \odot x

    where l averages x over :math:`L \times L` cells, g averages l over the cells, :math:`k_g` is a
    1D convolution along the channels, :math:`k_l` one along the channels of all cells, one cell
    after the other, and U is adaptive average pooling to the size of x; section 3 of the paper.

    Args:
        channels: :math:`C`.
        kernel_size: Length of both convolutions, odd; by default from ``channels`` by ECA's rule.
        local_size: :math:`L`.
        local_weight: :math:`w`, at least 0 and below 1.
        learn_weight: Make w a parameter, which starts at ``local_weight``.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, map ``b c h w``, y as x.

    Raises:
        ValueError: a size is not positive, the kernel is even, or the weight is outside its range.

    >>> MLCA(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = Card(
        title="Mixed Local Channel Attention",
        paper="Mixed local channel attention for object detection",
        authors="Dahang Wan, Rongsheng Lu, Siyuan Shen, Ting Xu, Xianli Lang, Zhijie Ren",
        venue="Engineering Applications of Artificial Intelligence",
        year=2023,
        url="https://doi.org/10.1016/j.engappai.2023.106442",
        code="https://github.com/wandahangFY/MLCA",
        license="GPL-3.0",
        domain="channel+spatial",
        computes="pool+conv",
        applies="gate",
        kind="gate",
        cost=dict(time="n c", memory="n c"),
        aliases=("mixed_local_channel", "mixed_local_channel_attention"),
        differs=(
            "As in the authors' code, the local convolution runs over the border from the last "
            "channels of a cell to the first ones of the next.",
        ),
    )
    axes = Axes("b c h w", "b c h w", range="unit")

    def __init__(
        self,
        channels: int,
        kernel_size: int | None = None,
        *,
        local_size: int = 5,
        local_weight: float = 0.5,
        learn_weight: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=channels)
        positive(channels=channels, local_size=local_size)
        probability(local_weight=local_weight)
        k = adaptive_kernel(channels) if kernel_size is None else kernel_size
        odd(kernel_size=k)
        self.local_size, self.local_weight = local_size, local_weight
        factory = {"device": device, "dtype": dtype}
        self.local = nn.Conv1d(1, 1, k, padding=k // 2, bias=False, **factory)
        self.whole = nn.Conv1d(1, 1, k, padding=k // 2, bias=False, **factory)
        weight = torch.full((), local_weight, **factory)
        self.weight = nn.Parameter(weight) if learn_weight else None

    def reset_parameters(self) -> None:
        """Draw new kernels; a learned weight starts anew."""
        super().reset_parameters()
        if self.weight is not None:
            nn.init.constant_(self.weight, self.local_weight)

    def attention(self, x: Tensor) -> Tensor:
        cells = grid.adaptive_avg_pool2d(x, (self.local_size, self.local_size))
        row = cells.flatten(2).transpose(1, 2).flatten(1).unsqueeze(1)  # b 1 (cells c)
        local = self.local(row).sigmoid().reshape(-1, self.local_size**2, x.shape[1])
        average = cells.mean((2, 3)).unsqueeze(1)  # b 1 c
        w = self.local_weight if self.weight is None else self.weight
        a = w * local + (1 - w) * self.whole(average).sigmoid()  # b cells c
        a = a.transpose(1, 2).unflatten(2, (self.local_size, self.local_size))
        return grid.adaptive_avg_pool2d(a, x.shape[2:])

    def combine(self, a: Tensor, x: Tensor) -> Tensor:
        return x * a
