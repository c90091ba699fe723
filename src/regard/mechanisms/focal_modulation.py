"""Focal modulation: queries are multiplied by context, gathered from near to far."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from ..core import grid
from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import above_zero, odd, one_of, positive, probability
from ..core.conv_norm import CONV

Prepared = tuple[Tensor, Tensor, Tensor]  # queries, context of level 0, gates


class FocalModulation(Attention):
    r"""Multiplies each query by a modulator, a gated sum of its surroundings at growing distances.

    .. math::
        [q; z_0; g] = W_f x, \quad z_l = \mathrm{GELU}(D_l z_{l-1}), \quad
        z_{L+1} = \mathrm{GELU}(\bar z_L), \quad
        m = W_h \textstyle\sum_{l=1}^{L+1} g_l \odot z_l, \quad y = W_o (q \odot m)

    where :math:`D_l` is a depthwise convolution of kernel :math:`k + f (l - 1)`, the bar averages
    over positions, and each position has one gate :math:`g_l` for each level, without activation;
    section 3 of the paper.

    In bfloat16, the roundings of its layers add up to a little more than one percent.

    Args:
        channels: :math:`C`.
        levels: :math:`L`, without the last level, the average.
        kernel_size: :math:`k`, the kernel of the first level, odd.
        kernel_step: :math:`f`, how much the kernel grows from level to level, even.
        bias: Give :math:`W_f` and :math:`W_h` a bias.
        norm: Apply layer norm before :math:`W_o`.
        eps: Added to the variance by that norm.
        normalize: Divide the sum by the number of its terms, :math:`L + 1`.
        dropout: Dropout rate of y.
        dims: Axes of space and time: 1, 2 or 3.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c *`` (``dims`` axes of space and time), map ``b c *``, the modulator m; y as x.

    Raises:
        ValueError: a size is not positive, a kernel is even, the dropout is not a rate, ``eps`` is
            not above zero, or ``dims`` is unknown.

    >>> FocalModulation(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = Card(
        title="Focal Modulation",
        paper="Focal Modulation Networks",
        authors="Jianwei Yang, Chunyuan Li, Xiyang Dai, Jianfeng Gao",
        venue="NeurIPS",
        year=2022,
        url="https://arxiv.org/abs/2203.11926",
        code="https://github.com/microsoft/FocalNet",
        license="MIT",
        domain="channel+spatial",
        computes="conv+pool",
        applies="gate",
        kind="gate",
        cost=dict(time="n c^2", memory="n c"),
        aliases=("focalnet", "focal", "focal_modulation_network"),
        differs=("The norm of timm's layer adds 1e-6 to the variance (eps=1e-6).",),
    )
    axes = Axes("b c *", "b c *")

    def __init__(
        self,
        channels: int,
        *,
        levels: int = 2,
        kernel_size: int = 3,
        kernel_step: int = 2,
        bias: bool = True,
        norm: bool = False,
        eps: float = 1e-5,
        normalize: bool = False,
        dropout: float = 0.0,
        dims: Literal[1, 2, 3] = 2,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=channels)
        positive(channels=channels, levels=levels, kernel_step=kernel_step)
        odd(kernel_size=kernel_size)
        if kernel_step % 2:
            raise ValueError(f"kernel_step must be even, got {kernel_step}")
        above_zero(eps=eps)
        probability(dropout=dropout)
        one_of((1, 2, 3), dims=dims)
        self.axes = self.axes.over(dims)
        self.channels, self.levels, self.normalize = channels, levels, normalize
        factory = {"device": device, "dtype": dtype}
        self.split = CONV[dims](channels, 2 * channels + levels + 1, 1, bias=bias, **factory)
        kernels = [kernel_size + kernel_step * level for level in range(levels)]
        depthwise = {"groups": channels, "bias": False, **factory}
        self.gather = nn.ModuleList(
            CONV[dims](channels, channels, k, padding=k // 2, **depthwise) for k in kernels
        )
        self.mix = CONV[dims](channels, channels, 1, bias=bias, **factory)
        self.norm = nn.LayerNorm(channels, eps, **factory) if norm else None
        self.project = CONV[dims](channels, channels, 1, **factory)
        self.drop = nn.Dropout(dropout)

    def prepare(self, x: Tensor) -> Prepared:
        q, z, g = self.split(x).split([self.channels, self.channels, self.levels + 1], 1)
        return q, z, g

    def attention(self, z: Prepared) -> Tensor:
        _, context, gates = z
        terms = []
        for level, gather in enumerate(self.gather):
            context = gelu(gather(context))
            terms.append(gates[:, level : level + 1] * context)
        average = gelu(grid.broadcast_gate(grid.mean(context), context))
        total = sum(terms, gates[:, self.levels :] * average)
        return self.mix(total / (self.levels + 1) if self.normalize else total)

    def combine(self, a: Tensor, z: Prepared) -> Tensor:
        y = z[0] * a
        y = y if self.norm is None else grid.layer_norm(self.norm, y)
        return self.drop(self.project(y))
