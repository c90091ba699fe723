"""FCA: one gate per channel, from one DCT coefficient of each channel instead of its average."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from ..core import grid
from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import divides, one_of, positive, reduced

BASE = 7
# The authors' orders of the 7 x 7 frequencies, vertical and horizontal: by the ImageNet accuracy of
# each alone, best first (top) or worst first (bot), and lowest frequency first (low).
ORDERS = {
    "top": ("00600114513000324635526553342261", "01052020060463526333511242113053"),
    "low": ("00110221203401301234501234561234", "01012012230043154321065432106543"),
    "bot": ("61332412445146256162243355625536", "64466314456522514350311242115333"),
}


class FCA(Attention):
    r"""Scales each channel by a gate, computed from one DCT coefficient of every channel.

    .. math::
        a = \sigma\big(W_2\,\delta(W_1 z)\big), \quad
        z_c = \textstyle\sum_{ij} \bar x_{cij} \, B_{u(c)}(i, H) \, B_{v(c)}(j, W), \quad
        y = a \odot x

    with :math:`\bar x` averaged to a grid of :math:`H \times W`, the orthonormal cosines
    :math:`B_u(i, H) = \sqrt{(1 + [u > 0]) / H} \cos(\pi u (i + \frac12) / H)`, and :math:`\delta` =
    ReLU. The channels are split into one contiguous group per frequency; section 3 of the paper.

    Args:
        channels: :math:`C`.
        reduction: :math:`r`; the hidden layer has :math:`\lfloor C/r \rfloor` channels.
        num_frequencies: Number of frequencies, 32 at most; it must divide ``channels``.
        selection: The frequencies that do best alone (``top``), worst alone (``bot``), or the
            lowest (``low``).
        grid_size: :math:`H` and :math:`W`. Frequencies are multiplied by the grid size over 7,
            rounded down: with a side below 7 all become the average along it.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w`` of any size, map ``b c 1 1``, y as x.

    Raises:
        ValueError: a size is not positive, the reduction leaves no hidden channel,
            ``num_frequencies`` does not divide the channels or is above 32, or the selection is
            unknown.

    >>> FCA(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = Card(
        title="Frequency Channel Attention",
        paper="FcaNet: Frequency Channel Attention Networks",
        authors="Zequn Qin, Pengyi Zhang, Fei Wu, Xi Li",
        venue="ICCV",
        year=2021,
        url="https://arxiv.org/abs/2012.11879",
        code="https://github.com/cfzd/FcaNet",
        license="MIT",
        domain="channel",
        computes="pool+fc",
        applies="gate",
        kind="gate",
        cost=dict(time="n c + c^2", memory="n c"),
        aliases=("fca", "fcanet", "frequency_channel", "multi_spectral"),
        differs=(
            "The cosines are orthonormal, as in the authors' code; the paper omits their constant "
            "factors.",
            "The authors use a different grid size in each stage of a network, from 56 down to 7; "
            "the default here is 7 x 7 everywhere.",
            "The authors' cosines are rounded to single precision; here they have the module's.",
        ),
    )
    axes = Axes("b c h w", "b c 1 1", range="unit")

    def __init__(
        self,
        channels: int,
        reduction: int = 16,
        *,
        num_frequencies: int = 16,
        selection: Literal["top", "low", "bot"] = "top",
        grid_size: Sequence[int] = (BASE, BASE),
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=channels)
        hidden_dim = reduced(channels, reduction)
        one_of(tuple(ORDERS), selection=selection)
        divides(channels=channels, num_frequencies=num_frequencies)
        if num_frequencies > len(ORDERS["top"][0]):
            raise ValueError(f"num_frequencies must be 32 at most, got {num_frequencies}")
        if len(grid_size) != 2:
            raise ValueError(f"grid_size must be a height and a width, got {grid_size!r}")
        self.grid_size = h, w = grid_size[0], grid_size[1]
        for side in grid_size:
            positive(grid_size=side)
        self.num_frequencies = num_frequencies
        self.selection = selection
        factory = {"device": device, "dtype": dtype}
        self.register_buffer("basis", torch.empty(channels, h, w, **factory))
        self.squeeze = nn.Linear(channels, hidden_dim, False, **factory)
        self.excite = nn.Linear(hidden_dim, channels, False, **factory)
        self.fill_basis()

    def fill_basis(self) -> None:
        waves = [
            _waves(order[: self.num_frequencies], n)
            for order, n in zip(ORDERS[self.selection], self.grid_size, strict=True)
        ]
        plane = waves[0][:, :, None] * waves[1][:, None]  # f h w
        self.basis.copy_(plane.repeat_interleave(len(self.basis) // self.num_frequencies, 0))

    def reset_parameters(self) -> None:
        """Draw new layers and recompute the basis, which has no parameters."""
        super().reset_parameters()
        self.fill_basis()

    def attention(self, x: Tensor) -> Tensor:
        z = (grid.adaptive_avg_pool2d(x, self.grid_size) * self.basis).sum((2, 3))  # b c
        return grid.broadcast_gate(self.excite(self.squeeze(z).relu()).sigmoid(), x)

    def combine(self, a: Tensor, x: Tensor) -> Tensor:
        return x * a


def _waves(order: str, n: int) -> Tensor:
    """Return the cosines of these frequencies at n positions, ``f n``."""
    u = torch.tensor([int(digit) for digit in order], dtype=torch.float64)[:, None] * (n // BASE)
    i = torch.arange(n, dtype=torch.float64)
    factor = ((1 + u.sign()) / n).sqrt()
    return factor * (math.pi / n * u * (i + 0.5)).cos()
