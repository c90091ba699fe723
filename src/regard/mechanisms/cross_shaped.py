"""Cross-shaped window attention: half of the heads attend within columns, half within rows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from ..core import pairwise, tokens, windows
from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import divides, positive, probability
from ..core.initial import small_projections
from ..core.tracing import leaf, recording

# x; of each branch q, k, v and the convolved v: b g heads n d each
Prepared = tuple[Tensor, tuple[tuple[Tensor, Tensor, Tensor, Tensor], ...]]


class CrossShaped(Attention):
    r"""Applies multi-head attention within vertical stripes, and within horizontal ones.

    .. math::
        y = W_o [y_1; \dots; y_H], \quad
        y_h = \operatorname{softmax}\big(d^{-1/2}\, Q_h K_h^\top\big) V_h
        + \operatorname{DWConv}_3(V_h)

    in each stripe: of s columns for the first half of the heads, of s rows for the second half;
    equations 2 to 5 of the paper. The convolution sees zeros outside of its stripe. The image is
    padded to whole stripes, and the padding is masked.

    In half precision, rounding can change which entry the softmax selects where scores are in
    the hundreds.

    Args:
        channels: :math:`C`.
        num_heads: :math:`H`; even, unless there are no stripes.
        stripe_width: :math:`s`; None for attention of the whole image by all heads.
        bias: Give the projections of queries, keys and values biases.
        scale: Factor of the scores; :math:`d^{-1/2}` by default, for d channels of a head.
        dropout: Dropout rate of the attention weights.
        out_dropout: Dropout rate of the output.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, maps ``vertical`` and ``horizontal``, ``b g heads q k`` for g stripes and
        half of the heads, with q queries and k keys in each stripe, row by row; a single one for
        the whole image; y as x.

    Raises:
        ValueError: a size is not positive, ``num_heads`` does not divide the channels or is odd, or
            a dropout is not a rate.

    >>> CrossShaped(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = Card(
        title="Cross-shaped window attention",
        paper=(
            "CSWin Transformer: A General Vision Transformer Backbone with Cross-Shaped Windows"
        ),
        authors=(
            "Xiaoyi Dong, Jianmin Bao, Dongdong Chen, Weiming Zhang, Nenghai Yu, Lu Yuan, Dong "
            "Chen, Baining Guo"
        ),
        venue="CVPR",
        year=2022,
        url="https://arxiv.org/abs/2107.00652",
        code="https://github.com/microsoft/CSWin-Transformer",
        license="MIT",
        domain="spatial",
        computes="fc+matmul",
        applies="matmul",
        kind="relation",
        cost=dict(time="n h c + n w c + n c^2", memory="n c"),
        aliases=("cswin", "cswin_attention", "lepe_attention", "cross_shaped_window"),
        differs=(
            "The authors' code takes square images whose side the stripes divide; here the image "
            "is padded, and the padding is masked.",
        ),
    )
    axes = Axes("b c h w", "vertical: b g heads q k, horizontal: b g heads q k", range="softmax")

    def __init__(
        self,
        channels: int,
        num_heads: int = 8,
        *,
        stripe_width: int | None = 7,
        bias: bool = True,
        scale: float | None = None,
        dropout: float = 0.0,
        out_dropout: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        divides(channels=channels, num_heads=num_heads)
        super().__init__(c=channels)
        probability(dropout=dropout, out_dropout=out_dropout)
        branches = 1
        if stripe_width is None:
            self.axes = replace(self.axes, map="b g heads q k")
        else:
            positive(stripe_width=stripe_width)
            branches = 2
            if num_heads % 2:
                raise ValueError(f"num_heads must be even with stripes, got {num_heads}")
        self.num_heads, self.stripe_width = num_heads, stripe_width
        self.scale = (channels // num_heads) ** -0.5 if scale is None else scale
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self.query = nn.Linear(channels, channels, bias, **factory)
        self.key = nn.Linear(channels, channels, bias, **factory)
        self.value = nn.Linear(channels, channels, bias, **factory)
        width = channels // branches
        self.local = nn.ModuleList(
            nn.Conv2d(width, width, 3, padding=1, groups=width, **factory) for _ in range(branches)
        )
        self.drop = nn.Dropout(dropout)
        self.out = nn.Linear(channels, channels, **factory)
        self.drop_out = nn.Dropout(out_dropout)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the projections with a small spread; zero their biases."""
        super().reset_parameters()
        small_projections(self)

    def prepare(self, x: Tensor) -> Prepared:
        image = x.permute(0, 2, 3, 1)
        q, k, v = (
            layer(image).unflatten(3, (len(self.local), -1))  # b h w branches c
            for layer in (self.query, self.key, self.value)
        )
        branches: list[Any] = []
        for i, conv in enumerate(self.local):
            stripes = [_stripes(t.select(3, i), self.stripe_width, i == 0) for t in (q, k, v)]
            v_grid = stripes[2].flatten(0, 1).permute(0, 3, 1, 2)  # (b g) c rows columns
            local = conv(v_grid).permute(0, 2, 3, 1).unflatten(0, stripes[2].shape[:2])
            q_k_v = (self.divide(t) for t in stripes)
            branches.append((*q_k_v, self.divide(local)))
        return x, tuple(branches)

    def attention(self, z: Prepared) -> Tensor | tuple[Tensor, ...]:
        x, branches = z
        maps = [
            pairwise.attention_weights(q, k, scale=self.scale, mask=self.mask(x, i))
            for i, (q, k, _, _) in enumerate(branches)
        ]
        return tuple(maps) if len(maps) > 1 else maps[0]

    def combine(self, a: Tensor | tuple[Tensor, ...], z: Prepared) -> Tensor:
        x, branches = z
        maps = a if isinstance(a, tuple) else (a,)
        return self.join(
            [self.drop(m) @ v + local for m, (_, _, v, local) in zip(maps, branches, strict=True)],
            x,
        )

    def fused(self, z: Prepared) -> Tensor:
        x, branches = z
        options = {"scale": self.scale, "dropout": self.drop.p if self.training else 0.0}
        parts = [
            windows.scaled_dot_product(q, k, v, mask=self.mask(x, i), **options) + local
            for i, (q, k, v, local) in enumerate(branches)
        ]
        return self.join(parts, x)

    def divide(self, x: Tensor) -> Tensor:
        """Divide stripes ``b g rows columns c`` into heads ``b g heads n d``."""
        heads = self.num_heads // len(self.local)
        return x.flatten(2, 3).unflatten(3, (heads, -1)).transpose(2, 3)

    def mask(self, x: Tensor, i: int) -> Tensor | None:
        """Return which keys are no padding, ``g 1 1 k``, for the branch i."""
        return None if self.stripe_width is None else _mask(x, self.stripe_width, i == 0)

    def join(self, parts: list[Tensor], x: Tensor) -> Tensor:
        """Put the stripes ``b g heads n d`` of each branch together, and project."""
        merged = [_merged(y, x, self.stripe_width, i == 0) for i, y in enumerate(parts)]
        y = self.drop_out(self.out(torch.cat(merged, -1)))
        return tokens.laid_out_like(y.permute(0, 3, 1, 2), x)


@leaf
def _stripes(x: Tensor, width: int | None, vertical: bool) -> Tensor:
    """Cut an image ``b h w c`` into stripes ``b g rows columns c``."""
    if width is None:
        return x.unsqueeze(1)
    axis = 2 if vertical else 1
    missing = _filled(x.shape[axis], width) - x.shape[axis]
    # Compiled code must work for every size: no branch on sizes.
    if recording() or missing:
        x = pad(x, (0, 0, 0, missing) if vertical else (0, 0, 0, 0, 0, missing))
    y = x.unflatten(axis, (-1, width))
    return y.transpose(1, 2) if vertical else y


@leaf
def _merged(y: Tensor, x: Tensor, width: int | None, vertical: bool) -> Tensor:
    """Put stripes ``b g heads n d`` together to ``b h w c``."""
    y = y.transpose(2, 3).flatten(3)
    if width is None:
        return y.flatten(1, 2).unflatten(1, x.shape[2:])
    if vertical:
        y = y.unflatten(2, (-1, width)).transpose(1, 2).flatten(2, 3)
        return tokens.first(y, 2, x.shape[3])
    y = y.unflatten(2, (width, -1)).flatten(1, 2)
    return tokens.first(y, 1, x.shape[2])


@leaf
def _mask(x: Tensor, width: int, vertical: bool) -> Tensor | None:
    """Return which keys are no padding, ``g 1 1 k``; None without padding."""
    n, other = (x.shape[3], x.shape[2]) if vertical else (x.shape[2], x.shape[3])
    # Compiled code must work for every size: no branch on sizes.
    if not recording() and n % width == 0:
        return None
    real = (torch.arange(_filled(n, width), device=x.device) < n).unflatten(0, (-1, width))
    if vertical:  # of each row
        real = real[:, None].expand(-1, other, -1)
    else:
        real = real[:, :, None].expand(-1, -1, other)
    return real.flatten(1)[:, None, None]


def _filled(n: Any, width: int) -> Any:
    """Return the size of an axis with the padding."""
    return (n + width - 1) // width * width
