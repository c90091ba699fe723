"""Locally-grouped attention: each group of neighbors attends to itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..core import pairwise, windows
from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import divides, one_of, per_axis, probability
from ..core.initial import small_projections
from ..core.tracing import leaf

Prepared = tuple[Tensor, Tensor, Tensor, Tensor]  # x, and q, k, v: b g heads n d each


class LocallyGrouped(Attention):
    r"""Applies multi-head attention within groups of neighbors, without biases by position.

    .. math::
        y = W_o [a_1 V_1; \dots; a_H V_H], \quad
        a_h = \operatorname{softmax}\big(d^{-1/2}\, Q_h K_h^\top\big)

    in each group of :math:`P \times P` positions; section 3.2 of the paper, which alternates it
    with `SpatialReduction`. The image is padded with zeros after its last row and column to whole
    groups.

    In half precision, rounding can change which entry the softmax selects where scores are in
    the hundreds.

    Args:
        channels: :math:`C`.
        num_heads: :math:`H`.
        window_size: :math:`P`, one for all axes or one for each.
        mask_padding: Let the padding attend, and be attended to, by padding only.
        bias: Give the projections of queries, keys and values biases.
        scale: Factor of the scores; :math:`d^{-1/2}` by default, for d channels of a head.
        dropout: Dropout rate of the attention weights.
        out_dropout: Dropout rate of the output.
        dims: Axes of space and time: 1, 2 or 3.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c *`` (``dims`` axes of space and time), map ``b g heads q k`` for g groups row by
        row, and q queries and k keys in each, y as x.

    Raises:
        ValueError: a size is not positive, ``num_heads`` does not divide the channels, a dropout is
            not a rate, or ``dims`` is unknown.

    >>> LocallyGrouped(64, window_size=4)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = Card(
        title="Locally-grouped self-attention",
        paper="Twins: Revisiting the Design of Spatial Attention in Vision Transformers",
        authors=(
            "Xiangxiang Chu, Zhi Tian, Yuqing Wang, Bo Zhang, Haibing Ren, Xiaolin Wei, Huaxia "
            "Xia, Chunhua Shen"
        ),
        venue="NeurIPS",
        year=2021,
        url="https://arxiv.org/abs/2104.13840",
        code="https://github.com/Meituan-AutoML/Twins",
        license="Apache-2.0",
        domain="spatial",
        computes="fc+matmul",
        applies="matmul",
        kind="relation",
        cost=dict(time="n k c + n c^2", memory="n k + n c"),
        aliases=("lsa", "twins", "sssa", "locally_grouped_attention"),
        differs=(
            "The authors' code for classification takes sizes that the groups divide. Their code "
            "for segmentation pads, and masks the padding only if both sides are padded; this file "
            "always does (mask_padding=False: never).",
        ),
    )
    axes = Axes("b c *", "b g heads q k", range="softmax")

    def __init__(
        self,
        channels: int,
        num_heads: int = 8,
        *,
        window_size: int | Sequence[int] = 7,
        mask_padding: bool = True,
        bias: bool = True,
        scale: float | None = None,
        dropout: float = 0.0,
        out_dropout: float = 0.0,
        dims: Literal[1, 2, 3] = 2,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        divides(channels=channels, num_heads=num_heads)
        super().__init__(c=channels, heads=num_heads)
        one_of((1, 2, 3), dims=dims)
        probability(dropout=dropout, out_dropout=out_dropout)
        self.window_size = per_axis(dims, 1, window_size=window_size)
        self.num_heads, self.mask_padding = num_heads, mask_padding
        self.scale = (channels // num_heads) ** -0.5 if scale is None else scale
        self.axes = self.axes.over(dims)
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self.query = nn.Linear(channels, channels, bias, **factory)
        self.key = nn.Linear(channels, channels, bias, **factory)
        self.value = nn.Linear(channels, channels, bias, **factory)
        self.drop = nn.Dropout(dropout)
        self.out = nn.Linear(channels, channels, **factory)
        self.drop_out = nn.Dropout(out_dropout)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weights with a small spread; zero the biases."""
        small_projections(self)

    def prepare(self, x: Tensor) -> Prepared:
        t = windows.partition(x, self.window_size)  # b g n c
        q, k, v = (
            layer(t).unflatten(3, (self.num_heads, -1)).transpose(2, 3)
            for layer in (self.query, self.key, self.value)
        )
        return x, q, k, v

    def attention(self, z: Prepared) -> Tensor:
        x, q, k, _ = z
        mask = _mask(x, self.window_size) if self.mask_padding else None
        return pairwise.attention_weights(q, k, scale=self.scale, mask=mask)

    def combine(self, a: Tensor, z: Prepared) -> Tensor:
        x, _, _, v = z
        return self.join(self.drop(a) @ v, x)

    def fused(self, z: Prepared) -> Tensor:
        x, q, k, v = z
        mask = _mask(x, self.window_size) if self.mask_padding else None
        dropout = self.drop.p if self.training else 0.0
        y = windows.scaled_dot_product(q, k, v, scale=self.scale, mask=mask, dropout=dropout)
        return self.join(y, x)

    def join(self, y: Tensor, x: Tensor) -> Tensor:
        """Merge the heads ``b g heads n d``, project, and put the groups together."""
        y = self.drop_out(self.out(y.transpose(2, 3).flatten(3)))
        return windows.merge(y, x, self.window_size)


@leaf
def _mask(x: Tensor, size: Sequence[int]) -> Tensor | None:
    """Return which pairs are both image or both padding, ``g 1 n n``; None without padding."""
    if not windows.padded(x, size):
        return None
    real = windows.inside(x, size)
    return (real[:, :, None] == real[:, None])[:, None]
