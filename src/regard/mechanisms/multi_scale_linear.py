"""Multi-scale linear attention: ReLU features of queries and keys, at several scales."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..core import linear, tokens
from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import above_zero, odd, one_of, positive
from ..core.conv_norm import CONV, conv_norm

Prepared = tuple[Tensor, Tensor, Tensor, Tensor]  # x, and q, k, v: b heads n d each


class MultiScaleLinear(Attention):
    r"""Weighs the values of all positions by products of ReLU features, at several scales.

    .. math::
        y = \operatorname{BN}\big(W_o [y_1; \dots; y_H]\big), \quad
        y_h = \frac{\operatorname{ReLU}(Q_h)\,\big(\operatorname{ReLU}(K_h)^\top V_h\big)}
        {\operatorname{ReLU}(Q_h) \sum_m \operatorname{ReLU}(K_{hm}) + \epsilon}

    where Q, K and V are linear in x, and those of further heads are computed from them by a
    depthwise convolution and a linear layer within each of Q, K and V of a head, for each kernel
    size; equations 2 and 3 and figure 2 of the paper.

    The fewer channels a head has, the more likely is a query with features that are all zero; in
    half precision, rounding can change whether they are.

    Args:
        channels: :math:`C`.
        out_channels: Channels of the output; ``channels`` by default.
        head_dim: Channels of a head.
        num_heads: Heads at each scale; ``channels // head_dim`` by default.
        kernel_sizes: Sides of the depthwise convolutions, odd, one for each further scale.
        bias: Give the projections and the convolutions biases.
        out_bias: Give the output projection a bias.
        norm: Apply batch norm to queries, keys and values.
        out_norm: Apply batch norm to the output.
        eps: :math:`\epsilon`.
        dims: Axes of space and time: 1, 2 or 3.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c *`` (``dims`` axes of space and time), map ``b heads n m`` of all scales, y as x, or
        with ``out_channels``.

    Raises:
        ValueError: a size is not positive, a kernel is even, no head is left, or ``dims`` is
            unknown.

    >>> MultiScaleLinear(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = Card(
        title="Multi-scale linear attention",
        paper=(
            "EfficientViT: Lightweight Multi-Scale Attention for High-Resolution Dense Prediction"
        ),
        authors="Han Cai, Junyan Li, Muyan Hu, Chuang Gan, Song Han",
        venue="ICCV",
        year=2023,
        url="https://arxiv.org/abs/2205.14756",
        code="https://github.com/mit-han-lab/efficientvit",
        license="Apache-2.0",
        domain="spatial",
        computes="conv+matmul",
        applies="matmul",
        kind="relation",
        train_differs=True,
        cost=dict(time="n c^2", memory="n c"),
        aliases=("relu_linear", "litemla", "lite_mla", "efficientvit_mit", "efficientvit"),
        differs=(
            "Where there are no more positions than channels of a head, the authors' code builds "
            "the map; the output is the same up to eps.",
        ),
    )
    axes = Axes("b c *", "b heads n m", range="unit")

    def __init__(
        self,
        channels: int,
        out_channels: int | None = None,
        *,
        head_dim: int = 8,
        num_heads: int | None = None,
        kernel_sizes: Sequence[int] = (5,),
        bias: bool = False,
        out_bias: bool = False,
        norm: bool = False,
        out_norm: bool = True,
        eps: float = 1e-15,
        dims: Literal[1, 2, 3] = 2,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        positive(channels=channels, head_dim=head_dim)
        if num_heads is None and head_dim > channels:
            raise ValueError(f"head_dim ({head_dim}) must not be larger than channels ({channels})")
        num_heads = channels // head_dim if num_heads is None else num_heads
        out_channels = channels if out_channels is None else out_channels
        positive(num_heads=num_heads, out_channels=out_channels)
        for kernel_size in kernel_sizes:
            odd(kernel_sizes=kernel_size)
        above_zero(eps=eps)
        one_of((1, 2, 3), dims=dims)
        heads = num_heads * (1 + len(kernel_sizes))
        super().__init__(c=channels, heads=heads)
        self.axes = self.axes.over(dims)
        if out_channels != channels:
            self.axes = replace(self.axes, output=self.axes.output.replace("c", "o"))
        self.head_dim, self.eps = head_dim, eps
        width = 3 * num_heads * head_dim
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self.qkv = conv_norm(channels, width, dims=dims, bias=bias, norm=norm, **factory)
        self.scales = nn.ModuleList(
            nn.Sequential(
                CONV[dims](
                    width, width, side, padding=side // 2, groups=width, bias=bias, **factory
                ),
                CONV[dims](width, width, 1, groups=3 * num_heads, bias=bias, **factory),
            )
            for side in kernel_sizes
        )
        self.out = conv_norm(
            heads * head_dim, out_channels, dims=dims, bias=out_bias, norm=out_norm, **factory
        )

    def prepare(self, x: Tensor) -> Prepared:
        qkv = self.qkv(x)
        qkv = torch.cat([qkv, *(scale(qkv) for scale in self.scales)], 1).flatten(2)
        q, k, v = qkv.unflatten(1, (-1, 3, self.head_dim)).transpose(-2, -1).unbind(2)
        return x, q.relu(), k.relu(), v

    def attention(self, z: Prepared) -> Tensor:
        _, q, k, _ = z
        return linear.weights(q, k, self.eps)

    def combine(self, a: Tensor, z: Prepared) -> Tensor:
        x, _, _, v = z
        return self.out(tokens.heads_to_grid(a @ v, x))

    def fused(self, z: Prepared) -> Tensor:
        x, q, k, v = z
        return self.out(tokens.heads_to_grid(linear.weighted_sum(q, k, v, self.eps), x))
