"""Squeeze-and-Excitation: one gate per channel, from the global average."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..core import grid
from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import reduced


class SqueezeExcitation(Attention):
    r"""Weighs each channel by a gate that sees the average of every channel.

    .. math::
        a = \sigma\big(W_2\,\delta(W_1 z)\big), \quad
        z_c = \tfrac{1}{HW}\textstyle\sum_{ij} x_{cij}, \quad y = a \odot x

    with :math:`\delta` = ReLU, :math:`W_1` of shape :math:`(C/r, C)` and :math:`W_2` of
    :math:`(C, C/r)`; equations 2 to 4 of the paper.

    Args:
        channels: :math:`C`.
        reduction: :math:`r`; the hidden width is :math:`\lfloor C/r \rfloor`.
        hidden_dim: The hidden width itself, instead of ``reduction``.
        bias: Give both layers a bias, as the authors' Caffe models do.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c *`` (one to three axes of space and time), map ``b c 1*``, y as x.

    Raises:
        ValueError: a size is not positive, or the reduction leaves no hidden channel.

    >>> SqueezeExcitation(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = Card(
        title="Squeeze-and-Excitation",
        paper="Squeeze-and-Excitation Networks",
        authors="Jie Hu, Li Shen, Gang Sun",
        venue="CVPR",
        year=2018,
        url="https://arxiv.org/abs/1709.01507",
        code="https://github.com/hujie-frank/SENet",
        license="Apache-2.0",
        domain="channel",
        computes="pool+fc",
        applies="gate",
        kind="gate",
        equivariant=("pixels",),
        map_invariant=("pixels",),
        cost=dict(time="n c + c^2", memory="n c"),
        aliases=(
            "se",
            "senet",
            "squeeze_and_excitation",
            "rcab",
            "rcan",
            "residual_channel_attention",
        ),
        differs=(
            "The authors' Caffe models have biases in both layers (bias=True); the equations, and "
            "most code since, have none.",
        ),
    )
    axes = Axes("b c *", "b c 1*", range="unit")

    def __init__(
        self,
        channels: int,
        reduction: int = 16,
        *,
        hidden_dim: int | None = None,
        bias: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=channels)
        hidden_dim = reduced(channels, reduction, hidden_dim)
        self.squeeze = nn.Linear(channels, hidden_dim, bias, device, dtype)
        self.excite = nn.Linear(hidden_dim, channels, bias, device, dtype)

    def attention(self, x: Tensor) -> Tensor:
        z = grid.mean(x)  # b c
        return grid.broadcast_gate(self.excite(self.squeeze(z).relu()).sigmoid(), x)

    def combine(self, a: Tensor, x: Tensor) -> Tensor:
        return x * a
