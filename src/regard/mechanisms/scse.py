"""scSE: a gate per channel and a gate per position, side by side."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..core import grid
from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import one_of, reduced

FUSIONS = ("max", "add", "mul", "concat")
GATES = ("both", "channel", "spatial")


class ScSE(Attention):
    r"""Weighs each channel and, beside it, each position, and fuses the two results.

    .. math::
        a^c = \sigma\big(W_2\,\delta(W_1 \bar x)\big), \quad a^s = \sigma(w^\top x), \quad
        y = \max(a^c \odot x,\; a^s \odot x)

    where :math:`\bar x` is the average of each channel, w weighs the channels of one position and
    :math:`\delta` is ReLU; section 2 of the paper.

    Args:
        channels: :math:`C`.
        reduction: :math:`r`; :math:`W_1` has :math:`\lfloor C/r \rfloor` rows.
        fusion: What is made of the two weighed tensors: their ``max``, their sum (``add``), their
            product (``mul``) or both, the channels' first (``concat``).
        gates: ``both``, or one alone: ``channel`` (cSE) or ``spatial`` (sSE).
        bias: Give every layer a bias, as in the authors' code.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c *`` (one to three axes of space and time), maps ``b c 1*`` and ``b 1 *``, or the one
        that ``gates`` names; y as x, with twice the channels where both are kept (``concat``).

    Raises:
        ValueError: a size is not positive, the reduction leaves no hidden channel, or a fusion or
            a gate is unknown.

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
            "here, takes the larger. Their journal article of 2019 compares all four fusions.",
            "The authors' code has biases in all layers; the equations have none (bias=False).",
            "The larger is taken of the weighed tensors, not of the gates, which makes a "
            "difference where x is below zero; the product of the tensors has the square of x.",
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
        hidden = reduced(channels, reduction)
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
            self.squeeze = nn.Linear(channels, hidden, bias, **factory)
            self.excite = nn.Linear(hidden, channels, bias, **factory)
        if gates != "channel":
            self.look = nn.Conv1d(channels, 1, 1, bias=bias, **factory)

    def attention(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        if self.gates == "channel":
            return self.channel_gate(x)
        if self.gates == "spatial":
            return self.spatial_gate(x)
        return self.channel_gate(x), self.spatial_gate(x)

    def channel_gate(self, x: Tensor) -> Tensor:
        z = grid.mean(x)  # b c
        return grid.broadcast_gate(self.excite(self.squeeze(z).relu()).sigmoid(), x)

    def spatial_gate(self, x: Tensor) -> Tensor:
        return self.look(x.flatten(2)).sigmoid().unflatten(2, x.shape[2:])  # b 1 *

    def combine(self, a: Any, x: Tensor) -> Tensor:
        if self.gates != "both":
            return x * a
        c, s = a
        if self.fusion == "add":
            return x * (c + s)
        if self.fusion == "mul":
            return (x * c) * (x * s)
        if self.fusion == "concat":
            return torch.cat([x * c, x * s], 1)
        return torch.maximum(x * c, x * s)
