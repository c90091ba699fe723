"""Double attention: pool all positions into a few descriptors, then distribute these back."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from ..core import precision
from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import positive, reduced

Prepared = tuple[Tensor, Tensor]  # x, and its positions as b c n


class DoubleAttention(Attention):
    r"""Pools x into a few global descriptors, and adds a mixture of them to each position.

    .. math::
        y = x + W_e\, G\, D, \quad
        G = \phi(x)\, \operatorname{softmax}_{\text{positions}}(\theta(x))^\top, \quad
        D = \operatorname{softmax}_{\text{descriptors}}(\rho(x))

    where :math:`\phi` has m channels, :math:`\theta` and :math:`\rho` have one for each descriptor,
    and all three are linear; equations 2 to 6 and figure 2 of the paper.

    In half precision, rounding can change which entry the softmax selects where scores are in
    the hundreds.

    Args:
        channels: :math:`C`.
        reduction: :math:`r`; there are :math:`\lfloor C/r \rfloor` descriptors of as many channels.
        hidden_dim: m, the channels of a descriptor, instead of ``reduction``.
        num_descriptors: The number of descriptors, instead of ``reduction``.
        expand: Project y to the channels of x by :math:`W_e`; if False, y has m channels.
        residual: Add x.
        num_frames: Number of consecutive images in the batch that are the frames of one video and
            share their descriptors; 1 for independent images, or videos with an axis for frames.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c *`` (one to three axes of space and time), maps ``b k n`` (gather) and ``b n k``
        (distribute) for k descriptors and n positions, y as x, or ``b m *`` without ``expand``.

    Raises:
        ValueError: a size is not positive, the reduction leaves no channel, or ``residual`` would
            add x to a y with other channels.

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
            "The authors have released no code. The best-known re-implementation returns the m "
            "channels as they are (expand=False, residual=False) and takes the frames of a video "
            "as consecutive images (num_frames=8, say).",
            "Both maps sum to one, so the value and output layers are applied to the descriptors "
            "instead of the positions: the numbers are those of the equations, for less work.",
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
            reduced_dim = reduced(channels, reduction)
            hidden_dim = reduced_dim if hidden_dim is None else hidden_dim
            num_descriptors = reduced_dim if num_descriptors is None else num_descriptors
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

    def prepare(self, x: Tensor) -> Prepared:
        if self.num_frames == 1:
            return x, x.flatten(2)
        return x, x.unflatten(0, (-1, self.num_frames)).transpose(1, 2).flatten(2)  # b c (t *)

    def attention(self, z: Prepared) -> tuple[Tensor, Tensor]:
        _, flat = z
        gather = precision.softmax(_linear(self.gather, flat), 2)
        distribute = precision.softmax(_linear(self.distribute, flat), 1)
        return gather, distribute.transpose(1, 2)  # b k n, b n k

    def combine(self, a: tuple[Tensor, Tensor], z: Prepared) -> Tensor:
        x, flat = z
        gather, distribute = a
        g = self.expand(self.value(gather @ flat.transpose(-2, -1)))  # b k c
        # Adding x sets the memory layout; without x the product is left in channels last.
        if self.residual:
            y = g.transpose(1, 2) @ distribute.transpose(1, 2)  # b c n
        else:
            y = (distribute @ g).transpose(1, 2)
        if self.num_frames > 1:
            y = y.unflatten(2, (self.num_frames, -1)).transpose(1, 2).flatten(0, 1)
        y = y.unflatten(2, x.shape[2:])
        return x + y if self.residual else y


def _linear(layer: nn.Linear, x: Tensor) -> Tensor:
    """Apply a linear layer to the channels of ``b c n``."""
    # Not as a convolution, which would copy an input in channels last.
    return layer.weight.expand(x.shape[0], -1, -1) @ x + layer.bias.unsqueeze(1)
