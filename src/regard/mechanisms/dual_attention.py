"""Dual attention: self-attention over positions plus self-attention over channels."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..core import pairwise
from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import divides, one_of, positive, probability, reduced
from ..core.conv_norm import CONV, conv_norm


class DualAttention(Attention):
    r"""Adds the outputs of self-attention over positions and self-attention over channels.

    .. math::
        y = \big(x + \gamma_p V A_p^\top\big) + \big(x + \gamma_c A_c X\big), \quad
        A_p = \operatorname{softmax}(Q^\top K), \quad A_c = \operatorname{softmax}(-X X^\top)

    with linear queries, keys and values :math:`Q, K, V` of the positions, and the channels as the
    rows of :math:`X`; section 3 of the paper. `PositionAttention` and `ChannelAttention` are the
    two parts, `DualAttentionHead` is the network's head.

    In half precision, rounding can change which entry the softmax selects where scores are in
    the hundreds.

    Args:
        channels: :math:`C`.
        reduction: Queries and keys have :math:`\lfloor C/r \rfloor` channels.
        energy: Channels attend to ``unlike`` channels, as in the authors' code, or to ``like``
            ones, as in the paper.
        dims: Axes of space and time: 1, 2 or 3.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c *`` (``dims`` axes of space and time), maps ``b n n`` and ``b c c`` for the n
        positions, y as x.

    Raises:
        ValueError: a size is not positive, the reduction leaves no channel, or the energy or
            ``dims`` is unknown.

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
            "In the paper a channel attends to similar channels (energy='like'); the authors' "
            "code, and the default here, takes the softmax of the negated similarity.",
            "Queries and keys have an eighth of the channels, as in the authors' code; the paper "
            "keeps them all (reduction=1).",
        ),
    )
    axes = Axes("b c *", "position: b n n, channel: b c c", range="softmax")

    def __init__(
        self,
        channels: int,
        reduction: int = 8,
        *,
        energy: Literal["unlike", "like"] = "unlike",
        dims: Literal[1, 2, 3] = 2,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=channels)
        one_of((1, 2, 3), dims=dims)
        self.axes = self.axes.over(dims)
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self.position = PositionAttention(channels, reduction, dims=dims, **factory)
        self.channel = ChannelAttention(channels, energy=energy, **factory)

    def attention(self, x: Tensor) -> tuple[Tensor, Tensor]:
        a_p, a_c = self.position.attention(x), self.channel.attention(x)
        return self.position.tap(a_p), self.channel.tap(a_c)

    def combine(self, a: tuple[Tensor, Tensor], x: Tensor) -> Tensor:
        a_p, a_c = a
        return self.position.combine(a_p, x) + self.channel.combine(a_c, x)

    def fused(self, x: Tensor) -> Tensor:
        return self.position(x) + self.channel(x)


class PositionAttention(Attention):
    r"""Adds self-attention over positions to x: the first part of `DualAttention`.

    .. math::
        y = x + \gamma V A^\top, \quad A = \operatorname{softmax}(Q^\top K)

    Equations 1 and 2 of the paper.

    In half precision, rounding can change which entry the softmax selects where scores are in
    the hundreds.

    Args:
        channels: :math:`C`.
        reduction: Queries and keys have :math:`\lfloor C/r \rfloor` channels.
        dims: Axes of space and time: 1, 2 or 3.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c *`` (``dims`` axes of space and time), map ``b n n`` for the n positions, y as x.

    Raises:
        ValueError: a size is not positive, the reduction leaves no channel, or ``dims`` is unknown.

    >>> PositionAttention(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = replace(
        DualAttention.card, identity_at_init=True, cost=dict(time="n^2 c + n c^2", memory="n c")
    )
    axes = Axes("b c *", "b n n", range="softmax")

    def __init__(
        self,
        channels: int,
        reduction: int = 8,
        *,
        dims: Literal[1, 2, 3] = 2,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=channels)
        hidden_dim = reduced(channels, reduction)
        one_of((1, 2, 3), dims=dims)
        self.axes = self.axes.over(dims)
        factory = {"device": device, "dtype": dtype}
        self.query = CONV[dims](channels, hidden_dim, 1, **factory)
        self.key = CONV[dims](channels, hidden_dim, 1, **factory)
        self.value = CONV[dims](channels, channels, 1, **factory)
        self.gamma = nn.Parameter(torch.zeros(1, **factory))

    def reset_parameters(self) -> None:
        """Draw new projections; the scale starts at zero, so the module starts as the identity."""
        super().reset_parameters()
        nn.init.zeros_(self.gamma)

    def attention(self, x: Tensor) -> Tensor:
        q, k = _tokens(self.query(x)), _tokens(self.key(x))
        return pairwise.attention_weights(q, k)

    def combine(self, a: Tensor, x: Tensor) -> Tensor:
        v = _tokens(self.value(x))
        return self.add(a @ v, x)

    def fused(self, x: Tensor) -> Tensor:
        q, k, v = _tokens(self.query(x)), _tokens(self.key(x)), _tokens(self.value(x))
        return self.add(pairwise.scaled_dot_product(q, k, v), x)

    def add(self, y: Tensor, x: Tensor) -> Tensor:
        """Add the scaled tokens y to the image x."""
        return x + self.gamma * y.transpose(-2, -1).unflatten(2, x.shape[2:])


class ChannelAttention(Attention):
    r"""Adds self-attention over channels to x: the second part of `DualAttention`.

    .. math::
        y = x + \gamma A X, \quad A = \operatorname{softmax}(-X X^\top)

    Equations 3 and 4 of the paper, except for the sign.

    Args:
        channels: :math:`C`; no parameter depends on it.
        energy: Channels attend to ``unlike`` or to ``like`` channels.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c *``, map ``b c c``, y as x.

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
    axes = Axes("b c *", "b c c", range="softmax")

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
        """Set the scale to zero, so the module starts as the identity."""
        nn.init.zeros_(self.gamma)

    def attention(self, x: Tensor) -> Tensor:
        channels = x.flatten(2)  # b c n
        scale = -1.0 if self.energy == "unlike" else 1.0
        return pairwise.attention_weights(channels, channels, scale=scale)

    def combine(self, a: Tensor, x: Tensor) -> Tensor:
        return x + self.gamma * (a @ x.flatten(2)).unflatten(2, x.shape[2:])


class DualAttentionHead(nn.Module):
    """Scores classes by DANet's head: from the sum of both attentions, and from each alone.

    Args:
        in_channels: Channels of x; the attentions have a quarter of them.
        num_classes: Channels of the outputs.
        dropout: Rate of dropping whole channels before each classifier.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``; the scores ``b k h w`` of the sum, of the position attention and of the
        channel attention.

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
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        hidden_dim = in_channels // 4

        def conv(channels: int) -> nn.Sequential:
            return conv_norm(channels, hidden_dim, 3, activation=nn.ReLU(), **factory)

        self.before_position, self.before_channel = conv(in_channels), conv(in_channels)
        self.position = PositionAttention(hidden_dim, **factory)
        self.channel = ChannelAttention(hidden_dim, **factory)
        self.after_position, self.after_channel = conv(hidden_dim), conv(hidden_dim)
        self.drop = nn.Dropout2d(dropout)
        self.classify_position = nn.Conv2d(hidden_dim, num_classes, 1, **factory)
        self.classify_channel = nn.Conv2d(hidden_dim, num_classes, 1, **factory)
        self.classify = nn.Conv2d(hidden_dim, num_classes, 1, **factory)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the scores of the sum, of the position and of the channel attention."""
        p = self.after_position(self.position(self.before_position(x)))
        c = self.after_channel(self.channel(self.before_channel(x)))
        return (
            self.classify(self.drop(p + c)),
            self.classify_position(self.drop(p)),
            self.classify_channel(self.drop(c)),
        )


def _tokens(x: Tensor) -> Tensor:
    return x.flatten(2).transpose(1, 2)  # b n c
