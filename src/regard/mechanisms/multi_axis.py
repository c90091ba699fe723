"""Multi-axis attention: blocks of neighbors, or grids of distant positions, attend within."""

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


class MultiAxis(Attention):
    r"""Applies multi-head attention within groups of positions, with biases by relative position.

    .. math::
        y = W_o [a_1 V_1; \dots; a_H V_H], \quad
        a_h = \operatorname{softmax}\big(d^{-1/2}\, Q_h K_h^\top + B_h\big), \quad
        B_{h,ij} = \beta_h(p_i - p_j)

    for positions p within a group and a table :math:`\beta`; section 3.1 of the paper. A group is
    a block of :math:`P \times P` neighbors, or a grid of :math:`P \times P` positions at equal
    distances over the whole image; section 3.2. The image is padded after its last row and column
    to whole groups, and the padding is masked.

    In half precision, rounding can change which entry the softmax selects where scores are in
    the hundreds.

    Args:
        channels: :math:`C`.
        num_heads: :math:`H`.
        window_size: :math:`P`, one for all axes or one for each.
        groups: ``block`` or ``grid``.
        positions: A table of biases by relative position for each ``head``, one that is ``shared``
            by all heads, or ``none``.
        bias: Give the projections of queries, keys and values biases.
        scale: Factor of the dot products; :math:`d^{-1/2}` by default, for d channels of a head.
        dropout: Dropout rate of the attention weights.
        out_dropout: Dropout rate of the output.
        dims: Axes of space and time: 1, 2 or 3.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c *`` (``dims`` axes of space and time), map ``b g heads q k`` for g groups, and q
        queries and k keys in each; blocks are in rows, grids in the order of their first position;
        y as x.

    Raises:
        ValueError: a size is not positive, ``num_heads`` does not divide the channels, a dropout is
            not a rate, or ``groups``, ``positions`` or ``dims`` is unknown.

    >>> MultiAxis(64, window_size=4, groups="grid")(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = Card(
        title="Multi-axis attention",
        paper="MaxViT: Multi-Axis Vision Transformer",
        authors=(
            "Zhengzhong Tu, Hossein Talebi, Han Zhang, Feng Yang, Peyman Milanfar, Alan Bovik, "
            "Yinxiao Li"
        ),
        venue="ECCV",
        year=2022,
        url="https://arxiv.org/abs/2204.01697",
        code="https://github.com/google-research/maxvit",
        license="Apache-2.0",
        domain="spatial",
        computes="fc+matmul",
        applies="matmul",
        kind="relation",
        cost=dict(time="n k c + n c^2", memory="n k + n c"),
        aliases=("grid", "max_sa", "maxvit", "block_attention", "multi_axis_attention"),
        differs=(
            "The authors' code takes sizes that the groups divide; here the image is padded, and "
            "the padding is masked.",
            "Its table has the distance from query to key, and this one from key to query.",
        ),
    )
    axes = Axes("b c *", "b g heads q k", range="softmax")

    def __init__(
        self,
        channels: int,
        num_heads: int = 8,
        *,
        window_size: int | Sequence[int] = 7,
        groups: Literal["block", "grid"] = "block",
        positions: Literal["head", "shared", "none"] = "head",
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
        one_of(("block", "grid"), groups=groups)
        one_of(("head", "shared", "none"), positions=positions)
        probability(dropout=dropout, out_dropout=out_dropout)
        self.window_size = per_axis(dims, 1, window_size=window_size)
        self.num_heads, self.strided = num_heads, groups == "grid"
        self.scale = (channels // num_heads) ** -0.5 if scale is None else scale
        self.axes = self.axes.over(dims)
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self.query = nn.Linear(channels, channels, bias, **factory)
        self.key = nn.Linear(channels, channels, bias, **factory)
        self.value = nn.Linear(channels, channels, bias, **factory)
        self.positions = None
        if positions != "none":
            shape = windows.table_rows(self.window_size), num_heads if positions == "head" else 1
            self.positions = nn.Parameter(torch.empty(shape, **factory))
        self.drop = nn.Dropout(dropout)
        self.out = nn.Linear(channels, channels, **factory)
        self.drop_out = nn.Dropout(out_dropout)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weights and biases by position with a small spread; zero all other biases."""
        if self.positions is not None:
            nn.init.trunc_normal_(self.positions, std=0.02)
        small_projections(self)

    def prepare(self, x: Tensor) -> Prepared:
        t = windows.partition(x, self.window_size, strided=self.strided)  # b g n c
        q, k, v = (
            layer(t).unflatten(3, (self.num_heads, -1)).transpose(2, 3)
            for layer in (self.query, self.key, self.value)
        )
        return x, q, k, v

    def attention(self, z: Prepared) -> Tensor:
        x, q, k, _ = z
        return pairwise.attention_weights(q, k, scale=self.scale, mask=self.mask(x))

    def combine(self, a: Tensor, z: Prepared) -> Tensor:
        x, _, _, v = z
        return self.join(self.drop(a) @ v, x)

    def fused(self, z: Prepared) -> Tensor:
        x, q, k, v = z
        dropout = self.drop.p if self.training else 0.0
        y = windows.scaled_dot_product(
            q, k, v, scale=self.scale, mask=self.mask(x), dropout=dropout
        )
        return self.join(y, x)

    def mask(self, x: Tensor) -> Tensor | None:
        """Return what is added to the scores, ``1 heads n n``, where padded ``g heads n n``."""
        bias = None
        if self.positions is not None:
            bias = windows.relative_bias(self.positions, self.window_size)[None]
        return _hide_padding(bias, x, self.window_size, self.strided)

    def join(self, y: Tensor, x: Tensor) -> Tensor:
        """Merge the heads ``b g heads n d``, project, and put the groups together."""
        y = self.drop_out(self.out(y.transpose(2, 3).flatten(3)))
        return windows.merge(y, x, self.window_size, strided=self.strided)


@leaf
def _hide_padding(
    bias: Tensor | None, x: Tensor, size: Sequence[int], strided: bool
) -> Tensor | None:
    """Restrict a bias to keys inside the image."""
    if not windows.padded(x, size):
        return bias
    return pairwise.and_mask(bias, windows.inside(x, size, strided=strided)[:, None, None])
