"""Aggregated attention: each position attends to its neighbors and to the pooled image."""

from __future__ import annotations

from collections.abc import Sequence
from math import log
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, normalize, softplus

from ..core import grid, pairwise, precision, sparse, tokens, windows
from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import divides, odd, per_axis, positive, probability
from ..core.initial import small_projections
from ..core.tracing import at_least, leaf, recording

# x; unit queries, scaled queries, k, v: b heads n d each; k and v of the pooled image, b heads m d
Prepared = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]

HIDDEN = 512  # of the layers that compute biases from distances
FACTOR = log(2.718281828459045 ** (1 / 0.24) - 1)  # whose softplus is 1 / 0.24


class Aggregated(Attention):
    r"""Attends with one softmax to the neighbors of a position and to all pooled positions.

    .. math::
        y = W_o \big((a^l + \hat q T + b)\, V^l + a^p V^p\big), \quad
        [a^l, a^p] = \operatorname{softmax}\big(\tau \ln(N)\, (\hat q + e)
        [\hat K^l, \hat K^p]^\top + [\beta^l, \beta^p]\big)

    in each head, for unit vectors :math:`\hat q, \hat K`, N keys inside the image, learned
    :math:`\tau > 0`, e, T, b and :math:`\beta^l`, and :math:`\beta^p` from the distances on a
    logarithmic scale by an MLP; equations 4 to 9 of the paper. The keys and values :math:`K^p, V^p`
    are from :math:`\operatorname{LN}(\operatorname{AvgPool}(\operatorname{GELU}(W x)))`. The form
    of the last stage attends to all positions, and has :math:`a^p` only.

    In half precision, rounding can change which entry the softmax selects where the factor of the
    cosines is large.

    Args:
        channels: :math:`C`.
        num_heads: Number of heads.
        window_size: Side of the window of neighbors, odd; None for the form of the last stage.
        reduction: The pooled image has height and width divided by it.
        pool_size: Height and width of the pooled image, instead of ``reduction``.
        pretrained_size: Image size whose largest distance is 1 on the logarithmic scale; that of x
            by default.
        bias: Give the projections of queries, keys and values biases.
        dropout: Dropout rate of the attention weights.
        out_dropout: Dropout rate of the output.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, map ``b heads n k`` for the k neighbors, row by row, and then the pooled
        positions, row by row; y as x.

    Raises:
        ValueError: a size is not positive, ``num_heads`` does not divide the channels, the window
            is even, or a dropout is not a rate.

    >>> Aggregated(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = Card(
        title="Aggregated attention",
        paper="TransNeXt: Robust Foveal Visual Perception for Vision Transformers",
        authors="Dai Shi",
        venue="CVPR",
        year=2024,
        url="https://arxiv.org/abs/2311.17132",
        code="https://github.com/DaiShiResearch/TransNeXt",
        license="Apache-2.0",
        domain="spatial",
        computes="fc+matmul",
        applies="matmul",
        kind="relation",
        cost=dict(time="n^2 c + n c^2", memory="n^2 + n c"),
        aliases=(
            "transnext",
            "pixel_focused",
            "pixel_focused_attention",
            "aggregated_attention",
            "transnext_aggregatedattention",
            "aa",
        ),
        differs=(
            "The authors' code has a fixed image size; here the number of keys, the pooled size "
            "and the distances follow the image.",
        ),
    )
    axes = Axes("b c h w", "b heads n k", range="softmax")

    def __init__(
        self,
        channels: int,
        num_heads: int = 8,
        *,
        window_size: int | None = 3,
        reduction: int = 4,
        pool_size: int | None = None,
        pretrained_size: int | Sequence[int] | None = None,
        bias: bool = True,
        dropout: float = 0.0,
        out_dropout: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        divides(channels=channels, num_heads=num_heads)
        super().__init__(c=channels, heads=num_heads)
        positive(reduction=reduction)
        probability(dropout=dropout, out_dropout=out_dropout)
        if window_size is not None:
            odd(window_size=window_size)
        if pool_size is not None:
            positive(pool_size=pool_size)
        self.pretrained_size = None
        if pretrained_size is not None:
            self.pretrained_size = per_axis(2, 1, pretrained_size=pretrained_size)
        self.num_heads, self.window_size = num_heads, window_size
        self.reduction, self.pool_size = reduction, pool_size
        head_dim = channels // num_heads
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self.query = nn.Linear(channels, channels, bias, **factory)
        self.key = nn.Linear(channels, channels, bias, **factory)
        self.value = nn.Linear(channels, channels, bias, **factory)
        self.query_embedding = nn.Parameter(torch.empty(num_heads, 1, head_dim, **factory))
        self.temperature = nn.Parameter(torch.empty(num_heads, 1, 1, **factory))
        self.position_hidden = nn.Linear(2, HIDDEN, **factory)
        self.position_out = nn.Linear(HIDDEN, num_heads, **factory)
        if window_size is not None:
            places = window_size**2
            self.shrink = nn.Conv2d(channels, channels, 1, **factory)
            self.shrink_norm = nn.LayerNorm(channels, **factory)
            self.near = nn.Parameter(torch.empty(num_heads, places, **factory))
            self.weights = nn.Parameter(torch.empty(num_heads, head_dim, places, **factory))
            self.weights_bias = nn.Parameter(torch.empty(num_heads, 1, places, **factory))
        self.drop = nn.Dropout(dropout)
        self.out = nn.Linear(channels, channels, **factory)
        self.drop_out = nn.Dropout(out_dropout)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weights with a small spread; zero the biases."""
        super().reset_parameters()
        small_projections(self)
        nn.init.trunc_normal_(self.query_embedding, std=0.02)
        nn.init.constant_(self.temperature, FACTOR)
        if self.window_size is not None:
            nn.init.trunc_normal_(self.near, std=0.0004)
            nn.init.trunc_normal_(self.weights, std=0.02)
            nn.init.zeros_(self.weights_bias)

    def prepare(self, x: Tensor) -> Prepared:
        t = tokens.to_tokens(x)
        pooled = t if self.window_size is None else self.pooled(x)
        q, k, v, far, seen = (
            pairwise.split_heads(p, self.num_heads)
            for p in (
                self.query(t),
                self.key(t),
                self.value(t),
                self.key(pooled),
                self.value(pooled),
            )
        )
        q, k, far = _unit(q), _unit(k), _unit(far)
        scaled = (q + self.query_embedding) * softplus(self.temperature)
        return x, q, scaled * _log_keys(x, far, self.window_size), k, v, far, seen

    def attention(self, z: Prepared) -> Tensor:
        x, _, q, k, v, far, _ = z
        scores = precision.matmul(q, far.transpose(-2, -1)) + self.bias(x, far)
        if self.window_size is not None:
            lists, inside = _neighbors(x, self.window_size)
            near = sparse.scores(q, k, lists) + self.near.unsqueeze(1)
            scores = torch.cat([near.masked_fill(~inside, -torch.inf), scores], -1)
        return precision.softmax(scores, -1, v.dtype)

    def combine(self, a: Tensor, z: Prepared) -> Tensor:
        x, q, _, _, v, _, seen = z
        a = self.drop(a)
        if self.window_size is None:
            return self.join(a @ seen, x)
        lists, inside = _neighbors(x, self.window_size)
        near, far = a[..., : self.window_size**2], a[..., self.window_size**2 :]
        near = (q @ self.weights + self.weights_bias + near) * inside
        return self.join(sparse.weighted_sum(near, v, lists) + far @ seen, x)

    def fused(self, z: Prepared) -> Tensor | None:
        if self.window_size is not None:  # whose weights are changed after the softmax
            return None
        x, _, q, _, _, far, seen = z
        bias = self.bias(x, far)[None]
        dropout = self.drop.p if self.training else 0.0
        return self.join(pairwise.scaled_dot_product(q, far, seen, mask=bias, dropout=dropout), x)

    def pooled(self, x: Tensor) -> Tensor:
        """Return the tokens ``b m c`` of the pooled image."""
        size = _pooled_size(x, self.reduction, self.pool_size)
        return self.shrink_norm(tokens.to_tokens(_pool(gelu(self.shrink(x)), size)))

    def bias(self, x: Tensor, far: Tensor) -> Tensor:
        """Return the biases of the distances to the pooled positions, ``heads n m``."""
        size = x.shape[2:]
        if self.window_size is not None:
            size = _pooled_size(x, self.reduction, self.pool_size)
        table, index = _distances(x, size, self.pretrained_size)
        return _looked_up(self.position_out(self.position_hidden(table).relu()), index)

    def join(self, y: Tensor, x: Tensor) -> Tensor:
        """Merge the heads ``b heads n d``, and project."""
        return tokens.to_grid(self.drop_out(self.out(pairwise.merge_heads(y))), x)


@leaf
def _unit(x: Tensor) -> Tensor:
    return normalize(precision.widen(x), dim=-1).to(x.dtype)


@leaf
def _pooled_size(x: Tensor, reduction: int, size: int | None) -> list[Any]:
    if size is not None:
        return [size, size]
    return [at_least(n // reduction, 1) for n in x.shape[2:]]


@leaf
def _pool(x: Tensor, size: Sequence[int]) -> Tensor:
    return grid.adaptive_avg_pool2d(x, size)


@leaf
def _neighbors(x: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Return the neighbors of each position, and which are inside the image, ``n k`` both."""
    lists = torch.zeros(1, 1, dtype=torch.long, device=x.device)
    inside = torch.ones(1, 1, dtype=torch.bool, device=x.device)
    for n in x.shape[2:]:
        at = torch.arange(n, device=x.device)[:, None] + torch.arange(side, device=x.device)
        at = at - side // 2
        real = (at >= 0) & (at < n)
        lists = lists[:, None, :, None] * n + (at * real)[None, :, None]
        inside = inside[:, None, :, None] & real[None, :, None]
        lists, inside = (t.flatten(2).flatten(0, 1) for t in (lists, inside))
    return lists, inside


@leaf
def _log_keys(x: Tensor, far: Tensor, side: int | None) -> Tensor:
    """Return the logarithm of the number of keys of each position, ``n 1``."""
    wide = torch.promote_types(x.dtype, torch.float32)
    keys = torch.ones(x.flatten(2).shape[2], 1, device=x.device, dtype=wide) * far.shape[2]
    if side is not None:
        keys = keys + _neighbors(x, side)[1].sum(1, keepdim=True)
    return keys.log().to(x.dtype)


@leaf
def _distances(
    x: Tensor, size: Sequence[int], pretrained: Sequence[int] | None
) -> tuple[Tensor, Tensor]:
    """Return distances on a logarithmic scale, ``rows 2``, and the row of each pair, ``n m``."""
    wide = torch.promote_types(x.dtype, torch.float32)
    values, indices = [], []
    for n, m, most in zip(x.shape[2:], size, pretrained or x.shape[2:], strict=True):
        place = torch.arange(n, device=x.device, dtype=wide)
        center = _pool(place[None, None, :, None], (m, 1)).flatten()
        distance = (place[:, None] - center) / at_least(most - 1, 1)
        # What is recorded, or has no numbers, cannot tell which distances are equal.
        if recording() or x.is_meta:
            value = distance.flatten()
            index = torch.arange(value.shape[0], device=x.device).unflatten(0, (-1, m))
        else:
            value, index = distance.unique(return_inverse=True)
        values.append(windows.log_spaced(value).to(x.dtype))
        indices.append(index)
    rows, columns = indices
    index = rows[:, None, :, None] * values[1].shape[0] + columns[None, :, None]
    table = torch.stack(torch.meshgrid(values, indexing="ij"), -1).flatten(0, 1)
    return table, index.flatten(2).flatten(0, 1)


@leaf
def _looked_up(table: Tensor, index: Tensor) -> Tensor:
    return table[index].permute(2, 0, 1)
