"""scSE: a gate per channel and a gate per position, in parallel."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn

from ..core import grid
from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import one_of, reduced

FUSIONS = ("max", "add", "mul", "concat")
GATES = ("both", "channel", "spatial")
Map = Tensor | tuple[Tensor, Tensor]


class ScSE(Attention):
    r"""Scales each channel by a gate and, in parallel, each position, and fuses the two results.

    .. math::
        a^c = \sigma\big(W_2\,\delta(W_1 \bar x)\big), \quad a^s = \sigma(w^\top x), \quad
        y = \max(a^c \odot x,\; a^s \odot x)

    where :math:`\bar x` is the average of each channel, w is a :math:`1 \times 1` convolution and
    :math:`\delta` is ReLU; section 2 of the paper.

    Args:
        channels: :math:`C`.
        reduction: :math:`r`; the hidden layer has :math:`\lfloor C/r \rfloor` units.
        fusion: How the two results are fused: elementwise ``max``, sum (``add``), product
            (``mul``), or concatenation, the channel gate's first (``concat``).
        gates: ``both``, or only one: ``channel`` (cSE) or ``spatial`` (sSE).
        bias: Give every layer a bias, as in the authors' code.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c *`` (one to three axes of space and time), maps ``b c 1*`` and ``b 1 *``, or the one
        that ``gates`` names; y as x, with twice the channels for ``concat``.

    Raises:
        ValueError: a size is not positive, the reduction leaves no hidden unit, or an option is
            unknown.

    >>> ScSE(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = Card(
        title="scSE",
        paper="Concurrent Spatial and Channel 'Squeeze & Excitation' in Fully Convolutional "
        "Networks",
        authors="Abhijit Guha Roy, Nassir Navab, Christian Wachinger",
        venue="MICCAI",
        year=2018,
        url="https://arxiv.org/abs/1803.02579",
        code="https://github.com/ai-med/squeeze_and_excitation",
        license="MIT",
        domain="channel+spatial",
        computes="pool+fc+conv",
        applies="gate",
        kind="gate",
        equivariant=("pixels",),
        cost=dict(time="n c + c^2", memory="n c"),
        aliases=("scse", "cse", "sse", "concurrent_squeeze_excitation"),
        differs=(
            "The paper adds the two results (fusion='add'); the authors' code, and the default "
            "here, takes the maximum. Their journal article of 2019 compares all four fusions.",
            "The authors' code has biases in all layers; the equations have none (bias=False).",
            "Maximum and product are those of the scaled tensors, not of the gates: this matters "
            "for negative x in the maximum, and the product contains the square of x.",
        ),
    )
    axes = Axes("b c *", "channel: b c 1*, spatial: b 1 *", range="unit")

    def __init__(
        self,
        channels: int,
        reduction: int = 2,
        *,
        fusion: Literal["max", "add", "mul", "concat"] = "max",
        gates: Literal["both", "channel", "spatial"] = "both",
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=channels)
        hidden_dim = reduced(channels, reduction)
        one_of(FUSIONS, fusion=fusion)
        one_of(GATES, gates=gates)
        self.fusion, self.gates = fusion, gates
        if gates == "channel":
            self.axes = replace(self.axes, map="b c 1*")
        elif gates == "spatial":
            self.axes = replace(self.axes, map="b 1 *")
        elif fusion == "concat":
            self.axes = replace(self.axes, output="b o *")
        factory = {"device": device, "dtype": dtype}
        if gates != "spatial":
            self.squeeze = nn.Linear(channels, hidden_dim, bias, **factory)
            self.excite = nn.Linear(hidden_dim, channels, bias, **factory)
        if gates != "channel":
            self.look = nn.Conv1d(channels, 1, 1, bias=bias, **factory)

    def attention(self, x: Tensor) -> Map:
        if self.gates == "channel":
            return self.channel_gate(x)
        if self.gates == "spatial":
            return self.spatial_gate(x)
        return self.channel_gate(x), self.spatial_gate(x)

    def combine(self, a: Map, x: Tensor) -> Tensor:
        if self.gates != "both":
            return x * a  # type: ignore[operator]
        channel, spatial = a
        if self.fusion == "add":
            return x * (channel + spatial)
        if self.fusion == "mul":
            return (x * channel) * (x * spatial)
        if self.fusion == "concat":
            return torch.cat([x * channel, x * spatial], 1)
        return torch.maximum(x * channel, x * spatial)

    def channel_gate(self, x: Tensor) -> Tensor:
        z = grid.mean(x)  # b c
        return grid.broadcast_gate(self.excite(self.squeeze(z).relu()).sigmoid(), x)

    def spatial_gate(self, x: Tensor) -> Tensor:
        return self.look(x.flatten(2)).sigmoid().unflatten(2, x.shape[2:])  # b 1 *
