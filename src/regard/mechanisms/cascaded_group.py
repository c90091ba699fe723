"""Cascaded group attention: each head reads a part of the channels and the head before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..core import pairwise, tokens, windows
from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import divides, odd, positive
from ..core.conv_norm import conv_norm
from ..core.tracing import leaf
from ..core.uncounted import uncounted

Prepared = tuple[Tensor, Tensor]  # x; the heads' channels of its windows, (b g) heads c h w


class CascadedGroup(Attention):
    r"""Applies attention head by head, each to its channels and the output of the head before.

    .. math::
        y = \operatorname{BN}\big(W_o \operatorname{ReLU}([y_1; \dots; y_H])\big), \quad
        y_h = \operatorname{softmax}\big(e^{-1/2}\, Q_h K_h^\top + B_h\big) V_h, \quad
        [Q_h, K_h, V_h] = \operatorname{BN}\big(W_h (x_h + y_{h-1})\big)

    within windows, where the queries of a head also pass a depthwise convolution with batch norm,
    :math:`x_h` are C/H channels, a head has e channels of queries and keys, and the biases B are
    learned for each distance along the two axes; equations 2 and 3 of the paper. The image is
    padded with zeros, which are attended to as well, after its last row and column to whole
    windows.

    In half precision, rounding can change which entry the softmax selects where scores are in
    the hundreds.

    Args:
        channels: :math:`C`.
        num_heads: :math:`H`.
        key_dim: :math:`e`.
        window_size: Side of a window.
        kernel_sizes: Sides of the convolutions of the heads' queries, odd; 5 for each by default.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, a map ``b g q k`` for each head, for g windows row by row, with q queries and
        k keys in each, y as x.

    Raises:
        ValueError: a size is not positive, ``num_heads`` does not divide the channels, a kernel is
            even, or there are not as many kernels as heads.

    >>> CascadedGroup(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = Card(
        title="Cascaded group attention",
        paper="EfficientViT: Memory Efficient Vision Transformer with Cascaded Group Attention",
        authors="Xinyu Liu, Houwen Peng, Ningxin Zheng, Yuqing Yang, Han Hu, Yixuan Yuan",
        venue="CVPR",
        year=2023,
        url="https://arxiv.org/abs/2305.07027",
        code="https://github.com/microsoft/Cream",
        license="MIT",
        domain="spatial",
        computes="conv+matmul",
        applies="matmul",
        kind="relation",
        train_differs=True,
        cost=dict(time="n k c + n c^2", memory="n k + n c"),
        aliases=(
            "cga",
            "efficientvit_msra",
            "efficientvit",
            "local_window_attention",
            "localwindowattention",
        ),
        differs=(
            "The convolution of the queries is in the paper's text and in the authors' code, not "
            "in its equations.",
            "In evaluation, the authors' code reads biases that it copied when training ended.",
        ),
    )
    axes = Axes("b c h w", "b g q k, b g q k, b g q k, b g q k", range="softmax")

    def __init__(
        self,
        channels: int,
        num_heads: int = 4,
        *,
        key_dim: int = 16,
        window_size: int = 7,
        kernel_sizes: Sequence[int] | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        divides(channels=channels, num_heads=num_heads)
        super().__init__(c=channels)
        positive(key_dim=key_dim, window_size=window_size)
        kernels = (5,) * num_heads if kernel_sizes is None else tuple(kernel_sizes)
        for side in kernels:
            odd(kernel_sizes=side)
        if len(kernels) != num_heads:
            raise ValueError(f"kernel_sizes must have num_heads ({num_heads}) sizes, got {kernels}")
        self.axes = replace(self.axes, map=", ".join(["b g q k"] * num_heads))
        self.num_heads, self.window_size = num_heads, (window_size, window_size)
        value_dim = channels // num_heads
        self.sizes = [key_dim, key_dim, value_dim]
        self.scale = key_dim**-0.5
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self.qkv = nn.ModuleList(
            conv_norm(value_dim, sum(self.sizes), **factory) for _ in range(num_heads)
        )
        self.mix = nn.ModuleList(
            conv_norm(key_dim, key_dim, side, groups=key_dim, **factory) for side in kernels
        )
        self.positions = nn.Parameter(torch.empty(num_heads, window_size**2, **factory))
        self.out = conv_norm(channels, channels, **factory)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the convolutions with a small spread; the last norm and the biases start at zero."""
        super().reset_parameters()
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.trunc_normal_(layer.weight, std=0.02)
        nn.init.zeros_(self.out[1].weight)  # type: ignore[arg-type]  # it is a batch norm
        nn.init.zeros_(self.positions)

    def prepare(self, x: Tensor) -> Prepared:
        return x, _windows(x, self.window_size).unflatten(1, (self.num_heads, -1))

    def attention(self, z: Prepared) -> tuple[Tensor, ...]:
        x, parts = z
        maps, y = [], None
        for i in range(self.num_heads):
            part = parts[:, i]
            # The norm of the projections counts the batch in `combine`, and must not do so twice.
            q, k, v = self.heads(uncounted(self.qkv[i], part if y is None else part + y))
            q = tokens.to_tokens(self.mix[i](q))
            bias = self.bias(i)
            maps.append(
                pairwise.attention_weights(q, tokens.to_tokens(k), scale=self.scale, mask=bias)
            )
            y = _grid(maps[-1] @ tokens.to_tokens(v), part)
        return tuple(_by_window(a, x, self.window_size) for a in maps)

    def combine(self, a: tuple[Tensor, ...], z: Prepared) -> Tensor:
        x, parts = z
        y, heads = None, []
        for i in range(self.num_heads):
            part = parts[:, i]
            *_, v = self.heads(self.qkv[i](part if y is None else part + y))
            y = _grid(a[i].flatten(0, 1) @ tokens.to_tokens(v), part)
            heads.append(y)
        return self.join(heads, x)

    def fused(self, z: Prepared) -> Tensor:
        x, parts = z
        y, heads = None, []
        for i in range(self.num_heads):
            part = parts[:, i]
            q, k, v = self.heads(self.qkv[i](part if y is None else part + y))
            q, k, v = (tokens.to_tokens(t).unsqueeze(1) for t in (self.mix[i](q), k, v))
            bias = self.bias(i)[None, None]
            y = pairwise.scaled_dot_product(q, k, v, scale=self.scale, mask=bias)
            y = _grid(y.squeeze(1), part)
            heads.append(y)
        return self.join(heads, x)

    def heads(self, qkv: Tensor) -> tuple[Tensor, ...]:
        """Split the projections of a head."""
        return qkv.split(self.sizes, 1)

    def bias(self, i: int) -> Tensor:
        """Return the biases ``n n`` of a head."""
        return self.positions[i][_distances(self.window_size[0], self.positions.device)]

    def join(self, heads: list[Tensor], x: Tensor) -> Tensor:
        """Project the heads, and put the windows together."""
        return _merged(self.out(torch.cat(heads, 1).relu()), x, self.window_size)


def _distances(side: int, device: torch.device) -> Tensor:
    """Return the row of the table for the distances along both axes, ``n n``."""
    place = torch.arange(side, device=device)
    distance = (place[:, None] - place).abs()
    index = distance[:, None, :, None] * side + distance[None, :, None]
    return index.flatten(2).flatten(0, 1)


@leaf
def _windows(x: Tensor, size: Sequence[int]) -> Tensor:
    y = windows.partition(x, size).flatten(0, 1)  # (b g) n c
    return y.transpose(1, 2).unflatten(2, tuple(size)).contiguous()


@leaf
def _merged(y: Tensor, x: Tensor, size: Sequence[int]) -> Tensor:
    return windows.merge(_by_window(y.flatten(2).transpose(1, 2), x, size), x, size)


@leaf
def _by_window(a: Tensor, x: Tensor, size: Sequence[int]) -> Tensor:
    """Return ``(b g) …`` as ``b g …``."""
    rows, columns = windows.counts(x, size)
    return a.unflatten(0, (-1, rows * columns))


@leaf
def _grid(y: Tensor, x: Tensor) -> Tensor:
    return y.transpose(-2, -1).unflatten(2, x.shape[2:])
