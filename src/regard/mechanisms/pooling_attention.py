"""Pooling attention: queries, keys and values are pooled before they meet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from ..core import pairwise, relative, tokens
from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import above_zero, divides, one_of, per_axis, positive
from ..core.conv_norm import CONV
from ..core.initial import small_projections
from ..core.tracing import at_least, leaf

# x; a grid as large as the pooled queries; q and k with scores by position, q, v: b heads n d each
Prepared = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]
POOLS: dict[str, dict[int, type[nn.Module]]] = {
    "max": {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d},
    "avg": {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d},
}


class PoolingAttention(Attention):
    r"""Applies multi-head attention to pooled queries, keys and values.

    .. math::
        y = W_o [y_1; \dots; y_H], \quad
        y_h = \operatorname{softmax}\big(d^{-1/2}\, Q K^\top + Q \cdot R\big) V + Q, \quad
        Q = \operatorname{LN}(\operatorname{Pool}(W_q x))

    likewise K and V, where the heads share the pools and :math:`(Q \cdot R)_{ij}` is the sum of
    the products of :math:`Q_i` with an embedding of the distance from j to i along each axis;
    equations 1 to 4 of "MViTv2: Improved Multiscale Vision Transformers for Classification and
    Detection", which adds R and the residual Q to the paper's equation 1. A pool with a kernel and
    a stride of 1 is left out, with its norm.

    In half precision, rounding can change which entry the softmax selects where scores are in
    the hundreds.

    Args:
        channels: Channels of x.
        out_channels: Channels of y; ``channels`` by default.
        num_heads: :math:`H`.
        pool: A depthwise ``conv``, with a layer norm, or the ``max`` or the ``avg`` of a window.
        query_kernel: Kernel of the pool of queries, odd, one for all axes or one for each.
        query_stride: Its stride, likewise.
        key_kernel: Kernel of the pools of keys and values.
        key_stride: Their stride.
        pool_first: Pool x, divided into heads, and project then.
        size: Size of x that the embeddings of distances are made for; None for no embeddings. For
            a larger one they are interpolated.
        residual: Add Q.
        bias: Give the projections of queries, keys and values biases.
        grid_size: Take tokens of a grid of this size instead of a grid.
        class_token: The first token is no position of the grid: it is not pooled, and gets no
            embeddings and no residual; with a ``grid_size`` only.
        norm_eps: Added to the variances of the layer norms.
        dims: Axes of space and time: 1, 2 or 3.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c *`` (``dims`` axes of space and time), map ``b heads q k`` for q pooled queries and
        k pooled keys, y as x, or with ``out_channels`` and the size of the pooled queries. With a
        ``grid_size``, x is ``b n c`` and y ``b m c``.

    Raises:
        ValueError: a size is not positive, ``num_heads`` does not divide the channels, a kernel is
            even, ``norm_eps`` is not above zero, ``pool`` or ``dims`` is unknown, or there is a
            class token but no ``grid_size``.

    >>> PoolingAttention(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = Card(
        title="Pooling attention",
        paper="Multiscale Vision Transformers",
        authors=(
            "Haoqi Fan, Bo Xiong, Karttikeya Mangalam, Yanghao Li, Zhicheng Yan, Jitendra Malik, "
            "Christoph Feichtenhofer"
        ),
        venue="ICCV",
        year=2021,
        url="https://arxiv.org/abs/2104.11227",
        code="https://github.com/facebookresearch/mvit",
        license="Apache-2.0",
        domain="spatial",
        computes="conv+matmul",
        applies="matmul",
        kind="relation",
        cost=dict(time="n^2 c + n^2 h + n^2 w + n c^2", memory="n c + n h + n w"),
        aliases=("mhpa", "mvit", "mvitv2", "multiscale_attention", "multi_head_pooling_attention"),
        differs=(
            "The default is the form of the second version.",
            "The authors' code takes tokens and their grid; here a grid, or tokens of a grid of "
            "one size (grid_size).",
            "Their embeddings are for one size; here they are interpolated for larger ones.",
        ),
    )
    axes = Axes("b c *", "b heads q k", range="softmax")

    def __init__(
        self,
        channels: int,
        out_channels: int | None = None,
        *,
        num_heads: int = 8,
        pool: Literal["conv", "max", "avg"] = "conv",
        query_kernel: int | Sequence[int] = 3,
        query_stride: int | Sequence[int] = 1,
        key_kernel: int | Sequence[int] = 3,
        key_stride: int | Sequence[int] = 2,
        pool_first: bool = False,
        size: int | Sequence[int] | None = 14,
        residual: bool = True,
        bias: bool = True,
        grid_size: Sequence[int] | None = None,
        class_token: bool = False,
        norm_eps: float = 1e-6,
        dims: Literal[1, 2, 3] = 2,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        out_channels = channels if out_channels is None else out_channels
        positive(channels=channels)
        divides(out_channels=out_channels, num_heads=num_heads)
        one_of((1, 2, 3), dims=dims)
        one_of(("conv", "max", "avg"), pool=pool)
        above_zero(norm_eps=norm_eps)
        if pool_first:
            divides(channels=channels, num_heads=num_heads)
        fixed = {"c": channels, "heads": num_heads}
        if grid_size is not None:
            grid_size = per_axis(dims, 1, grid_size=grid_size)
            fixed["n"] = torch.Size(grid_size).numel() + class_token
        elif class_token:
            raise ValueError("class_token needs a grid_size, got None")
        super().__init__(**fixed)
        kernels = {
            "query": per_axis(dims, 1, query_kernel=query_kernel),
            "key": per_axis(dims, 1, key_kernel=key_kernel),
        }
        for name, kernel in kernels.items():
            if not all(side % 2 for side in kernel):
                raise ValueError(f"{name}_kernel must be odd, got {kernel}")
        strides = {
            "query": per_axis(dims, 1, query_stride=query_stride),
            "key": per_axis(dims, 1, key_stride=key_stride),
        }
        self.num_heads, self.pool_first, self.residual = num_heads, pool_first, residual
        self.grid_size, self.class_token, self.dims = grid_size, class_token, dims
        head_dim = out_channels // num_heads
        self.scale = head_dim**-0.5
        self.axes = self._axes(channels != out_channels, max(strides["query"]) > 1, dims)
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self.query = nn.Linear(channels, out_channels, bias, **factory)
        self.key = nn.Linear(channels, out_channels, bias, **factory)
        self.value = nn.Linear(channels, out_channels, bias, **factory)
        width = channels // num_heads if pool_first else head_dim
        pools, norms = {}, {}
        for part in ("query", "key", "value"):
            kind = "query" if part == "query" else "key"
            kernel, stride = kernels[kind], strides[kind]
            if max(kernel + stride) == 1:
                continue
            padding = tuple(side // 2 for side in kernel)
            if pool == "conv":
                pools[part] = CONV[dims](
                    width, width, kernel, stride, padding, groups=width, bias=False, **factory
                )
                norms[part] = nn.LayerNorm(width, norm_eps, **factory)
            else:
                pools[part] = POOLS[pool][dims](kernel, stride, padding)
        self.pools, self.norms = nn.ModuleDict(pools), nn.ModuleDict(norms)
        self.positions = nn.ParameterList()
        if size is not None:
            sizes = per_axis(dims, 1, size=size)
            for n, *both in zip(sizes, strides["query"], strides["key"], strict=True):
                rows = 2 * max(max(n // stride, 1) for stride in both) - 1
                self.positions.append(nn.Parameter(torch.empty(rows, head_dim, **factory)))
        self.out = nn.Linear(out_channels, out_channels, **factory)
        self.reset_parameters()

    def _axes(self, wider: bool, pooled: bool, dims: int) -> Axes:
        c = "o" if wider else "c"
        if self.grid_size is not None:
            return replace(self.axes, input="b n c", output=f"b {'m' if pooled else 'n'} {c}")
        own = self.axes.over(dims)
        grid = {1: "y", 2: "y x", 3: "s y x"}[dims] if pooled else own.input[4:]
        return replace(own, output=f"b {c} {grid}")

    def reset_parameters(self) -> None:
        """Draw projections and embeddings with a small spread; zero the biases."""
        super().reset_parameters()
        small_projections(self)
        for table in self.positions:
            nn.init.trunc_normal_(table, std=0.02)

    def prepare(self, x: Tensor) -> Prepared:
        t = x if self.grid_size is not None else tokens.to_tokens(x)
        grids, heads = {}, {}
        for part, layer in (("query", self.query), ("key", self.key), ("value", self.value)):
            y = pairwise.split_heads(t if self.pool_first else layer(t), self.num_heads)
            first, y = y[:, :, : int(self.class_token)], y[:, :, int(self.class_token) :]
            grids[part] = _as_grid(y, x, self.grid_size)  # (b heads) d *
            if part in self.pools:
                grids[part] = self.pools[part](grids[part])
            y = tokens.to_tokens(grids[part]).unflatten(0, (-1, self.num_heads))
            y = torch.cat([first, y], 2) if self.class_token else y
            y = self.norms[part](y) if part in self.norms else y
            if self.pool_first:
                y = pairwise.split_heads(layer(pairwise.merge_heads(y)), self.num_heads)
            heads[part] = y
        q, k, v = heads.values()
        asking, asked = self.with_positions(q, k, grids["query"], grids["key"])
        return x, grids["query"], asking, asked, q, v

    def attention(self, z: Prepared) -> Tensor:
        _, _, q, k, _, _ = z
        return pairwise.attention_weights(q, k)

    def combine(self, a: Tensor, z: Prepared) -> Tensor:
        *_, v = z
        return self.join(a @ v, z)

    def fused(self, z: Prepared) -> Tensor:
        _, _, q, k, _, v = z
        return self.join(pairwise.scaled_dot_product(q, k, v), z)

    def with_positions(
        self, q: Tensor, k: Tensor, asking: Tensor, asked: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return scaled queries, and keys, with the scores by position as further channels."""
        scaled = q * self.scale
        if not len(self.positions):
            return scaled, k
        skip = int(self.class_token)
        scores = [
            relative.along(q[:, :, skip:], asking, axis, _by_distance(table, asking, asked, axis))
            for axis, table in enumerate(self.positions)
        ]
        q_long, k_long = relative.extended(
            scaled[:, :, skip:], k[:, :, skip:], scores, asked.shape[2:]
        )
        if not skip:
            return q_long, k_long
        return _with_first(scaled, q_long), _with_first(k, k_long)

    def join(self, y: Tensor, z: Prepared) -> Tensor:
        """Add the queries to the heads ``b heads n d``, merge and project."""
        x, grid, _, _, q, _ = z
        if self.residual:
            y = _plus_rest(y, q) if self.class_token else y + q
        y = self.out(pairwise.merge_heads(y))
        return y if self.grid_size is not None else _to_grid(y, grid, x)


@leaf
def _as_grid(y: Tensor, x: Tensor, size: Sequence[int] | None) -> Tensor:
    """Return heads ``b heads n d`` as a grid ``(b heads) d *``."""
    return y.flatten(0, 1).transpose(1, 2).unflatten(2, x.shape[2:] if size is None else size)


@leaf
def _to_grid(y: Tensor, grid: Tensor, x: Tensor) -> Tensor:
    """Return tokens as a grid of the size of one, laid out like x."""
    return tokens.laid_out_like(y.transpose(1, 2).unflatten(2, grid.shape[2:]), x)


@leaf
def _by_distance(table: Tensor, asking: Tensor, asked: Tensor, axis: int) -> Tensor:
    """Return the embeddings of the distances from keys to queries, ``q k d``."""
    q, k = asking.shape[axis + 2], asked.shape[axis + 2]
    most = q + at_least(k - q, 0)  # the larger one
    places = torch.arange(q, device=table.device)[:, None] * most // q
    distance = places + (k - 1 - torch.arange(k, device=table.device)) * most // k
    rows = len(table) + at_least(2 * most - 1 - len(table), 0)
    return relative.resampled(table, rows)[distance]


@leaf
def _with_first(x: Tensor, rest: Tensor) -> Tensor:
    """Put the first token before tokens that have more channels."""
    return torch.cat([pad(x[:, :, :1], (0, rest.shape[3] - x.shape[3])), rest], 2)


@leaf
def _plus_rest(y: Tensor, q: Tensor) -> Tensor:
    """Add all tokens but the first."""
    return y + pad(q[:, :, 1:], (0, 0, 1, 0))
