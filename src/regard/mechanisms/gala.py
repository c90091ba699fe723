"""GALA: one gate per channel and position, from a global path and a local path."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn

from ..core import grid
from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import odd, one_of, reduced
from ..core.conv_norm import CONV


class GALA(Attention):
    r"""Scales each channel of each position by a gate from a global and a local score.

    .. math::
        a = \zeta\big(\alpha \odot (g + l) + \beta \odot (g \odot l)\big), \quad
        g = \delta\big(W_2\,\delta(W_1 \bar x)\big), \quad
        l = V_2\,\delta(K * \delta(V_1 x)), \quad y = a \odot x

    where :math:`\bar x` is the average of each channel, :math:`\delta` is ReLU, :math:`V_1` and
    :math:`V_2` act on the channels of one position, and :math:`\alpha, \beta` have one weight per
    channel. The equations of the paper have no K, no outer :math:`\delta` in g, and
    :math:`\zeta = \tanh`.

    In half precision, rounding can change on which side of its step the sigmoid is where scores
    are in the hundreds.

    Args:
        channels: :math:`C`.
        reduction: :math:`r`; both paths have :math:`\lfloor C/r \rfloor` hidden channels.
        kernel_sizes: Kernel sizes of the convolutions K in the local path, odd; may be empty.
        interaction: How the scores are combined: ``both`` weights their sum by :math:`\alpha` and
            their product by :math:`\beta`; ``additive`` is the sum, ``multiplicative`` the product.
        gate_activation: :math:`\zeta`: ``sigmoid`` or ``tanh``.
        activation: Activation at the end of the global path: ``relu``, or None.
        dims: Axes of space and time: 1, 2 or 3.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c *`` (``dims`` axes of space and time), map ``b c *``, y as x.

    Raises:
        ValueError: a size is not positive, a kernel is even, the reduction leaves no hidden
            channel, or an interaction, an activation or ``dims`` is unknown.

    >>> GALA(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = Card(
        title="Global-and-Local Attention",
        paper="Learning what and where to attend",
        authors="Drew Linsley, Dan Shiebler, Sven Eberhardt, Thomas Serre",
        venue="ICLR",
        year=2019,
        url="https://arxiv.org/abs/1805.08819",
        code="https://github.com/serre-lab/gala_tpu",
        license="none stated",
        domain="channel+spatial",
        computes="pool+fc+conv",
        applies="gate",
        kind="gate",
        cost=dict(time="n c^2", memory="n c"),
        aliases=("gala", "global_and_local_attention"),
        differs=(
            "The authors' code, and the default here, has a sigmoid gate, a ReLU at the end of the "
            "global path and a 5x5 convolution in the local path; the paper's equations have none "
            "of these (gate_activation='tanh', activation=None, kernel_sizes=()).",
        ),
    )
    axes = Axes("b c *", "b c *", range="unit")

    def __init__(
        self,
        channels: int,
        reduction: int = 4,
        *,
        kernel_sizes: Sequence[int] = (5,),
        interaction: Literal["both", "additive", "multiplicative"] = "both",
        gate_activation: Literal["sigmoid", "tanh"] = "sigmoid",
        activation: Literal["relu"] | None = "relu",
        dims: Literal[1, 2, 3] = 2,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=channels)
        hidden_dim = reduced(channels, reduction)
        one_of(("both", "additive", "multiplicative"), interaction=interaction)
        one_of(("sigmoid", "tanh"), gate_activation=gate_activation)
        one_of(("relu", None), activation=activation)
        for kernel in kernel_sizes:
            odd(kernel_sizes=kernel)
        self.kernel_sizes = tuple(kernel_sizes)
        self.interaction, self.activation = interaction, activation
        self.gate_activation = gate_activation
        one_of((1, 2, 3), dims=dims)
        self.axes = replace(
            self.axes.over(dims), range="unit" if gate_activation == "sigmoid" else "real"
        )
        factory = {"device": device, "dtype": dtype}
        self.squeeze = nn.Linear(channels, hidden_dim, **factory)
        self.excite = nn.Linear(hidden_dim, channels, **factory)
        self.look = nn.Sequential(CONV[dims](channels, hidden_dim, 1, **factory), nn.ReLU())
        for kernel in kernel_sizes:
            convolution = CONV[dims](hidden_dim, hidden_dim, kernel, padding=kernel // 2, **factory)
            self.look.extend([convolution, nn.ReLU()])
        self.look.append(CONV[dims](hidden_dim, 1, 1, **factory))
        if interaction == "both":
            self.alpha = nn.Parameter(torch.ones(channels, *[1] * dims, **factory))
            self.beta = nn.Parameter(torch.ones(channels, *[1] * dims, **factory))

    def reset_parameters(self) -> None:
        """Draw new layers; the weights of the sum and of the product start at one."""
        super().reset_parameters()
        if self.interaction == "both":
            nn.init.ones_(self.alpha)
            nn.init.ones_(self.beta)

    def attention(self, x: Tensor) -> Tensor:
        g = self.excite(self.squeeze(grid.mean(x)).relu())  # b c
        g = grid.broadcast_gate(g.relu() if self.activation else g, x)
        local = self.look(x)  # b 1 *
        if self.interaction == "additive":
            s = g + local
        elif self.interaction == "multiplicative":
            s = g * local
        else:  # factored so that all but two operations act on one value per channel
            s = self.alpha * g + (self.alpha + self.beta * g) * local
        return s.sigmoid_() if self.gate_activation == "sigmoid" else s.tanh_()

    def combine(self, a: Tensor, x: Tensor) -> Tensor:
        return x * a
