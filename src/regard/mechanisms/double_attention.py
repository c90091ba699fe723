"""Double attention: all positions are gathered into a few descriptors, and these handed out."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from ..core import precision
from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import positive, reduced


class DoubleAttention(Attention):
    r"""Gathers the whole image into a few descriptors, and hands to each position what it needs.

    .. math::
        y = x + W_e\, G\, D, \quad
        G = \phi(x)\, \operatorname{softmax}_{\text{positions}}(\theta(x))^\top, \quad
        D = \operatorname{softmax}_{\text{descriptors}}(\rho(x))

    where :math:`\phi` has m channels, :math:`\theta` and :math:`\rho` have one for each descriptor,
    and all three are linear; equations 2 to 6 and figure 2 of the paper.

    Args:
        channels: :math:`C`.
        reduction: :math:`r`; there are :math:`\lfloor C/r \rfloor` descriptors of as many channels.
        hidden_dim: m, the channels of a descriptor, instead of ``reduction``.
        num_descriptors: The number of descriptors, instead of ``reduction``.
        expand: Give y as many channels as x by :math:`W_e`; if not, y has m.
        residual: Add x.
        num_frames: Take so many images one after another as the frames of one video, which share
            their descriptors; 1 leaves each image, or each video with an axis for its frames,
            alone.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c *`` (one to three axes of space and time), maps ``b k n`` (gather) and ``b n k``
        (distribute) for k descriptors and n positions, y as x, or ``b m *`` without ``expand``.

    Raises:
        ValueError: a size is not positive, the reduction leaves no channel, or x shall be added to
            a y of other channels.

    >>> DoubleAttention(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = Card(
        title="Double Attention",
        paper="A^2-Nets: Double Attention Networks",
        authors="Yunpeng Chen, Yannis Kalantidis, Jianshu Li, Shuicheng Yan, Jiashi Feng",
        venue="NeurIPS",
        year=2018,
        url="https://arxiv.org/abs/1810.11579",
        domain="spatial",
        computes="conv+matmul",
        applies="matmul",
        kind="relation",
        equivariant=("pixels",),
        cost=dict(time="n c^2", memory="n c"),
        aliases=("a2", "a2_net", "a2_nets", "a2_attention"),
        differs=(
            "The authors have released no code. The best-known re-implementation gives the m "
            "channels as they are (expand=False, residual=False) and takes frames as images one "
            "after another (frames=8, say).",
            "Both maps sum to one, so the layers before and behind them act on the descriptors and "
            "not on the positions: the numbers are those of the equations, for less work.",
        ),
    )
    axes = Axes("b c *", "gather: b k n, distribute: b n k", range="softmax")

    def __init__(
        self,
        channels: int,
        reduction: int = 4,
        *,
        hidden_dim: int | None = None,
        num_descriptors: int | None = None,
        expand: bool = True,
        residual: bool = True,
        num_frames: int = 1,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=channels)
        positive(num_frames=num_frames)
        if hidden_dim is None or num_descriptors is None:
            width = reduced(channels, reduction)
            hidden_dim = width if hidden_dim is None else hidden_dim
            num_descriptors = width if num_descriptors is None else num_descriptors
        positive(
            channels=channels,
            reduction=reduction,
            hidden_dim=hidden_dim,
            num_descriptors=num_descriptors,
        )
        if residual and not expand and hidden_dim != channels:
            raise ValueError(
                f"residual must be False for a y of {hidden_dim} channels, which cannot be "
                f"x of {channels}, unless expand is True"
            )
        self.residual, self.num_frames = residual, num_frames
        if not expand:
            self.axes = replace(self.axes, output="b o *")
        if num_frames > 1:
            self.divisors = {"s": num_frames}
            self.axes = replace(
                self.axes,
                input="s c *",
                map="gather: b k p, distribute: b p k",
                output="s c *" if expand else "s o *",
            )
        factory = {"device": device, "dtype": dtype}
        self.gather = nn.Linear(channels, num_descriptors, **factory)
        self.distribute = nn.Linear(channels, num_descriptors, **factory)
        self.value = nn.Linear(channels, hidden_dim, **factory)
        self.expand = nn.Linear(hidden_dim, channels, **factory) if expand else nn.Identity()

    def prepare(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if self.num_frames == 1:
            return x, x.flatten(2)
        return x, x.unflatten(0, (-1, self.num_frames)).transpose(1, 2).flatten(2)  # b c (t *)

    def attention(self, x: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        z = x[1]
        gather = precision.softmax(_each(self.gather, z), 2)
        return gather, precision.softmax(_each(self.distribute, z), 1).mT  # b k n, b n k

    def combine(self, a: tuple[Tensor, Tensor], x: tuple[Tensor, Tensor]) -> Tensor:
        whole, z = x
        gather, distribute = a
        g = self.expand(self.value(gather @ z.mT))  # b k c
        # Laid out as x is, or, where x does not say how, channels last, as it can be.
        y = g.mT @ distribute.mT if self.residual else (distribute @ g).mT  # b c n
        if self.num_frames > 1:
            y = y.unflatten(2, (self.num_frames, -1)).transpose(1, 2).flatten(0, 1)
        y = y.unflatten(2, whole.shape[2:])
        return whole + y if self.residual else y


def _each(layer: nn.Linear, z: Tensor) -> Tensor:
    """A layer at each position of ``b c n``; as a convolution, channels last would be copied."""
    return layer.weight.expand(z.shape[0], -1, -1) @ z + layer.bias.unsqueeze(1)
