"""A gate between two pointwise convolutions, the block of networks with large kernels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from . import precision
from .attention import Attention, Mechanism
from .axes import Axes
from .conv_norm import CONV


class GateBlock(Mechanism):
    """Runs a gate between two pointwise convolutions, and adds the input.

    ``y = x + P2(a * z)`` with ``z = GELU(P1(x))``, where a is the map of the gate.

    Args:
        channels: Channels of x.
        gate: The gate; its tap is ``gate.tap``.
        wide: Compute what the gate reads in single precision at least; the gate must return it so.
        dims: Axes of space and time: 1, 2 or 3.
        device: Where to put the parameters.
        dtype: Their type.
    """

    axes = Axes("b c *", "b c *")

    def __init__(
        self,
        channels: int,
        gate: Attention,
        *,
        wide: bool = False,
        dims: int = 2,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=channels)
        self.axes = self.axes.over(dims)
        factory = {"device": device, "dtype": dtype}
        layers = CONV[dims](channels, channels, 1, **factory), nn.GELU()
        self.before = (_Wide if wide else nn.Sequential)(*layers)
        self.gate = gate
        self.after = CONV[dims](channels, channels, 1, **factory)

    def forward(self, x: Tensor) -> Tensor:
        """Run the block."""
        self.check(x)
        return x + self.after(self.gate(self.before(x)).to(x.dtype))


class _Wide(nn.Sequential):
    """A convolution and an activation, in single precision at least."""

    def forward(self, x: Tensor) -> Tensor:
        conv, activation = self
        return activation(precision.conv2d(conv, x))
