"""Inverted residual mobile block: expanded values, mixed by attention and by a convolution."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from ..core import grid, pairwise, tokens, windows
from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import divides, odd, positive
from ..core.conv_norm import conv_norm
from ..core.tracing import leaf

Prepared = tuple[Tensor, Tensor, Tensor, Tensor]  # x, and q, k, v: b g heads n d each

EPS = 1e-6  # of the batch norms


class InvertedResidualMobile(Attention):
    r"""Applies attention within groups of distant positions to expanded values, and a convolution.

    .. math::
        y = x + W_o (z + \operatorname{SE}(\delta(\operatorname{BN}(\operatorname{DWConv}(z))))),
        \quad z_h = \operatorname{softmax}\big(d^{-1/2}\, Q_h K_h^\top\big) V_h, \quad
        V = \operatorname{ReLU}(W_v u), \quad u = \operatorname{BN}(x)

    where Q and K are linear in u, V has :math:`\lambda C` channels and :math:`\delta` is SiLU;
    equations 3 to 5 and figure 3 of the paper. A group has P x P positions at equal distances over
    the whole image, which is padded with zeros, which are attended to as well, after its last row
    and column. The convolution and the block have residuals only if the block keeps the size.

    In half precision, rounding can change which entry the softmax selects where scores are in
    the hundreds.

    Args:
        channels: :math:`C`.
        out_channels: Channels of y; ``channels`` by default.
        head_dim: :math:`d`, channels of a head's queries and keys.
        expansion: :math:`\lambda`.
        window_size: :math:`P`; None for attention of the whole image.
        kernel_size: Side of the depthwise convolution, odd.
        stride: Its stride.
        se_ratio: Hidden channels of a squeeze-and-excitation SE, as a part of the expanded ones; 0
            for none.
        bias: Give the projections of queries, keys and values biases.
        group_values: Compute the values of a head from as many of the channels only.
        mix_first: Apply the attention before :math:`W_v` and its ReLU.
        norm: Apply batch norm to x.
        residual: Have residuals where the block keeps the size.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, map ``b g heads q k`` for g groups in the order of their first position, with
        q queries and k keys in each, y as x, or with ``out_channels``, and with height and width
        divided by the stride.

    Raises:
        ValueError: a size is not positive, ``head_dim`` does not divide the channels, the heads do
            not divide the expanded ones, the kernel is even, or ``se_ratio`` is negative.

    >>> InvertedResidualMobile(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = Card(
        title="Inverted residual mobile block",
        paper="Rethinking Mobile Block for Efficient Attention-based Models",
        authors=(
            "Jiangning Zhang, Xiangtai Li, Jian Li, Liang Liu, Zhucun Xue, Boshen Zhang, Zhengkai "
            "Jiang, Tianxin Huang, Yabiao Wang, Chengjie Wang"
        ),
        venue="ICCV",
        year=2023,
        url="https://arxiv.org/abs/2301.01146",
        code="https://github.com/zhangzjn/EMO",
        license="none stated",
        domain="spatial",
        computes="conv+matmul",
        applies="matmul",
        kind="relation",
        train_differs=True,
        cost=dict(time="n k c + n c^2", memory="n k + n c"),
        aliases=("irmb", "emo", "inverted_residual_attention"),
        differs=(
            "The paper speaks of windows; the positions that attend to each other in the authors' "
            "code, and here, are spread over the whole image.",
        ),
    )
    axes = Axes("b c h w", "b g heads q k", range="softmax")

    def __init__(
        self,
        channels: int,
        out_channels: int | None = None,
        *,
        head_dim: int = 16,
        expansion: float = 2.0,
        window_size: int | None = 7,
        kernel_size: int = 3,
        stride: int = 1,
        se_ratio: float = 0.0,
        bias: bool = False,
        group_values: bool = False,
        mix_first: bool = False,
        norm: bool = True,
        residual: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        divides(channels=channels, head_dim=head_dim)
        out_channels = channels if out_channels is None else out_channels
        positive(out_channels=out_channels, stride=stride)
        odd(kernel_size=kernel_size)
        if window_size is not None:
            positive(window_size=window_size)
        if se_ratio < 0:
            raise ValueError(f"se_ratio must be 0 or more, got {se_ratio}")
        heads, width = channels // head_dim, int(channels * expansion)
        if width < 1 or width % heads:
            raise ValueError(
                f"expansion must give {heads} heads equal channels, got {expansion} of {channels}"
            )
        super().__init__(c=channels, heads=heads)
        self.heads, self.scale, self.mix_first = heads, head_dim**-0.5, mix_first
        self.window_size = None if window_size is None else (window_size, window_size)
        self.residual = residual and stride == 1 and channels == out_channels
        same = "b c" if channels == out_channels else "b o"
        self.axes = replace(self.axes, output=f"{same} {'h w' if stride == 1 else 'y x'}")
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self.norm = nn.BatchNorm2d(channels, EPS, **factory) if norm else nn.Identity()
        self.qk = nn.Conv2d(channels, 2 * channels, 1, bias=bias, **factory)
        groups = heads if group_values else 1
        self.value = nn.Conv2d(channels, width, 1, groups=groups, bias=bias, **factory)
        self.local = conv_norm(width, width, kernel_size, stride=stride, groups=width, **factory)
        self.local[1].eps = EPS  # type: ignore[assignment]  # it is a batch norm
        self.squeeze = self.excite = None
        if hidden_dim := round(width * se_ratio):
            self.squeeze = nn.Conv2d(width, hidden_dim, 1, **factory)
            self.excite = nn.Conv2d(hidden_dim, width, 1, **factory)
        self.out = nn.Conv2d(width, out_channels, 1, bias=False, **factory)

    def prepare(self, x: Tensor) -> Prepared:
        u = self.norm(x)
        u = u if self.window_size is None else windows.filled(u, self.window_size)
        q, k = self.qk(u).chunk(2, 1)
        v = u if self.mix_first else self.value(u).relu()
        q, k, v = (_groups(t, self.window_size, self.heads) for t in (q, k, v))
        return x, q, k, v

    def attention(self, z: Prepared) -> Tensor:
        _, q, k, _ = z
        return pairwise.attention_weights(q, k, scale=self.scale)

    def combine(self, a: Tensor, z: Prepared) -> Tensor:
        *_, v = z
        return self.join(a @ v, z)

    def fused(self, z: Prepared) -> Tensor:
        _, q, k, v = z
        return self.join(windows.scaled_dot_product(q, k, v, scale=self.scale), z)

    def join(self, y: Tensor, z: Prepared) -> Tensor:
        """Put the groups ``b g heads n d`` together, and run the convolutions."""
        x = z[0]
        y = _merged(y, x, self.window_size)
        y = self.value(y).relu() if self.mix_first else y
        local = silu(self.local(y))
        if self.squeeze is not None and self.excite is not None:
            gate = self.excite(self.squeeze(grid.broadcast_gate(grid.mean(local), local)).relu())
            local = local * gate.sigmoid()
        if not self.residual:
            return self.out(local)
        return x + self.out(y + local)


@leaf
def _groups(x: Tensor, size: tuple[int, int] | None, heads: int) -> Tensor:
    """Divide a grid into groups and heads, ``b g heads n d``."""
    if size is None:
        return x.flatten(2).unflatten(1, (1, heads, -1)).transpose(-2, -1)
    y = windows.partition(x, size, strided=True)
    return y.unflatten(3, (heads, -1)).transpose(2, 3)


@leaf
def _merged(y: Tensor, x: Tensor, size: tuple[int, int] | None) -> Tensor:
    y = y.transpose(2, 3).flatten(3)  # b g n c
    if size is not None:
        return windows.merge(y, x, size, strided=True)
    return tokens.to_grid(y.squeeze(1), x)
