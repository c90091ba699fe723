"""Polarized self-attention: a gate per channel and a gate per position, each in full resolution."""

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
    r"""Weighs channels by what chosen positions hold, and positions by what chosen channels hold.

    .. math::
        a^c = \sigma\big(T(V_c x\, \operatorname{softmax}(q_c^\top x)^\top)\big), \quad
        a^s = \sigma\big(\operatorname{softmax}(\overline{Q_s x}^\top V_s x)\big), \quad
        y = a^c \odot x + a^s \odot x

    where T leads back to the channels of x and the bar averages over positions; the sequential
    arrangement is :math:`y = a^s \odot x'` with :math:`x' = a^c \odot x`, which :math:`a^s` then
    sees. Section 3 of the paper, in which the softmax of :math:`a^s` is that of
    :math:`\overline{Q_s x}` over its channels.

    Args:
        channels: :math:`C`.
        reduction: :math:`r`; :math:`V_c`, :math:`Q_s` and :math:`V_s` have
            :math:`\lfloor C/r \rfloor` rows.
        arrangement: Both gates side by side (``parallel``), or the channels' first
            (``sequential``).
        softmax: Where the spatial gate has its softmax: over the positions of the ``product``, over
            the ``positions`` of the values before it, or over the ``channels`` of the averaged
            query; by default as the authors' code of the arrangement, ``product`` in parallel and
            ``positions`` in sequence.
        transform: T: a ``linear`` layer, one with a layer ``norm`` behind it, or a ``bottleneck``
            of a quarter of the rows with a layer norm and ReLU inside; by default as the authors'
            code of the arrangement, ``linear`` in parallel and ``bottleneck`` in sequence.
        bias: Give the layers biases, but for :math:`V_s` where it would cancel in the softmax; a
            bottleneck has them anyway.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c *`` (one to three axes of space and time), maps ``b c 1*`` (channel) and ``b 1 *``
        (spatial), y as x.

    Raises:
        ValueError: a size is not positive, the reduction leaves no row for a layer, or a word is
            unknown.

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
            "and a layer norm stands before the channels' sigmoid (softmax='channels', "
            "transform='norm'); the authors' code, and the default here, has neither.",
            "The softmax over the positions of the product, which the authors' parallel code has, "
            "leaves the spatial gate between 0.5 and 0.73, and close to 0.5 everywhere.",
            "Sums over positions are taken before the layers on which they do not depend: the "
            "numbers are those of the equations, for less work.",
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
        hidden = reduced(channels, reduction)
        one_of(("parallel", "sequential"), arrangement=arrangement)
        one_of(("product", "positions", "channels", None), softmax=softmax)
        one_of(("linear", "norm", "bottleneck", None), transform=transform)
        parallel = arrangement == "parallel"
        softmax = softmax or ("product" if parallel else "positions")
        transform = transform or ("linear" if parallel else "bottleneck")
        self.arrangement, self.softmax, self.transform = arrangement, softmax, transform
        factory = {"device": device, "dtype": dtype}
        self.channel_query = nn.Linear(channels, 1, bias, **factory)
        self.channel_value = nn.Linear(channels, hidden, bias, **factory)
        if transform == "bottleneck":
            if hidden < 4:
                raise ValueError(
                    f"channels ({channels}) must be at least 4 * reduction ({reduction}) for a "
                    "bottleneck: nothing would be left"
                )
            self.channel_out = nn.Sequential(
                nn.Linear(hidden, hidden // 4, **factory),
                nn.LayerNorm(hidden // 4, **factory),
                nn.ReLU(),
                nn.Linear(hidden // 4, channels, **factory),
            )
        else:
            self.channel_out = nn.Sequential(
                nn.Linear(hidden, channels, bias, **factory),
                nn.LayerNorm(channels, **factory) if transform == "norm" else nn.Identity(),
            )
        self.spatial_query = nn.Linear(channels, hidden, bias, **factory)
        self.spatial_value = nn.Linear(channels, hidden, bias and softmax == "channels", **factory)

    def channel_gate(self, x: Tensor) -> Tensor:
        z = x.flatten(2)
        scores = _each(self.channel_query.weight, z)  # b 1 n
        if self.channel_query.bias is not None:
            scores = scores + self.channel_query.bias
        # The weights sum to one: the values of the sum are the sum of the values.
        g = (precision.softmax(scores, 2) @ z.mT).squeeze(1)  # b c
        return grid.broadcast_gate(self.channel_out(self.channel_value(g)).sigmoid(), x)

    def spatial_gate(self, x: Tensor) -> Tensor:
        z, values = x.flatten(2), self.spatial_value
        q = self.spatial_query(z.mean(2)).unsqueeze(1)  # b 1 d
        if self.softmax == "positions":
            scores = q @ precision.softmax(_each(values.weight, z), 2)
        else:
            if self.softmax == "channels":
                q = precision.softmax(q, 2)
            scores = (q @ values.weight) @ z  # q (V x) = (q V) x, without the values
            if values.bias is not None:
                scores = scores + q @ values.bias.unsqueeze(1)
            if self.softmax == "product":
                scores = precision.softmax(scores, 2)
        return scores.sigmoid().unflatten(2, x.shape[2:])  # b 1 *

    def attention(self, x: Tensor) -> tuple[Tensor, Tensor]:
        a = self.channel_gate(x)
        return a, self.spatial_gate(x if self.arrangement == "parallel" else x * a)

    def combine(self, a: tuple[Tensor, Tensor], x: Tensor) -> Tensor:
        return x * (a[0] + a[1]) if self.arrangement == "parallel" else x * a[0] * a[1]

    def fused(self, x: Tensor) -> Tensor | None:
        if self.arrangement == "parallel":
            return None
        x = x * self.channel_gate(x)
        return x * self.spatial_gate(x)


def _each(weight: Tensor, z: Tensor) -> Tensor:
    """A product at each position of ``b c n``; as a convolution, channels last would be copied."""
    return weight.expand(z.shape[0], -1, -1) @ z
