"""Dual attention: positions read positions, channels read channels, and the two are added."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn

from ..core import pairwise
from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import divides, one_of, positive, probability, reduced


class DualAttention(Attention):
    r"""Adds to each position what similar positions hold, and to each channel what others hold.

    .. math::
        y = \big(x + \gamma_p V A_p^\top\big) + \big(x + \gamma_c A_c X\big), \quad
        A_p = \operatorname{softmax}(Q^\top K), \quad A_c = \operatorname{softmax}(-X X^\top)

    with linear :math:`Q, K, V` of the positions and :math:`X` the channels as rows; section 3 of
    the paper. `PositionAttention` and `ChannelAttention` are the two parts alone,
    `DualAttentionHead` is the network's head.

    Args:
        channels: :math:`C`.
        reduction: Queries and keys have :math:`\lfloor C/r \rfloor` channels.
        energy: Channels attend to those ``unlike`` them, as in the authors' code, or ``like`` them,
            as in the paper.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, maps ``b n n`` and ``b c c`` for the n positions, y as x.

    Raises:
        ValueError: a size is not positive, the reduction leaves no channel, or the energy is
            unknown.

    >>> DualAttention(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = Card(
        title="Dual Attention",
        paper="Dual Attention Network for Scene Segmentation",
        authors="Jun Fu, Jing Liu, Haijie Tian, Yong Li, Yongjun Bao, Zhiwei Fang, Hanqing Lu",
        venue="CVPR",
        year=2019,
        url="https://arxiv.org/abs/1809.02983",
        code="https://github.com/junfu1115/DANet",
        license="MIT",
        domain="channel+spatial",
        computes="conv+matmul",
        applies="matmul",
        kind="relation",
        equivariant=("pixels",),
        cost=dict(time="n^2 c + n c^2", memory="n c + c^2"),
        aliases=("danet", "danet_position", "danet_channel"),
        differs=(
            "In the paper a channel attends to the channels like it; the authors' code, and the "
            "default here, takes the softmax of the negated similarity (energy='like' is the "
            "paper's).",
            "Queries and keys have an eighth of the channels, as in the authors' code; the paper "
            "keeps them all (reduction=1).",
        ),
    )
    axes = Axes("b c h w", "position: b n n, channel: b c c", range="softmax")

    def __init__(
        self,
        channels: int,
        reduction: int = 8,
        *,
        energy: Literal["unlike", "like"] = "unlike",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=channels)
        self.position = PositionAttention(channels, reduction, device=device, dtype=dtype)
        self.channel = ChannelAttention(channels, energy=energy, device=device, dtype=dtype)

    def attention(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.position.attention(x), self.channel.attention(x)

    def combine(self, a: tuple[Tensor, Tensor], x: Tensor) -> Tensor:
        return self.position.combine(a[0], x) + self.channel.combine(a[1], x)

    def fused(self, x: Tensor) -> Tensor:
        return self.position.fused(x) + self.channel(x)


class PositionAttention(Attention):
    r"""Adds to each position what similar positions hold: the first part of `DualAttention`.

    .. math::
        y = x + \gamma V A^\top, \quad A = \operatorname{softmax}(Q^\top K)

    Equations 1 and 2 of the paper.

    Args:
        channels: :math:`C`.
        reduction: Queries and keys have :math:`\lfloor C/r \rfloor` channels.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, map ``b n n`` for the n positions, y as x.

    Raises:
        ValueError: a size is not positive, or the reduction leaves no channel.

    >>> PositionAttention(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = replace(
        DualAttention.card, identity_at_init=True, cost=dict(time="n^2 c + n c^2", memory="n c")
    )
    axes = Axes("b c h w", "b n n", range="softmax")

    def __init__(
        self,
        channels: int,
        reduction: int = 8,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=channels)
        hidden = reduced(channels, reduction)
        factory = {"device": device, "dtype": dtype}
        self.query = nn.Conv2d(channels, hidden, 1, **factory)
        self.key = nn.Conv2d(channels, hidden, 1, **factory)
        self.value = nn.Conv2d(channels, channels, 1, **factory)
        self.gamma = nn.Parameter(torch.zeros(1, **factory))

    def reset_parameters(self) -> None:
        """Draw new projections; the scale starts at zero, so that the part starts as x."""
        super().reset_parameters()
        nn.init.zeros_(self.gamma)

    def attention(self, x: Tensor) -> Tensor:
        return pairwise.attention_weights(_rows(self.query(x)), _rows(self.key(x)))

    def combine(self, a: Tensor, x: Tensor) -> Tensor:
        return self.add(a @ _rows(self.value(x)), x)

    def fused(self, x: Tensor) -> Tensor:
        return self.add(
            pairwise.scaled_dot_product(
                _rows(self.query(x)), _rows(self.key(x)), _rows(self.value(x))
            ),
            x,
        )

    def add(self, y: Tensor, x: Tensor) -> Tensor:
        return x + self.gamma * y.mT.unflatten(2, x.shape[2:])


class ChannelAttention(Attention):
    r"""Adds to each channel what the others hold: the second part of `DualAttention`.

    .. math::
        y = x + \gamma A X, \quad A = \operatorname{softmax}(-X X^\top)

    Equations 3 and 4 of the paper, but for the sign.

    Args:
        channels: :math:`C`; no weight depends on it.
        energy: Channels attend to those ``unlike`` them, or ``like`` them.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, map ``b c c``, y as x.

    Raises:
        ValueError: the size is not positive, or the energy is unknown.

    >>> ChannelAttention(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = replace(
        DualAttention.card,
        equivariant=("pixels", "channels"),
        map_invariant=("pixels",),
        identity_at_init=True,
        cost=dict(time="n c^2", memory="n c + c^2"),
    )
    axes = Axes("b c h w", "b c c", range="softmax")

    def __init__(
        self,
        channels: int,
        *,
        energy: Literal["unlike", "like"] = "unlike",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=channels)
        positive(channels=channels)
        one_of(("unlike", "like"), energy=energy)
        self.energy = energy
        self.gamma = nn.Parameter(torch.zeros(1, device=device, dtype=dtype))

    def reset_parameters(self) -> None:
        """Start the scale at zero, so that the part starts as x."""
        nn.init.zeros_(self.gamma)

    def attention(self, x: Tensor) -> Tensor:
        rows = x.flatten(2)  # b c n
        return pairwise.attention_weights(
            rows, rows, scale=-1.0 if self.energy == "unlike" else 1.0
        )

    def combine(self, a: Tensor, x: Tensor) -> Tensor:
        return x + self.gamma * (a @ x.flatten(2)).unflatten(2, x.shape[2:])


class DualAttentionHead(nn.Module):
    """The head of DANet: both parts between convolutions, and a classifier for each and the sum.

    Args:
        in_channels: Channels of the backbone's map; a quarter of them is used inside.
        num_classes: Channels of the outputs.
        dropout: Rate of dropping whole channels before each classifier.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``; the scores ``b k h w`` of the sum, of the positions and of the channels.

    >>> [tuple(y.shape) for y in DualAttentionHead(32, 5)(torch.randn(2, 32, 9, 7))]
    [(2, 5, 9, 7), (2, 5, 9, 7), (2, 5, 9, 7)]
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        dropout: float = 0.1,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        positive(num_classes=num_classes)
        divides(in_channels=in_channels, quarter=4)
        probability(dropout=dropout)
        factory = {"device": device, "dtype": dtype}
        hidden = in_channels // 4

        def convolve(channels: int) -> nn.Sequential:
            return nn.Sequential(
                nn.Conv2d(channels, hidden, 3, padding=1, bias=False, **factory),
                nn.BatchNorm2d(hidden, **factory),
                nn.ReLU(),
            )

        self.before_position, self.before_channel = convolve(in_channels), convolve(in_channels)
        self.position = PositionAttention(hidden, **factory)
        self.channel = ChannelAttention(hidden, **factory)
        self.after_position, self.after_channel = convolve(hidden), convolve(hidden)
        self.drop = nn.Dropout2d(dropout)
        self.classify_position = nn.Conv2d(hidden, num_classes, 1, **factory)
        self.classify_channel = nn.Conv2d(hidden, num_classes, 1, **factory)
        self.classify = nn.Conv2d(hidden, num_classes, 1, **factory)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Give the scores of the sum, of the positions and of the channels."""
        p = self.after_position(self.position(self.before_position(x)))
        c = self.after_channel(self.channel(self.before_channel(x)))
        return (
            self.classify(self.drop(p + c)),
            self.classify_position(self.drop(p)),
            self.classify_channel(self.drop(c)),
        )


def _rows(x: Tensor) -> Tensor:
    return x.flatten(2).mT  # b n c
