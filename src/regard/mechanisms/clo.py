"""Clo attention: gates from depthwise convolutions near by, attention to averages far away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from ..core import grid, pairwise, tokens
from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import divides, odd, positive

Triple = tuple[Tensor, Tensor, Tensor]  # q, k and v


class Prepared(NamedTuple):
    """What map and output are computed from."""

    x: Tensor
    high: list[Triple]  # of each group, b c h w
    low: Triple | None  # b heads n d and b heads m d


class Clo(Attention):
    r"""Splits the heads: some gate their values from near q and k, the others attend to averages.

    .. math::
        y = P\, [z_1; \dots; z_G; z_l], \quad
        z_g = \tanh\big(B_g\, \mathrm{swish}(A_g (q \odot k)) / \sqrt d\big) \odot v, \quad
        [q; k; v] = D_g * W_g x

    .. math::
        z_l = \operatorname{softmax}\big(q_l k_l^\top / \sqrt d\big)\, v_l, \quad
        q_l = W_q x, \quad [k_l; v_l] = W_{kv}\, \bar x

    where each group g has a depthwise kernel :math:`D_g` of its own size and pointwise layers
    :math:`A_g, B_g`, d is the width of a head, and :math:`\bar x` averages x over windows;
    section 3 of the paper.

    In half precision, rounding can change on which side of their steps tanh and softmax are where
    scores are in the hundreds.

    Args:
        channels: :math:`C`.
        group_heads: Heads of each group, and last, those that attend to averages, which may be 0.
        kernel_sizes: Side of each group's kernel, odd.
        window_size: Side of the windows; incomplete ones are left out, and an image below it is one
            window.
        bias: Give W and P a bias.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, maps ``b c h w`` for the channels of each group, between -1 and 1, and
        ``b heads n m``, softmax over the m windows; y as x.

    Raises:
        ValueError: a size is not positive, a kernel is even, there is not one kernel for each
            group, or the heads do not divide the channels.

    >>> Clo(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = Card(
        title="Clo Attention",
        paper="Rethinking Local Perception in Lightweight Vision Transformer",
        authors="Qihang Fan, Huaibo Huang, Jiyang Guan, Ran He",
        venue="arXiv",
        year=2023,
        url="https://arxiv.org/abs/2303.17803",
        code="https://github.com/qhfan/CloFormer",
        license="MIT",
        domain="channel+spatial",
        computes="conv+matmul",
        applies="gate",
        kind="relation",
        cost=dict(time="n^2 c", memory="n c"),
        aliases=("cloformer", "clo_attention", "cloattention", "attnconv", "efficientattention"),
        differs=(
            "The authors' code fails where the windows do not fill the image; here, incomplete "
            "ones are left out.",
        ),
    )
    axes = Axes("b c h w", "high0: b d h w, low: b heads n m")

    def __init__(
        self,
        channels: int,
        *,
        group_heads: Sequence[int] = (4, 4),
        kernel_sizes: Sequence[int] = (3,),
        window_size: int = 7,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=channels)
        positive(channels=channels, window_size=window_size)
        for kernel in kernel_sizes:
            odd(kernel_sizes=kernel)
        if len(group_heads) != len(kernel_sizes) + 1:
            raise ValueError(
                f"group_heads must be {len(kernel_sizes) + 1} numbers, one for each of "
                f"kernel_sizes and the last, got {tuple(group_heads)}"
            )
        *high, low = group_heads
        for heads in (*high, low or 1):
            positive(group_heads=heads)
        divides(channels=channels, group_heads=sum(group_heads))
        d = channels // sum(group_heads)
        self.low_heads, self.window_size, self.scale = low, window_size, d**-0.5
        names = [f"high{i}: b d{i or ''} h w" for i in range(len(high))]
        names += ["low: b heads n m"] if low else []
        self.axes = replace(self.axes, map=", ".join(names))
        factory = {"device": device, "dtype": dtype}

        def pointwise(before: int, after: int, *, bias: bool = True) -> nn.Conv2d:
            return nn.Conv2d(before, after, 1, bias=bias, **factory)

        self.qkv = nn.ModuleList(pointwise(channels, 3 * h * d, bias=bias) for h in high)
        self.near = nn.ModuleList(
            nn.Conv2d(3 * h * d, 3 * h * d, k, padding=k // 2, groups=3 * h * d, **factory)
            for h, k in zip(high, kernel_sizes, strict=True)
        )
        self.first = nn.ModuleList(pointwise(h * d, h * d) for h in high)
        self.last = nn.ModuleList(pointwise(h * d, h * d) for h in high)
        self.query = pointwise(channels, low * d, bias=bias) if low else None
        self.key_value = pointwise(channels, 2 * low * d, bias=bias) if low else None
        self.project = pointwise(channels, channels, bias=bias)

    def prepare(self, x: Tensor) -> Prepared:
        high = []
        for near, qkv in zip(self.near, self.qkv, strict=True):
            q, k, v = near(qkv(x)).chunk(3, 1)
            high.append((q, k, v))
        if self.query is None or self.key_value is None:
            return Prepared(x, high, None)
        averages = grid.avg_pool(x, self.window_size) if self.window_size > 1 else x
        k, v = self.key_value(averages).flatten(2).chunk(2, 1)
        q, k, v = (
            rows.unflatten(1, (self.low_heads, -1)).transpose(2, 3)
            for rows in (self.query(x).flatten(2), k, v)
        )
        return Prepared(x, high, (q, k, v))

    def attention(self, z: Prepared) -> tuple[Tensor, ...]:
        gates = self._gates(z)
        if z.low is not None:
            q, k, _ = z.low
            gates.append(pairwise.attention_weights(q, k, scale=self.scale))
        return tuple(gates)

    def combine(self, a: tuple[Tensor, ...], z: Prepared) -> Tensor:
        return self._merged(a, z, None if z.low is None else a[-1] @ z.low[2])

    def fused(self, z: Prepared) -> Tensor:
        low = None if z.low is None else pairwise.scaled_dot_product(*z.low, scale=self.scale)
        return self._merged(self._gates(z), z, low)

    def _gates(self, z: Prepared) -> list[Tensor]:
        layers = zip(z.high, self.first, self.last, strict=True)
        return [(last(silu(first(q * k))) * self.scale).tanh() for (q, k, _), first, last in layers]

    def _merged(self, gates: Sequence[Tensor], z: Prepared, low: Tensor | None) -> Tensor:
        """Concatenate the groups, and mix their channels."""
        parts = [gate * v for gate, (_, _, v) in zip(gates, z.high, strict=False)]
        if low is not None:  # b heads n d
            parts.append(tokens.heads_to_grid(low, z.x))
        return self.project(torch.cat(parts, 1))
