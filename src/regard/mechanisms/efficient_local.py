"""Efficient local attention: gates for rows and columns, from 1D convolutions of strip averages."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from ..core import grid
from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import divides, odd


class EfficientLocal(Attention):
    r"""Scales each position of each channel by a gate for its row and a gate for its column.

    .. math::
        a^h = \sigma\big(\mathrm{GN}(F * z^h)\big), \quad
        a^w = \sigma\big(\mathrm{GN}(F * z^w)\big), \quad y_{cij} = a^h_{ci}\, a^w_{cj}\, x_{cij}

    where :math:`z^h` averages x along the width, :math:`z^w` along the height, F is a 1D
    convolution and GN a group norm; equations 3 to 6 of the paper. The paper's four variants are

    - tiny: ``kernel_size=5``, ``groups=channels``, ``norm_groups=32``;
    - base, the default: ``kernel_size=7``, ``groups=channels``, ``norm_groups=16``;
    - small: ``kernel_size=5``, ``groups=channels // 8``, ``norm_groups=16``;
    - large: ``kernel_size=7``, ``groups=channels // 8``, ``norm_groups=16``.

    Args:
        channels: :math:`C`.
        kernel_size: Length of F, odd; 1 is a layer over the channels of each row and column.
        groups: Groups of F; by default :math:`C`, a depthwise convolution.
        norm_groups: Groups of the norm.
        shared: Let rows and columns share F and its norm, as in the paper's listing; if False,
            each has its own.
        bias: Give the convolution a bias.
        activation: Apply SiLU before the sigmoid, as timm does.
        residual: Add x to the result.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, maps ``b c h 1`` and ``b c 1 w``, y as x.

    Raises:
        ValueError: a size is not positive, the kernel is even, or the groups do not divide the
            channels.

    >>> EfficientLocal(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = Card(
        title="Efficient Local Attention",
        paper="ELA: Efficient Local Attention for Deep Convolutional Neural Networks",
        authors="Wei Xu, Yi Wan",
        venue="arXiv",
        year=2024,
        url="https://arxiv.org/abs/2403.01123",
        domain="spatial",
        computes="pool+conv",
        applies="gate",
        kind="gate",
        cost=dict(time="n c", memory="n c"),
        aliases=(
            "ela",
            "efficient_localization",
            "efficient_local_attention",
            "efficientlocalattn",
            "efficientlocalizationattention",
        ),
        differs=(
            "The authors released no code. The paper's equations have a convolution for rows and "
            "one for columns (shared=False); in its listing, and by default here, they are one.",
            "timm has separate convolutions, one norm group, and SiLU before the sigmoid "
            "(shared=False, norm_groups=1, activation=True); a widely copied version has a dense "
            "kernel of one (kernel_size=1, groups=1, bias=True).",
        ),
    )
    axes = Axes("b c h w", "h: b c h 1, w: b c 1 w", range="unit")

    def __init__(
        self,
        channels: int,
        kernel_size: int = 7,
        *,
        groups: int | None = None,
        norm_groups: int = 16,
        shared: bool = True,
        bias: bool = False,
        activation: bool = False,
        residual: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=channels)
        odd(kernel_size=kernel_size)
        groups = channels if groups is None else groups
        divides(channels=channels, groups=groups)
        divides(channels=channels, norm_groups=norm_groups)
        self.activation, self.residual = activation, residual
        factory = {"device": device, "dtype": dtype}

        def direction() -> nn.Sequential:
            options = {"padding": kernel_size // 2, "groups": groups, "bias": bias}
            conv = nn.Conv1d(channels, channels, kernel_size, **options, **factory)
            return nn.Sequential(conv, nn.GroupNorm(norm_groups, channels, **factory))

        self.height = direction()
        self.width = None if shared else direction()

    def attention(self, x: Tensor) -> tuple[Tensor, Tensor]:
        width = self.height if self.width is None else self.width
        (conv_h, norm_h), (conv_w, norm_w) = self.height, width
        h = grid.group_norm(norm_h, conv_h(x.mean(3)))
        w = grid.group_norm(norm_w, conv_w(x.mean(2)))
        if self.activation:
            h, w = silu(h), silu(w)
        return h.sigmoid().unsqueeze(3), w.sigmoid().unsqueeze(2)

    def combine(self, a: tuple[Tensor, Tensor], x: Tensor) -> Tensor:
        a_h, a_w = a
        y = x * a_h * a_w
        return x + y if self.residual else y
