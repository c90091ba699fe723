"""Simplified channel attention: one linear gate per channel, without any activation."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn

from ..core import grid
from ..core.attention import Attention, Mechanism
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import one_of, positive, probability
from ..core.conv_norm import CONV
from ..core.tracing import leaf


class SimplifiedChannel(Attention):
    r"""Scales each channel by a linear function of the averages of all channels.

    .. math::
        a = W z + b, \quad z_c = \tfrac{1}{HW}\textstyle\sum_{ij} x_{cij}, \quad y = a \odot x

    where W is :math:`C \times C`; equation 9 of the paper. `SimplifiedChannelBlock` is the block of
    NAFNet around it.

    Args:
        channels: :math:`C`.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c *`` (one to three axes of space and time), map ``b c 1*``, y as x.

    Raises:
        ValueError: ``channels`` is not positive.

    >>> SimplifiedChannel(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = Card(
        title="Simplified Channel Attention",
        paper="Simple Baselines for Image Restoration",
        authors="Liangyu Chen, Xiaojie Chu, Xiangyu Zhang, Jian Sun",
        venue="ECCV",
        year=2022,
        url="https://arxiv.org/abs/2204.04676",
        code="https://github.com/megvii-research/NAFNet",
        license="MIT",
        domain="channel",
        computes="pool+fc",
        applies="gate",
        kind="gate",
        equivariant=("pixels",),
        map_invariant=("pixels",),
        cost=dict(time="n c + c^2", memory="n c"),
        aliases=("sca", "nafnet", "nafblock", "simplified_channel_attention", "simple_gate"),
        differs=(
            "The authors' NAFNetLocal averages over a neighborhood at test time; here, as in "
            "training, over the whole image.",
        ),
    )
    axes = Axes("b c *", "b c 1*")

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
        return grid.broadcast_gate(self.excite(grid.mean(x)), x)

    def combine(self, a: Tensor, x: Tensor) -> Tensor:
        return x * a


class SimplifiedChannelBlock(Mechanism):
    r"""Adds a gated depthwise convolution, then a gated pointwise layer, to the input.

    .. math::
        z = x + \beta\, P_3\, \mathrm{SCA}\big(G(D\, P_1\, \mathrm{LN}\, x)\big), \quad
        y = z + \gamma\, P_5\, G(P_4\, \mathrm{LN}\, z), \quad G([u; v]) = u \odot v

    with a :math:`3 \times 3` depthwise convolution D, pointwise ones P, and `SimplifiedChannel` as
    SCA, whose tap is ``gate.tap``; figure 3 of the paper. :math:`\beta` and :math:`\gamma` start at
    zero, so that a new block returns its input.

    Args:
        channels: :math:`C`.
        expansion: Channels of D as a multiple of :math:`C`; the gate G halves them.
        hidden_expansion: Channels of :math:`P_4` as a multiple of :math:`C`; G halves them too.
        dropout: Dropout rate of what is added.
        dims: Axes of space and time: 1, 2 or 3.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c *`` (``dims`` axes of space and time), y as x; the map is that of ``gate``.

    Raises:
        ValueError: a size is not positive, an expansion gives an odd number of channels, or the
            dropout is not a rate.

    >>> SimplifiedChannelBlock(16)(torch.randn(2, 16, 9, 7)).shape
    torch.Size([2, 16, 9, 7])
    """

    card = replace(
        SimplifiedChannel.card,
        computes="conv+pool+fc",
        equivariant=(),
        map_invariant=(),
        identity_at_init=True,
        cost=dict(time="n c^2", memory="n c"),
    )
    axes = Axes("b c *", "b c 1*")

    def __init__(
        self,
        channels: int,
        *,
        expansion: int = 2,
        hidden_expansion: int = 2,
        dropout: float = 0.0,
        dims: Literal[1, 2, 3] = 2,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=channels)
        positive(channels=channels, expansion=expansion, hidden_expansion=hidden_expansion)
        probability(dropout=dropout)
        one_of((1, 2, 3), dims=dims)
        for name, factor in (("expansion", expansion), ("hidden_expansion", hidden_expansion)):
            if factor * channels % 2:
                raise ValueError(f"{name} ({factor}) times channels ({channels}) must be even")
        self.axes = self.axes.over(dims)
        factory = {"device": device, "dtype": dtype}
        width, hidden = expansion * channels, hidden_expansion * channels
        conv = CONV[dims]
        self.norm = nn.LayerNorm(channels, eps=1e-6, **factory)
        self.widen = conv(channels, width, 1, **factory)
        self.depthwise = conv(width, width, 3, padding=1, groups=width, **factory)
        self.gate = SimplifiedChannel(width // 2, **factory)
        self.narrow = conv(width // 2, channels, 1, **factory)
        self.hidden_norm = nn.LayerNorm(channels, eps=1e-6, **factory)
        self.hidden = conv(channels, hidden, 1, **factory)
        self.out = conv(hidden // 2, channels, 1, **factory)
        self.drop = nn.Dropout(dropout)
        self.beta = nn.Parameter(torch.zeros(channels, **factory))
        self.gamma = nn.Parameter(torch.zeros(channels, **factory))

    def reset_parameters(self) -> None:
        """Reset what is added to zero, as in the authors' code."""
        super().reset_parameters()
        nn.init.zeros_(self.beta)
        nn.init.zeros_(self.gamma)

    def forward(self, x: Tensor) -> Tensor:
        """Run the block."""
        self.check(x)
        z = _halves_multiplied(self.depthwise(self.widen(grid.layer_norm(self.norm, x))))
        x = x + _scaled(self.drop(self.narrow(self.gate(z))), self.beta)
        z = _halves_multiplied(self.hidden(grid.layer_norm(self.hidden_norm, x)))
        return x + _scaled(self.drop(self.out(z)), self.gamma)


@leaf
def _halves_multiplied(x: Tensor) -> Tensor:
    u, v = x.chunk(2, 1)
    return u * v


@leaf
def _scaled(x: Tensor, weight: Tensor) -> Tensor:
    return x * weight.reshape(-1, *[1] * (x.dim() - 2))
