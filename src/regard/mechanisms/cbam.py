"""CBAM: one gate per channel, then one gate per position."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn

from ..core import grid
from ..core.attention import Attention, Tap
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import odd, one_of, reduced
from ..core.conv_norm import CONV, NORM

POOLS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda x: x.mean(2),
    "max": lambda x: grid.amax(x, 2),
    "l2": lambda x: torch.linalg.vector_norm(x, dim=2),
    "logsumexp": lambda x: x.logsumexp(2),
}
GATES = ("both", "channel", "spatial")


class CBAM(Attention):
    r"""Scales each channel by a gate, then each position of the result by another gate.

    .. math::
        a^c = \sigma\big(\textstyle\sum_p W_2\,\delta(W_1\, p(x))\big), \quad
        a^s = \sigma\big(\mathrm{BN}(w * [\max_c x'; \tfrac1C\sum_c x'])\big), \quad
        x' = a^c \odot x, \quad y = a^s \odot x'

    where p runs over the average and the maximum of each channel, :math:`\delta` is ReLU and w a
    :math:`7 \times 7` kernel; equations 1 to 3 of the paper.

    In half precision, rounding can change on which side of its step the sigmoid is where scores
    are in the hundreds.

    Args:
        channels: :math:`C`; None for any number, with ``gates="spatial"`` only.
        reduction: :math:`r`; the shared layers have :math:`\lfloor C/r \rfloor` hidden channels.
        kernel_size: Side of the spatial kernel, odd.
        pools: Poolings that feed the channel gate: any of ``mean``, ``max``, ``l2`` (square root of
            the sum of squares) and ``logsumexp``.
        hidden_dim: The hidden channels themselves, instead of ``reduction``.
        bias: Give the channel gate's layers biases.
        spatial_bias: Give the spatial kernel a bias.
        norm: Apply batch norm to the spatial scores.
        planes: Order of the two input channels of the spatial kernel: ``max-mean`` or ``mean-max``.
        gates: Use ``both`` gates, or only the ``channel`` or the ``spatial`` gate.
        residual: Add x to the result, as some other libraries do.
        dims: Axes of space and time: 1, 2 or 3.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c *`` (``dims`` axes of space and time), map ``b c *`` (``b c 1*`` or ``b 1 *`` for
        a single gate), y as x; the parts ``tap_channel`` ``b c 1*`` and ``tap_spatial`` ``b 1 *``.

    Raises:
        ValueError: a size is not positive, the kernel is even, the reduction leaves no hidden
            channel, or a pool, an order, a gate or ``dims`` is unknown.

    >>> CBAM(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = Card(
        title="CBAM",
        paper="CBAM: Convolutional Block Attention Module",
        authors="Sanghyun Woo, Jongchan Park, Joon-Young Lee, In So Kweon",
        venue="ECCV",
        year=2018,
        url="https://arxiv.org/abs/1807.06521",
        code="https://github.com/Jongchan/attention-module",
        license="MIT",
        domain="channel+spatial",
        computes="pool+fc+conv",
        applies="gate",
        kind="gate",
        train_differs=True,
        cost=dict(time="n c + c^2", memory="n c"),
        aliases=("cbam", "convolutional_block_attention"),
        differs=(
            "The authors' code, and the default here, normalizes the spatial scores, has the "
            "maximum before the mean and uses biases in the shared layers; the paper's equations "
            "do none of this (norm=False, planes='mean-max', bias=False).",
        ),
    )
    axes = Axes("b c *", "b c *", parts=dict(channel="b c 1*", spatial="b 1 *"), range="unit")

    def __init__(
        self,
        channels: int | None,
        reduction: int = 16,
        *,
        kernel_size: int = 7,
        pools: Sequence[str] = ("mean", "max"),
        hidden_dim: int | None = None,
        bias: bool = True,
        spatial_bias: bool = False,
        norm: bool = True,
        planes: Literal["max-mean", "mean-max"] = "max-mean",
        gates: Literal["both", "channel", "spatial"] = "both",
        residual: bool = False,
        dims: Literal[1, 2, 3] = 2,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(**({} if channels is None else {"c": channels}))
        odd(kernel_size=kernel_size)
        one_of(("max-mean", "mean-max"), planes=planes)
        one_of(GATES, gates=gates)
        one_of((1, 2, 3), dims=dims)
        if isinstance(pools, str) or not pools:
            raise ValueError(f"pools must be a sequence of names, got {pools!r}")
        for pool in pools:
            one_of(tuple(POOLS), pools=pool)
        self.pools, self.planes = tuple(pools), planes
        self.gates, self.residual = gates, residual
        factory = {"device": device, "dtype": dtype}
        if gates != "spatial":
            if channels is None:
                raise ValueError(f"channels must be given for gates={gates!r}")
            hidden_dim = reduced(channels, reduction, hidden_dim)
            self.squeeze = nn.Linear(channels, hidden_dim, bias, **factory)
            self.excite = nn.Linear(hidden_dim, channels, bias, **factory)
            self.tap_channel = Tap()
        if gates != "channel":
            options = {"padding": kernel_size // 2, "bias": spatial_bias}
            self.look = CONV[dims](2, 1, kernel_size, **options, **factory)
            self.norm = NORM[dims](1, momentum=0.01, **factory) if norm else nn.Identity()
            self.tap_spatial = Tap()
        self.axes = self.axes.over(dims)
        if gates != "both":
            alone = self.axes.parts[gates]
            self.axes = replace(self.axes, map=alone, parts={gates: alone})

    def attention(self, x: Tensor) -> Tensor:
        if self.gates == "channel":
            return self.channel_gate(x)
        if self.gates == "spatial":
            return self.spatial_gate(x)
        a = self.channel_gate(x)
        return a * self.spatial_gate(x * a)

    def combine(self, a: Tensor, x: Tensor) -> Tensor:
        return self.apply_gate(x, a, x)

    def fused(self, x: Tensor) -> Tensor:
        if self.gates != "both":
            return self.apply_gate(x, self.attention(x), x)
        z = x * self.channel_gate(x)
        return self.apply_gate(z, self.spatial_gate(z), x)

    def channel_gate(self, x: Tensor) -> Tensor:
        z = torch.stack([POOLS[name](x.flatten(2)) for name in self.pools])  # p b c
        a = self.excite(self.squeeze(z).relu()).sum(0).sigmoid()
        return self.tap_channel(grid.broadcast_gate(a, x))

    def spatial_gate(self, x: Tensor) -> Tensor:
        planes = [grid.amax(x, 1, keepdim=True), x.mean(1, keepdim=True)]
        z = torch.cat(planes if self.planes == "max-mean" else planes[::-1], 1)  # b 2 *
        return self.tap_spatial(self.norm(self.look(z)).sigmoid())

    def apply_gate(self, z: Tensor, a: Tensor, x: Tensor) -> Tensor:
        """Scale z by the gate a; add x if ``residual``."""
        return torch.addcmul(x, z, a) if self.residual else z * a
