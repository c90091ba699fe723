"""Spatial-reduction attention: every position attends to a downsampled image."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from ..core import grid, pairwise, tokens
from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import divides, one_of, positive, probability
from ..core.conv_norm import CONV
from ..core.initial import small_projections

Prepared = tuple[Tensor, Tensor, Tensor, Tensor]  # x, and q, k, v: b heads n d each


class SpatialReduction(Attention):
    r"""Applies multi-head attention with keys and values from a downsampled image.

    .. math::
        y = W_o [a_1 V_1; \dots; a_H V_H], \quad
        a_h = \operatorname{softmax}\big(d^{-1/2}\, Q_h K_h^\top\big), \quad
        [K, V] = W_{kv} \operatorname{LN}(\operatorname{Conv}_R(x))

    where Q is from x, and the convolution has a kernel and a stride of R; equations 1 to 4 of the
    paper. The linear form of the second version (figure 2 of "PVT v2: Improved Baselines with
    Pyramid Vision Transformer") has keys and values from
    :math:`\operatorname{GELU}(\operatorname{LN}(\operatorname{Conv}_1(\operatorname{AvgPool}_P(x))))`
    for any image size (``pool_size=7``). Positions that do not fill a patch are dropped; an axis
    shorter than a patch is padded with zeros.

    In half precision, rounding can change which entry the softmax selects where scores are in
    the hundreds.

    Args:
        channels: :math:`C`.
        num_heads: :math:`H`.
        reduction: :math:`R`; with 1, keys and values are computed from x itself.
        pool_size: :math:`P`, the sides of the image that keys and values are computed from,
            instead of ``reduction``; for two axes of space only.
        bias: Give the projections of queries, keys and values biases.
        scale: Factor of the scores; :math:`d^{-1/2}` by default, for d channels of a head.
        dropout: Dropout rate of the attention weights.
        out_dropout: Dropout rate of the output.
        dims: Axes of space and time: 1, 2 or 3.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c *`` (``dims`` axes of space and time), map ``b heads n m`` for n positions and m of
        the downsampled image, y as x.

    Raises:
        ValueError: a size is not positive, ``num_heads`` does not divide the channels, a dropout
            is not a rate, ``dims`` is unknown, or is not 2 although there is a ``pool_size``.

    >>> SpatialReduction(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = Card(
        title="Spatial-reduction attention",
        paper=(
            "Pyramid Vision Transformer: A Versatile Backbone for Dense Prediction without "
            "Convolutions"
        ),
        authors=(
            "Wenhai Wang, Enze Xie, Xiang Li, Deng-Ping Fan, Kaitao Song, Ding Liang, Tong Lu, "
            "Ping Luo, Ling Shao"
        ),
        venue="ICCV",
        year=2021,
        url="https://arxiv.org/abs/2102.12122",
        code="https://github.com/whai362/PVT",
        license="Apache-2.0",
        domain="spatial",
        computes="conv+matmul",
        applies="matmul",
        kind="relation",
        cost=dict(time="n^2 c + n c^2", memory="n c"),
        aliases=("sra", "pvt", "pvt_v2", "linear_sra", "gsa", "global_sub_sampled_attention"),
        differs=(
            "The paper flattens each patch and projects it without a bias; the authors' code, and "
            "this file, has a convolution with a bias.",
            "The default reduction is that of the third stage of the authors' networks, which has "
            "most of their layers; their class has no reduction by default.",
            "The figure of the second version has a pool and a convolution; its code, and "
            "pool_size here, adds a layer norm and GELU.",
        ),
    )
    axes = Axes("b c *", "b heads n m", range="softmax")

    def __init__(
        self,
        channels: int,
        num_heads: int = 8,
        reduction: int = 2,
        *,
        pool_size: int | None = None,
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
        positive(reduction=reduction)
        one_of((1, 2, 3), dims=dims)
        probability(dropout=dropout, out_dropout=out_dropout)
        if pool_size is not None:
            positive(pool_size=pool_size)
            one_of((2,), dims=dims)
        self.num_heads, self.reduction, self.pool_size = num_heads, reduction, pool_size
        self.scale = (channels // num_heads) ** -0.5 if scale is None else scale
        self.axes = self.axes.over(dims)
        factory = {"device": device, "dtype": dtype}
        self.query = nn.Linear(channels, channels, bias, **factory)
        self.shrink = self.shrink_norm = None
        if reduction > 1 or pool_size is not None:
            side = reduction if pool_size is None else 1
            self.shrink = CONV[dims](channels, channels, side, side, **factory)
            self.shrink_norm = nn.LayerNorm(channels, **factory)
        self.key = nn.Linear(channels, channels, bias, **factory)
        self.value = nn.Linear(channels, channels, bias, **factory)
        self.drop = nn.Dropout(dropout)
        self.out = nn.Linear(channels, channels, **factory)
        self.drop_out = nn.Dropout(out_dropout)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new parameters: projections with a small spread, the convolution by its fan-out."""
        small_projections(self)
        if self.shrink is not None and self.shrink_norm is not None:
            fan_out = self.shrink.weight[0, 0].numel() * len(self.shrink.weight)
            nn.init.normal_(self.shrink.weight, std=(2 / fan_out) ** 0.5)
            nn.init.zeros_(self.shrink.bias)  # type: ignore[arg-type]  # it has one
            self.shrink_norm.reset_parameters()

    def prepare(self, x: Tensor) -> Prepared:
        q, source = self.query(tokens.to_tokens(x)), self.source(x)
        q, k, v = (
            pairwise.split_heads(t, self.num_heads)
            for t in (q, self.key(source), self.value(source))
        )
        return x, q, k, v

    def attention(self, z: Prepared) -> Tensor:
        _, q, k, _ = z
        return pairwise.attention_weights(q, k, scale=self.scale)

    def combine(self, a: Tensor, z: Prepared) -> Tensor:
        x, _, _, v = z
        return self.join(self.drop(a) @ v, x)

    def fused(self, z: Prepared) -> Tensor:
        x, q, k, v = z
        dropout = self.drop.p if self.training else 0.0
        return self.join(pairwise.scaled_dot_product(q, k, v, scale=self.scale, dropout=dropout), x)

    def source(self, x: Tensor) -> Tensor:
        """Return the tokens ``b m c`` that keys and values are computed from."""
        if self.shrink is None or self.shrink_norm is None:
            return tokens.to_tokens(x)
        if self.pool_size is None:
            return self.shrink_norm(tokens.to_tokens(self.shrink(grid.fill_up(x, self.reduction))))
        pooled = grid.adaptive_avg_pool2d(x, (self.pool_size, self.pool_size))
        return gelu(self.shrink_norm(tokens.to_tokens(self.shrink(pooled))))

    def join(self, y: Tensor, x: Tensor) -> Tensor:
        """Merge the heads, project, and return a grid like x."""
        return tokens.to_grid(self.drop_out(self.out(pairwise.merge_heads(y))), x)
