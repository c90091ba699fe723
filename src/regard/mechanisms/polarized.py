"""Polarized self-attention: a gate per channel and a gate per position, at full resolution."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from ..core import grid, precision
from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import one_of, reduced


class Polarized(Attention):
    r"""Scales each channel by one gate and each position by another, both from softmax attention.

    .. math::
        a^c = \sigma\big(T(V_c x\, \operatorname{softmax}(q_c^\top x)^\top)\big), \quad
        a^s = \sigma\big(\operatorname{softmax}(\overline{Q_s x}^\top V_s x)\big), \quad
        y = a^c \odot x + a^s \odot x

    where T maps back to the channels of x and the bar averages over positions. In sequence,
    :math:`y = a^s \odot x'` with :math:`x' = a^c \odot x`, from which :math:`a^s` is computed.
    Section 3 of the paper, where the softmax of :math:`a^s` is over the channels of
    :math:`\overline{Q_s x}`.

    In half precision, rounding can change which entry the softmax selects where scores are in
    the hundreds.

    Args:
        channels: :math:`C`.
        reduction: :math:`r`; :math:`V_c`, :math:`Q_s` and :math:`V_s` have
            :math:`\lfloor C/r \rfloor` output channels.
        arrangement: Both gates from x (``parallel``), or the channel gate first (``sequential``).
        softmax: The spatial gate's softmax: over the positions of the ``product``, over the
            ``positions`` of the values, or over the ``channels`` of the averaged query; by default
            as in the authors' code, ``product`` in parallel and ``positions`` in sequence.
        transform: T: a ``linear`` layer, one followed by a layer ``norm``, or a ``bottleneck`` of a
            quarter of the channels with a layer norm and ReLU inside; by default as in the authors'
            code, ``linear`` in parallel and ``bottleneck`` in sequence.
        bias: Give the layers biases, except :math:`V_s` where its bias would cancel in the softmax;
            a bottleneck always has them.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c *`` (one to three axes of space and time), maps ``b c 1*`` (channel) and ``b 1 *``
        (spatial), y as x.

    Raises:
        ValueError: a size is not positive, the reduction leaves a layer without channels, or an
            option is unknown.

    >>> Polarized(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = Card(
        title="Polarized Self-Attention",
        paper="Polarized Self-Attention: Toward High-quality Pixel-wise Regression",
        authors="Huajun Liu, Fuqiang Liu, Xinyi Fan, Dong Huang",
        venue="arXiv",
        year=2021,
        url="https://arxiv.org/abs/2107.00782",
        code="https://github.com/DeLightCMU/PSA",
        license="Apache-2.0",
        domain="channel+spatial",
        computes="conv+pool+matmul",
        applies="gate",
        kind="gate",
        equivariant=("pixels",),
        cost=dict(time="n c + c^2", memory="n c"),
        aliases=("polarized", "polarized_self_attention", "psa", "psa_p", "psa_s"),
        differs=(
            "In the paper the spatial gate's softmax is over the channels of the averaged query, "
            "and a layer norm precedes the channel gate's sigmoid (softmax='channels', "
            "transform='norm'); the authors' code, and the default here, has neither.",
            "The softmax over the positions of the product, as in the authors' parallel code, "
            "keeps the spatial gate between 0.5 and 0.73, mostly close to 0.5.",
            "Sums over positions are taken before the linear layers that commute with them: the "
            "results are those of the equations, with less computation.",
        ),
    )
    axes = Axes("b c *", "channel: b c 1*, spatial: b 1 *", range="unit")

    def __init__(
        self,
        channels: int,
        reduction: int = 2,
        *,
        arrangement: Literal["parallel", "sequential"] = "parallel",
        softmax: Literal["product", "positions", "channels"] | None = None,
        transform: Literal["linear", "norm", "bottleneck"] | None = None,
        bias: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=channels)
        hidden_dim = reduced(channels, reduction)
        one_of(("parallel", "sequential"), arrangement=arrangement)
        one_of(("product", "positions", "channels", None), softmax=softmax)
        one_of(("linear", "norm", "bottleneck", None), transform=transform)
        parallel = arrangement == "parallel"
        softmax = softmax or ("product" if parallel else "positions")
        transform = transform or ("linear" if parallel else "bottleneck")
        self.arrangement, self.softmax, self.transform = arrangement, softmax, transform
        factory = {"device": device, "dtype": dtype}
        self.channel_query = nn.Linear(channels, 1, bias, **factory)
        self.channel_value = nn.Linear(channels, hidden_dim, bias, **factory)
        if transform == "bottleneck":
            if hidden_dim < 4:
                raise ValueError(
                    f"channels ({channels}) must be at least 4 * reduction ({reduction}) for a "
                    "bottleneck: nothing would be left"
                )
            self.channel_out = nn.Sequential(
                nn.Linear(hidden_dim, hidden_dim // 4, **factory),
                nn.LayerNorm(hidden_dim // 4, **factory),
                nn.ReLU(),
                nn.Linear(hidden_dim // 4, channels, **factory),
            )
        else:
            self.channel_out = nn.Sequential(
                nn.Linear(hidden_dim, channels, bias, **factory),
                nn.LayerNorm(channels, **factory) if transform == "norm" else nn.Identity(),
            )
        self.spatial_query = nn.Linear(channels, hidden_dim, bias, **factory)
        self.spatial_value = nn.Linear(
            channels, hidden_dim, bias and softmax == "channels", **factory
        )

    def attention(self, x: Tensor) -> tuple[Tensor, Tensor]:
        a = self.channel_gate(x)
        return a, self.spatial_gate(x if self.arrangement == "parallel" else x * a)

    def combine(self, a: tuple[Tensor, Tensor], x: Tensor) -> Tensor:
        channel, spatial = a
        if self.arrangement == "parallel":
            return x * (channel + spatial)
        return x * channel * spatial

    def fused(self, x: Tensor) -> Tensor | None:
        if self.arrangement == "parallel":
            return None
        x = x * self.channel_gate(x)
        return x * self.spatial_gate(x)

    def channel_gate(self, x: Tensor) -> Tensor:
        flat = x.flatten(2)  # b c n
        scores = _pointwise(self.channel_query.weight, flat)  # b 1 n
        if self.channel_query.bias is not None:
            scores = scores + self.channel_query.bias
        # The weights sum to one, so the value layer can follow the sum.
        pooled = (precision.softmax(scores, 2) @ flat.transpose(-2, -1)).squeeze(1)  # b c
        return grid.broadcast_gate(self.channel_out(self.channel_value(pooled)).sigmoid(), x)

    def spatial_gate(self, x: Tensor) -> Tensor:
        flat, values = x.flatten(2), self.spatial_value
        q = self.spatial_query(flat.mean(2)).unsqueeze(1)  # b 1 d
        if self.softmax == "positions":
            scores = q @ precision.softmax(_pointwise(values.weight, flat), 2)
        else:
            if self.softmax == "channels":
                q = precision.softmax(q, 2)
            scores = (q @ values.weight) @ flat  # q (V x) = (q V) x: never builds V x
            if values.bias is not None:
                scores = scores + q @ values.bias.unsqueeze(1)
            if self.softmax == "product":
                scores = precision.softmax(scores, 2)
        return scores.sigmoid().unflatten(2, x.shape[2:])  # b 1 *


def _pointwise(weight: Tensor, x: Tensor) -> Tensor:
    """Apply a linear layer at each position of ``b c n``.

    A convolution would copy channels-last input.
    """
    return weight.expand(x.shape[0], -1, -1) @ x
