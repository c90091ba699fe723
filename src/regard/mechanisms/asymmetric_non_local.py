"""Asymmetric non-local blocks: every position attends to a few averages over a pyramid of bins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..core import grid, pairwise, tokens
from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import positive, probability
from ..core.contracts import PairAttention
from ..core.conv_norm import conv_norm

Prepared = tuple[Tensor, Tensor, Tensor, Tensor]  # x b c h w; q b n d, k b m d, v b m e


class _ToBins:
    """Attention from positions to bins, and what follows it, for one input or two."""

    scale: float
    out: nn.Conv2d
    fuse: nn.Module
    drop: nn.Module

    def attention(self, z: Prepared) -> Tensor:
        _, q, k, _ = z
        return pairwise.attention_weights(q, k, scale=self.scale)

    def combine(self, a: Tensor, z: Prepared) -> Tensor:
        x, _, _, v = z
        return self.fused_with(x, a @ v)

    def fused(self, z: Prepared) -> Tensor:
        x, q, k, v = z
        return self.fused_with(x, pairwise.scaled_dot_product(q, k, v, scale=self.scale))

    def fused_with(self, x: Tensor, y: Tensor) -> Tensor:
        """Project the sums ``b n e``, and join them with x."""
        context = self.out(tokens.to_grid(y, x))
        return self.drop(self.fuse(torch.cat([context, x], 1)))


class AsymmetricNonLocal(_ToBins, Attention):
    r"""Lets each position attend to averages over grids of bins, and fuses the result with x.

    .. math::
        y = \delta\big(\mathrm{BN}(W' [W A v_S; x])\big), \quad
        A = \operatorname{softmax}(K^{-1/2} q\, k_S^\top), \quad
        q = k = \delta(\mathrm{BN}(W_k x))

    where :math:`k_S` and :math:`v_S` are the averages of keys and values :math:`v = W_v x` over
    grids of bins and :math:`\delta` is ReLU; section 3.2 of the paper, APNB.

    In half precision, rounding can change which entry the softmax selects where scores are in
    the hundreds.

    Args:
        channels: :math:`C`.
        out_channels: Channels of y; those of x by default.
        key_channels: :math:`K`, of queries and keys; half of those of x by default.
        value_channels: Channels of the values; half of those of x by default.
        sizes: Sides of the grids of bins.
        dropout: Dropout rate of whole channels of the output.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, map ``b n m`` for n positions and m bins, y ``b o h w``.

    Raises:
        ValueError: a size is not positive, there is no grid, or the dropout is not a rate.

    >>> AsymmetricNonLocal(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = Card(
        title="Asymmetric non-local block",
        paper="Asymmetric Non-local Neural Networks for Semantic Segmentation",
        authors="Zhen Zhu, Mengde Xu, Song Bai, Tengteng Huang, Xiang Bai",
        venue="ICCV",
        year=2019,
        url="https://arxiv.org/abs/1908.07678",
        code="https://github.com/MendelXu/ANN",
        license="Apache-2.0",
        domain="spatial",
        computes="conv+pool+matmul",
        applies="matmul",
        kind="relation",
        train_differs=True,
        cost=dict(time="n m c + n c^2", memory="n m + n c"),
        aliases=("ann", "annn", "apnb", "afnb", "asymmetric_pyramid_non_local"),
        differs=(
            "As in the authors' code, all convolutions have biases, also before a batch norm, and "
            "the bins are averages of keys and values, not of the features.",
        ),
    )
    axes = Axes("b c h w", "b n m", output="b o h w", range="softmax")

    def __init__(
        self,
        channels: int,
        out_channels: int | None = None,
        key_channels: int | None = None,
        value_channels: int | None = None,
        *,
        sizes: Sequence[int] = (1, 3, 6, 8),
        dropout: float = 0.05,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=channels)
        positive(channels=channels)
        out_channels = channels if out_channels is None else out_channels
        key_channels, value_channels = _widths(channels, key_channels, value_channels)
        positive(out_channels=out_channels)
        self.sizes = _checked(sizes)
        self.scale = key_channels**-0.5
        if out_channels == channels:
            self.axes = replace(self.axes, output="b c h w")
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        relu = {"bias": True, "activation": nn.ReLU(), **factory}
        self.key = conv_norm(channels, key_channels, **relu)
        self.value = nn.Conv2d(channels, value_channels, 1, **factory)
        self.out = nn.Conv2d(value_channels, out_channels, 1, **factory)
        self.fuse = conv_norm(out_channels + channels, out_channels, **relu)
        probability(dropout=dropout)
        self.drop = nn.Dropout2d(dropout)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new parameters; the context starts at zero."""
        super().reset_parameters()
        _zero(self.out)

    def prepare(self, x: Tensor) -> Prepared:
        k, v = self.key(x), self.value(x)
        return x, k.flatten(2).transpose(1, 2), _bins(k, self.sizes), _bins(v, self.sizes)


class AsymmetricFusion(_ToBins, PairAttention):
    r"""Lets each position of x attend to averages of the guide over grids of bins, and fuses both.

    .. math::
        y = \mathrm{BN}(W' [W A v_S; x]), \quad
        A = \operatorname{softmax}(K^{-1/2} q\, k_S^\top), \quad
        q = \delta(\mathrm{BN}(W_q x))

    where :math:`k_S` and :math:`v_S` are the averages of keys :math:`\delta(\mathrm{BN}(W_k g))`
    and values :math:`W_v g` of the guide over grids of bins, and :math:`\delta` is ReLU; section
    3.3 of the paper, AFNB.

    In half precision, rounding can change which entry the softmax selects where scores are in
    the hundreds.

    Args:
        channels: Channels of x, the feature of a higher level.
        guide_channels: Channels of the guide, of a lower level; those of x by default.
        out_channels: Channels of y; those of x by default.
        key_channels: :math:`K`, of queries and keys; half of those of x by default.
        value_channels: Channels of the values; half of those of x by default.
        sizes: Sides of the grids of bins.
        dropout: Dropout rate of whole channels of the output.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, guide ``b g i j`` of any size, map ``b n m`` for n positions and m bins,
        y ``b o h w``.

    Raises:
        ValueError: a size is not positive, there is no grid, or the dropout is not a rate.

    >>> AsymmetricFusion(64, 32)(torch.randn(2, 64, 9, 7), torch.randn(2, 32, 18, 14)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = replace(
        AsymmetricNonLocal.card, kind="pair", equivariant=("pixels",), independent=("pixels",)
    )
    axes = Axes("x: b c h w, guide: b g i j", "b n m", output="b o h w", range="softmax")

    def __init__(
        self,
        channels: int,
        guide_channels: int | None = None,
        out_channels: int | None = None,
        key_channels: int | None = None,
        value_channels: int | None = None,
        *,
        sizes: Sequence[int] = (1, 3, 6, 8),
        dropout: float = 0.05,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        positive(channels=channels)
        guide_channels = channels if guide_channels is None else guide_channels
        super().__init__(c=channels, g=guide_channels)
        out_channels = channels if out_channels is None else out_channels
        key_channels, value_channels = _widths(channels, key_channels, value_channels)
        positive(guide_channels=guide_channels, out_channels=out_channels)
        self.sizes = _checked(sizes)
        self.scale = key_channels**-0.5
        if out_channels == channels:
            self.axes = replace(self.axes, output="b c h w")
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        relu = {"bias": True, "activation": nn.ReLU(), **factory}
        self.query = conv_norm(channels, key_channels, **relu)
        self.key = conv_norm(guide_channels, key_channels, **relu)
        self.value = nn.Conv2d(guide_channels, value_channels, 1, **factory)
        self.out = nn.Conv2d(value_channels, out_channels, 1, **factory)
        self.fuse = conv_norm(out_channels + channels, out_channels, bias=True, **factory)
        probability(dropout=dropout)
        self.drop = nn.Dropout2d(dropout)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new parameters; the context starts at zero."""
        super().reset_parameters()
        _zero(self.out)

    def prepare(self, x: Tensor, guide: Tensor) -> Prepared:
        q, k, v = self.query(x), self.key(guide), self.value(guide)
        return x, q.flatten(2).transpose(1, 2), _bins(k, self.sizes), _bins(v, self.sizes)


def _widths(channels: int, keys: int | None, values: int | None) -> tuple[int, int]:
    half = max(channels // 2, 1)
    key_channels, value_channels = (half if n is None else n for n in (keys, values))
    positive(key_channels=key_channels, value_channels=value_channels)
    return key_channels, value_channels


def _checked(sizes: Sequence[int]) -> tuple[int, ...]:
    whole = all(isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in sizes)
    if not sizes or not whole:
        raise ValueError(f"sizes must be one or more positive integers, got {sizes!r}")
    return tuple(sizes)


def _zero(layer: nn.Conv2d) -> None:
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def _bins(x: Tensor, sizes: Sequence[int]) -> Tensor:
    """Return the averages over all bins of all grids: ``b m d``."""
    return torch.cat([grid.adaptive_avg_pool2d(x, (n, n)).flatten(2) for n in sizes], 2).transpose(
        1, 2
    )
