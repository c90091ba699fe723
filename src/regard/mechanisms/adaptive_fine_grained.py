"""Adaptive fine-grained channel attention: one gate per channel, from neighbors and from all."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..core import grid, precision
from ..core.adaptive_kernel import adaptive_kernel
from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import odd, positive


class AdaptiveFineGrained(Attention):
    r"""Scales each channel by a gate in which a local and a global view of the channels interact.

    .. math::
        a = \sigma\big(k * (w\, o_1 + (1 - w)\, o_2)\big), \quad
        o_1 = \sigma\big(\textstyle\sum_c u_{1c}\; u_2\big), \quad
        o_2 = \sigma\big(\textstyle\sum_c u_{2c}\; u_1\big), \quad
        u_1 = k * z, \quad u_2 = W z + b, \quad y = a \odot x

    where z averages each channel, k is a 1D convolution along the channels, the same in both
    places, W is :math:`C \times C` and :math:`w = \sigma(\theta)` is learned; section 3 of the
    paper. The sums are those over rows and columns of the correlations :math:`u_1 u_2^\top`.

    In half precision, rounding can change on which side of its step the sigmoid is where scores
    are in the hundreds.

    Args:
        channels: :math:`C`.
        kernel_size: Length of k, odd; by default from ``channels`` by ECA's rule.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c *`` (one to three axes of space and time), map ``b c 1*``, y as x.

    Raises:
        ValueError: a size is not positive, or the kernel is even.

    >>> AdaptiveFineGrained(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = Card(
        title="Adaptive Fine-Grained Channel Attention",
        paper="Unsupervised Bidirectional Contrastive Reconstruction and Adaptive Fine-Grained "
        "Channel Attention Networks for image dehazing",
        authors="Hang Sun, Yang Wen, Haojing Feng, Yuelin Zheng, Qi Mei, Dong Ren, Mei Yu",
        venue="Neural Networks",
        year=2024,
        url="https://doi.org/10.1016/j.neunet.2024.106314",
        code="https://github.com/Lose-Code/UBRFC-Net",
        license="AFL-3.0",
        domain="channel",
        computes="pool+conv+fc",
        applies="gate",
        kind="gate",
        equivariant=("pixels",),
        map_invariant=("pixels",),
        cost=dict(time="n c + c^2", memory="n c"),
        aliases=("afgc", "fcattention", "afgcattention", "ubrfc", "fine_grained_channel"),
    )
    axes = Axes("b c *", "b c 1*", range="unit")

    def __init__(
        self,
        channels: int,
        kernel_size: int | None = None,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=channels)
        positive(channels=channels)
        k = adaptive_kernel(channels) if kernel_size is None else kernel_size
        odd(kernel_size=k)
        factory = {"device": device, "dtype": dtype}
        self.near = nn.Conv1d(1, 1, k, padding=k // 2, bias=False, **factory)
        self.whole = nn.Linear(channels, channels, **factory)
        self.weight = nn.Parameter(torch.full((), -0.8, **factory))

    def reset_parameters(self) -> None:
        """Draw new layers; w starts at 0.31, as in the authors' code."""
        super().reset_parameters()
        nn.init.constant_(self.weight, -0.8)

    def attention(self, x: Tensor) -> Tensor:
        z = grid.mean(x)  # b c
        near = precision.widen(self._along_channels(z))
        whole = precision.widen(self.whole(z))
        first = (near.sum(1, keepdim=True) * whole).sigmoid()
        second = (whole.sum(1, keepdim=True) * near).sigmoid()
        w = self.weight.sigmoid()
        mixed = w * first + (1 - w) * second
        return grid.broadcast_gate(self._along_channels(mixed.to(z.dtype)).sigmoid(), x)

    def combine(self, a: Tensor, x: Tensor) -> Tensor:
        return x * a

    def _along_channels(self, z: Tensor) -> Tensor:
        return self.near(z.unsqueeze(1)).squeeze(1)
