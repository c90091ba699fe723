"""Multi-scale deformable attention: each query reads a few learned points of several features."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import grid_sample

from ..core import precision, tokens
from ..core.attention import Mechanism, Tap, names_itself
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import divides, positive
from ..core.tracing import leaf


class Prepared(NamedTuple):
    """Queries, the places that they read, from -1 to 1, and the values of all levels."""

    query: Tensor  # b n c
    places: Tensor  # b n heads s p 2
    values: Any  # s tensors b c h w


class MultiScaleDeformable(Mechanism):
    r"""Lets each query read a pyramid of features at a few points around a point of its own.

    .. math::
        y_q = W_o \textstyle\sum_{s,p} a_{qsp}\, v_s(r_q + \Delta_{qsp}), \quad
        a_q = \operatorname{softmax}_{sp}(W_a q), \quad \Delta_q = W_\Delta q, \quad v = W_v x

    for each head, with bilinear interpolation between pixels and zeros outside; equation 3 of the
    paper. Offsets :math:`\Delta` are in pixels of their level, or, around a box, in p-ths of half
    its width and height.

    It has a forward of its own because it takes queries, points and any number of features; those
    are separate inputs, so that each has named axes.

    In half precision, places are rounded with the queries, and so lie a part of a pixel aside.

    Args:
        embed_dim: :math:`C`.
        num_heads: Number of heads.
        num_levels: Number of features.
        num_points: Points that a query reads of each level, for each head.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        query ``b n c``; points ``b n s 2``, from 0 to 1 to the right and down, for each of the s
        levels, or boxes ``b n s 4`` (center, width, height); levels ``b c y0 x0``, ``b c y1 x1``
        and so on; mask ``b m`` over the positions of all levels, True where they count; map
        ``b n heads s p``, y as the query; the part ``tap_offset`` ``b n heads s p 2``.

    Raises:
        ValueError: a size is not positive, or ``num_heads`` does not divide ``embed_dim``.

    >>> attention = MultiScaleDeformable(64, num_levels=2)
    >>> query, points = torch.randn(2, 5, 64), torch.rand(2, 5, 2, 2)
    >>> attention(query, points, torch.randn(2, 64, 9, 7), torch.randn(2, 64, 5, 4)).shape
    torch.Size([2, 5, 64])
    """

    card = Card(
        title="Multi-scale deformable attention",
        paper="Deformable DETR: Deformable Transformers for End-to-End Object Detection",
        authors="Xizhou Zhu, Weijie Su, Lewei Lu, Bin Li, Xiaogang Wang, Jifeng Dai",
        venue="ICLR",
        year=2021,
        url="https://arxiv.org/abs/2010.04159",
        code="https://github.com/fundamentalvision/Deformable-DETR",
        license="Apache-2.0",
        domain="spatial",
        computes="fc",
        applies="sample",
        kind="levels",
        equivariant=("pixels",),
        independent=("pixels",),
        cost=dict(time="n c^2", memory="n c"),
        aliases=("msda", "ms_deform_attn", "msdeformattn", "deformable_detr"),
    )
    axes = Axes(
        "query: b n c, points: b n s 2, level0: b c y0 x0, level1: b c y1 x1, "
        "level2: b c y2 x2, level3: b c y3 x3",
        "b n heads s p",
        output="b n c",
        parts=dict(offset="b n heads s p 2"),
        range="unit",
    )

    def __init__(
        self,
        embed_dim: int,
        num_heads: int = 8,
        *,
        num_levels: int = 4,
        num_points: int = 4,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=embed_dim, heads=num_heads, s=num_levels, p=num_points)
        positive(num_levels=num_levels, num_points=num_points)
        divides(embed_dim=embed_dim, num_heads=num_heads)
        self.num_heads, self.num_levels, self.num_points = num_heads, num_levels, num_points
        levels = [f"level{i}: b c y{i} x{i}" for i in range(num_levels)]
        named = ", ".join(["query: b n c, points: b n s 2", *levels])
        self.axes = replace(self.axes, input=named)
        factory = {"device": device, "dtype": dtype}
        numbers = num_heads * num_levels * num_points
        self.offset = nn.Linear(embed_dim, 2 * numbers, **factory)
        self.score = nn.Linear(embed_dim, numbers, **factory)
        self.value = nn.Linear(embed_dim, embed_dim, **factory)
        self.out = nn.Linear(embed_dim, embed_dim, **factory)
        self.tap = Tap()
        self.tap_offset = Tap()
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new parameters; the points of a head start in a row, each head's to another side."""
        super().reset_parameters()
        for layer in (self.value, self.out):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        for layer in (self.offset, self.score):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        bias = self.offset.bias
        angle = torch.arange(self.num_heads, device=bias.device) * (2 * math.pi / self.num_heads)
        side = torch.stack([angle.cos(), angle.sin()], 1)
        side = side / side.abs().amax(1, keepdim=True)
        steps = torch.arange(1, self.num_points + 1, device=bias.device)[:, None]
        start = (side[:, None, None] * steps).expand(-1, self.num_levels, -1, -1)
        with torch.no_grad():
            bias.copy_(start.flatten())

    @names_itself
    def forward(
        self, query: Tensor, points: Tensor, *levels: Tensor, mask: Tensor | None = None
    ) -> Tensor:
        """Check the inputs, then let the queries read the levels, the finest first."""
        self.check_inputs(query, points, levels, mask)
        # By index: torch.fx cannot iterate over a symbol.
        z = self.prepare(query, points, *(levels[i] for i in range(self.num_levels)), mask=mask)
        return self.combine(self.tap(self.attention(z)), z)

    def prepare(
        self, query: Tensor, points: Tensor, *levels: Tensor, mask: Tensor | None = None
    ) -> Prepared:
        """Compute the places that the queries read, and the values of all levels."""
        shape = (self.num_heads, self.num_levels, self.num_points, 2)
        offset = self.tap_offset(self.offset(query).unflatten(2, shape))
        positions = torch.cat([level.flatten(2) for level in levels], 2).transpose(1, 2)
        values = _as_levels(self.value(positions), mask, *levels)
        return Prepared(query, _places(points, offset, *levels), values)

    def attention(self, z: Prepared) -> Tensor:
        """g: the weights of the points, which sum to one over all levels."""
        scores = self.score(z.query).unflatten(2, (self.num_heads, -1))
        return precision.softmax(scores, 3).unflatten(3, (self.num_levels, self.num_points))

    def combine(self, a: Tensor, z: Prepared) -> Tensor:
        """f: the weighted sum of what the points read."""
        y = _read(z.values[0], z.places, a, 0)
        for i in range(1, self.num_levels):
            y = y + _read(z.values[i], z.places, a, i)
        return self.out(y)

    def check_inputs(
        self, query: Tensor, points: Tensor, levels: tuple[Tensor, ...], mask: Tensor | None
    ) -> None:
        """Raise `ValueError` or `TypeError` for inputs that do not fit."""
        if isinstance(levels, torch.fx.Proxy):
            return
        who = type(self).__name__
        if len(levels) != self.num_levels:
            raise ValueError(f"{who}: expected {self.num_levels} levels, got {len(levels)}")
        boxes = isinstance(points, Tensor) and points.dim() == 4 and points.shape[3] == 4
        self.check(query, points[..., :2] if boxes else points, *levels)
        if mask is not None:
            if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
                got = getattr(mask, "dtype", type(mask).__name__)
                raise TypeError(f"{who}: mask: expected bool (True = counts), got {got}")
            want = (query.shape[0], sum(x.shape[2] * x.shape[3] for x in levels))
            if mask.shape != want:
                raise ValueError(f"{who}: mask: expected (b m) = {want}, got {tuple(mask.shape)}")


@leaf
def _as_levels(v: Tensor, mask: Tensor | None, *levels: Tensor) -> list[Tensor]:
    """Lay out the values of all positions ``b m c`` as the levels, zero where masked."""
    if mask is not None:
        v = v.masked_fill(~mask.unsqueeze(2), 0.0)
    parts = v.transpose(1, 2).split([x.shape[2] * x.shape[3] for x in levels], 2)
    return [tokens.image_like(part, x) for part, x in zip(parts, levels, strict=True)]


@leaf
def _places(points: Tensor, offset: Tensor, *levels: Tensor) -> Tensor:
    """Return the places from -1 to 1, the edges of a level; in single precision at least."""
    points, offset = precision.widen(points)[:, :, None, :, None], precision.widen(offset)
    if points.shape[-1] == 4:
        place = points[..., :2] + offset * points[..., 2:] / (2 * offset.shape[4])
    else:
        parts = [
            torch.stack([part[..., 0] / x.shape[3], part[..., 1] / x.shape[2]], 4)
            for part, x in zip(offset.unbind(3), levels, strict=True)
        ]
        place = points + torch.stack(parts, 3)
    return 2 * place - 1


@leaf
def _read(v: Tensor, places: Tensor, a: Tensor, level: int) -> Tensor:
    """Return the weighted sums of what the queries read of a level: ``b n c``."""
    heads = places.shape[2]
    z = precision.widen(v).unflatten(1, (heads, -1)).flatten(0, 1)  # (b heads) d h w
    at = places[:, :, :, level].transpose(1, 2).flatten(0, 1)  # (b heads) n p 2
    read = grid_sample(z, at.to(z.dtype), align_corners=False)  # (b heads) d n p
    weights = a[:, :, :, level].transpose(1, 2).flatten(0, 1).unsqueeze(1)
    y = (read * weights).sum(3).unflatten(0, (-1, heads))  # b heads d n
    return y.flatten(1, 2).transpose(1, 2).to(v.dtype)
