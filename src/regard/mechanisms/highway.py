"""Highway: a gate mixes the output of a layer with the layer's input."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn

from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import divides, odd, one_of
from ..core.conv_norm import CONV

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
}


class Highway(Attention):
    r"""Mixes the output of a layer with its input by a gate for each value.

    .. math::
        y = a \odot H(x) + (1 - a) \odot x, \quad a = \sigma(W_T x + b_T), \quad
        H(x) = \delta(W_H x + b_H)

    where W are convolutions, or fully connected for vectors; equation 3 of the paper.

    Args:
        channels: Channels of x and y.
        kernel_size: Kernel size of both layers, odd; None makes them fully connected.
        gate_kernel_size: Kernel size of the gate; ``kernel_size`` by default.
        groups: Groups of both convolutions.
        activation: :math:`\delta`: ``relu``, ``tanh`` or ``sigmoid``.
        bias: Add a bias to both layers.
        gate_bias: Initial value of :math:`b_T`; if negative, a new module mostly returns its input.
        dims: Axes of space and time that the kernels span: 1, 2 or 3.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c *`` (``dims`` axes of space and time), or ``b … c`` where the layers are fully
        connected; map and y as x.

    Raises:
        ValueError: a size is not positive, a kernel is even, the groups do not divide the channels,
            ``groups`` or ``gate_kernel_size`` is given for fully connected layers, or the
            activation or ``dims`` is unknown.

    >>> Highway(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = Card(
        title="Highway layer",
        paper="Highway Networks",
        authors="Rupesh Kumar Srivastava, Klaus Greff, Jürgen Schmidhuber",
        venue="ICML Deep Learning Workshop",
        year=2015,
        url="https://arxiv.org/abs/1505.00387",
        code="https://github.com/flukeskywalker/highway-networks",
        license="BSD-2-Clause",
        domain="branch",
        computes="conv",
        applies="select",
        kind="gate",
        cost=dict(time="n c^2", memory="n c"),
        aliases=("highway", "highway_network", "highway_networks"),
        differs=(
            "The gate multiplies the layer, as in the paper; in some re-implementations it "
            "multiplies the input, which is the same with the gate's weights and bias negated.",
            "The gate's bias starts at -1 (gate_bias); the paper names -1 and -3.",
        ),
    )
    axes = Axes("b c *", "b c *", range="unit")

    def __init__(
        self,
        channels: int,
        kernel_size: int | None = 3,
        *,
        gate_kernel_size: int | None = None,
        groups: int = 1,
        activation: Literal["relu", "tanh", "sigmoid"] = "relu",
        bias: bool = True,
        gate_bias: float = -1.0,
        dims: Literal[1, 2, 3] = 2,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=channels)
        divides(channels=channels, groups=groups)
        one_of(tuple(ACTIVATIONS), activation=activation)
        one_of((1, 2, 3), dims=dims)
        self.activation = activation
        self.gate_bias = gate_bias
        factory = {"device": device, "dtype": dtype}
        if kernel_size is None:
            if groups != 1 or gate_kernel_size is not None:
                raise ValueError(
                    "groups and gate_kernel_size belong to convolutions: kernel_size is None, got "
                    f"{groups} and {gate_kernel_size}"
                )
            self.axes = replace(self.axes, input="b ... c", map="b ... c", output="b ... c")
            self.layer = nn.Linear(channels, channels, bias, **factory)
            self.gate = nn.Linear(channels, channels, bias, **factory)
        else:
            gate_kernel_size = kernel_size if gate_kernel_size is None else gate_kernel_size
            odd(kernel_size=kernel_size, gate_kernel_size=gate_kernel_size)

            self.axes = self.axes.over(dims)

            def convolve(kernel: int) -> nn.Module:
                options = {"padding": kernel // 2, "groups": groups, "bias": bias, **factory}
                return CONV[dims](channels, channels, kernel, **options)

            self.layer, self.gate = convolve(kernel_size), convolve(gate_kernel_size)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new weights; the gate's bias starts at ``gate_bias``."""
        super().reset_parameters()
        if self.gate.bias is not None:
            nn.init.constant_(self.gate.bias, self.gate_bias)

    def attention(self, x: Tensor) -> Tensor:
        return self.gate(x).sigmoid()

    def combine(self, a: Tensor, x: Tensor) -> Tensor:
        return x + a * (ACTIVATIONS[self.activation](self.layer(x)) - x)
