"""MCA: the mean of three gates, for rows, for columns and for channels."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor, nn

from ..core import precision
from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import odd, positive
from ..core.tracing import at_least, leaf

# The axis that a branch weighs; the other two are pooled.
BRANCHES = {"h": 2, "w": 3, "channel": 1}


class MCA(Attention):
    r"""Scales each channel of each position by the mean of its row's, column's and channel's gate.

    .. math::
        a_d = \sigma(k_d * z_d), \quad
        z_d = \tfrac12(\mu_d + s_d) + \sigma(\alpha_d)\, \mu_d + \sigma(\beta_d)\, s_d, \quad
        y = \tfrac13 (a_h + a_w + a_c) \odot x

    where :math:`\mu_d` and :math:`s_d` are the mean and the standard deviation over all axes but d,
    and :math:`k_d` is a 1D convolution along d; section 3 of the paper.

    In half precision, rounding can change on which side of its step the sigmoid is where scores
    are in the hundreds.

    Args:
        channels: :math:`C`.
        kernel_size: Length of :math:`k_c`, odd; by default from ``channels``: 1 up to 22 channels,
            3 up to 181, 5 above. Rows and columns have kernels of three.
        channel_gate: Use the gate for channels too.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, maps ``b 1 h 1``, ``b 1 1 w`` and ``b c 1 1``, y as x.

    Raises:
        ValueError: a size is not positive, or the kernel is even.

    >>> MCA(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = Card(
        title="Multidimensional Collaborative Attention",
        paper="MCA: Multidimensional collaborative attention in deep convolutional neural networks "
        "for image recognition",
        authors="Yang Yu, Yi Zhang, Zeyu Cheng, Zhe Song, Chengkai Tang",
        venue="Engineering Applications of Artificial Intelligence",
        year=2023,
        url="https://doi.org/10.1016/j.engappai.2023.107079",
        code="https://github.com/ndsclark/MCANet",
        license="GPL-3.0",
        domain="channel+spatial",
        computes="pool+conv",
        applies="gate",
        kind="gate",
        equivariant=("channels",),
        cost=dict(time="n c", memory="n c"),
        aliases=("mcanet", "mcalayer", "multidimensional_collaborative"),
        differs=(
            "The authors' argument no_spatial leaves out the gate for channels "
            "(channel_gate=False here).",
            "For two or three channels their rule gives a kernel of -1, and fails; here it is 1.",
        ),
    )
    axes = Axes("b c h w", "h: b 1 h 1, w: b 1 1 w, channel: b c 1 1", range="unit")

    def __init__(
        self,
        channels: int,
        kernel_size: int | None = None,
        *,
        channel_gate: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=channels)
        positive(channels=channels)
        k = _adaptive_kernel(channels) if kernel_size is None else kernel_size
        odd(kernel_size=k)
        if not channel_gate:
            self.axes = replace(self.axes, map="h: b 1 h 1, w: b 1 1 w")
        factory = {"device": device, "dtype": dtype}
        lengths = {"h": 3, "w": 3} | ({"channel": k} if channel_gate else {})
        self.mix = nn.ModuleDict(
            {
                name: nn.Conv1d(1, 1, length, padding=length // 2, bias=False, **factory)
                for name, length in lengths.items()
            }
        )
        self.share = nn.ParameterDict({name: torch.rand(2, **factory) for name in lengths})

    def reset_parameters(self) -> None:
        """Draw new kernels, and the shares of mean and deviation uniformly from 0 to 1."""
        super().reset_parameters()
        for share in self.share.values():
            nn.init.uniform_(share)

    def attention(self, x: Tensor) -> tuple[Tensor, ...]:
        gates = []
        for name, mix in self.mix.items():
            mean, deviation = _moments(x, BRANCHES[name])  # b d
            a, b = self.share[name].sigmoid()
            z = 0.5 * (mean + deviation) + a * mean + b * deviation
            gate = mix(z.unsqueeze(1)).sigmoid()
            gates.append(_along(gate.squeeze(1), BRANCHES[name]))
        return tuple(gates)

    def combine(self, a: tuple[Tensor, ...], x: Tensor) -> Tensor:
        return x * (sum(a[1:], a[0]) / len(a))


def _adaptive_kernel(channels: int) -> int:
    k = round(abs((math.log2(channels) - 1) / 1.5))
    return max(k if k % 2 else k - 1, 1)


@leaf
def _moments(x: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Return the means and the unbiased standard deviations over all axes but one, ``b d``."""
    wide = precision.widen(x).movedim(axis, 1).flatten(2)
    mean = wide.mean(2)
    # Not std: it is NaN for one value, and its gradient is NaN for equal ones.
    length = torch.linalg.vector_norm(wide - mean.unsqueeze(2), dim=2)
    count = length.new_full((), at_least(wide.shape[2] - 1, 1))
    return mean.to(x.dtype), (length / count.sqrt()).to(x.dtype)


@leaf
def _along(gate: Tensor, axis: int) -> Tensor:
    """Lay out a gate ``b d`` along an axis of an image."""
    shape = [gate.shape[0], 1, 1, 1]
    shape[axis] = gate.shape[1]
    return gate.reshape(shape)
