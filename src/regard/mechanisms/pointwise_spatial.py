"""Point-wise spatial attention: each position says what it reads, and whom it tells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad

from ..core import grid, pairwise, precision
from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import above_zero, one_of, per_axis, positive, reduced
from ..core.tracing import leaf

DIRECTIONS = ("collect", "distribute")


class PointwiseSpatial(Attention):
    r"""Lets each position read all others and tell all others, by where they are from it.

    .. math::
        y = \Big[x;\, P\big[\textstyle\sum_j a^c_{ij} u_j;\, \sum_j a^d_{ij} v_j\big]\Big], \quad
        a^c_{ij} = \operatorname{softmax}_j w^c_{j-i} \cdot f(u_i), \quad
        a^d_{ij} = \operatorname{softmax}_j w^d_{i-j} \cdot f(v_j)

    where i collects by a map of its own, and j distributes by its own. Each of u and v (from x),
    f and P is a :math:`1 \times 1` convolution with batch norm and ReLU, and w has a vector for
    each offset of a mask around the position; what lies beyond the mask has the score 0. Section 3
    of the paper.

    Args:
        channels: :math:`C`.
        reduction: u, v and f have :math:`\lfloor C/r \rfloor` channels.
        hidden_dim: Their number itself, instead of ``reduction``.
        mask_size: Height and width of the mask, or one for both: :math:`(2h-1) \times (2w-1)` sees
            all of a map of :math:`h \times w`. With ``absolute``, height and width of the map.
        mode: ``collect``, ``distribute`` or ``both``.
        absolute: Give w a vector for each place instead of each offset; it is interpolated for a
            map of another size than the mask's.
        stride: Attend on a grid this many times coarser, by bilinear interpolation to it and back.
        normalize: Take the softmax over what is read; if not, the scores are the weights.
        divisor: What the sums are divided by; None stands for the number of positions.
        concat: Put x before the result, which makes :math:`2C` channels.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, map ``b y x m``: the m positions that each position of the (coarser) grid
        reads, once for each direction; y ``b 2c h w``, or as x without ``concat``.

    Raises:
        ValueError: a size is not positive, the reduction leaves no channel, the mode is unknown, or
            the divisor is not above zero.

    >>> PointwiseSpatial(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 128, 9, 7])
    """

    card = Card(
        title="Point-wise Spatial Attention",
        paper="PSANet: Point-wise Spatial Attention Network for Scene Parsing",
        authors=(
            "Hengshuang Zhao, Yi Zhang, Shu Liu, Jianping Shi, Chen Change Loy, Dahua Lin, Jiaya "
            "Jia"
        ),
        venue="ECCV",
        year=2018,
        url="https://hszhao.github.io/projects/psanet",
        code="https://github.com/hszhao/semseg",
        license="MIT",
        domain="spatial",
        computes="conv",
        applies="matmul",
        kind="relation",
        train_differs=True,
        cost=dict(time="n^2 c + n c^2", memory="n^2 + n c"),
        aliases=("psanet", "psa", "pointwise_spatial_attention"),
        differs=(
            "In the paper the scores are the weights and the sums are divided by the number of "
            "positions (normalize=False, divisor=None); the authors' code, and the default here, "
            "takes a softmax over what is read, in both directions, and divides by 1.",
            "The authors' code has one more convolution before the scores than the paper's figure.",
            "With a coarser grid the authors' code wants sides of a multiple of shrink plus one; "
            "here the result is brought to the size of x, whatever that is.",
            "The absolute form of the authors' code wants maps of the mask's size; here its "
            "weights are interpolated.",
        ),
    )
    axes = Axes(
        "b c h w", "collect: b y x m, distribute: b y x m", output="b o h w", range="softmax"
    )

    def __init__(
        self,
        channels: int,
        reduction: int = 4,
        *,
        hidden_dim: int | None = None,
        mask_size: int | Sequence[int] = 59,
        mode: Literal["collect", "distribute", "both"] = "both",
        absolute: bool = False,
        stride: int = 2,
        normalize: bool = True,
        divisor: float | None = 1.0,
        concat: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=channels)
        hidden_dim = reduced(channels, reduction, hidden_dim)
        mask = per_axis(2, 1, mask_size=mask_size)
        one_of((*DIRECTIONS, "both"), mode=mode)
        positive(stride=stride)
        if divisor is not None:
            above_zero(divisor=divisor)
        self.stride, self.divisor, self.concat = stride, divisor, concat
        self.axes = replace(
            self.axes,
            map=self.axes.map if mode == "both" else "b y x m",
            output="b o h w" if concat else "b c h w",
            range="softmax" if normalize else "real",
        )
        factory = {"device": device, "dtype": dtype}
        chosen = DIRECTIONS if mode == "both" else (mode,)
        how = {"absolute": absolute, "normalize": normalize, **factory}
        self.branches = nn.ModuleDict(
            {
                name: _Branch(channels, hidden_dim, mask, collect=name == "collect", **how)
                for name in chosen
            }
        )
        self.project = nn.Conv2d(len(chosen) * hidden_dim, channels, 1, bias=False, **factory)
        self.norm = nn.BatchNorm2d(channels, **factory)

    def prepare(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        # Coarsened behind the convolution, as in the authors' code.
        return x, [coarsen(branch.value(x), self.stride) for branch in self.branches.values()]

    def attention(self, x: tuple[Tensor, list[Tensor]]) -> Any:
        maps = [branch.attention(v) for branch, v in zip(self.branches.values(), x[1], strict=True)]
        return tuple(maps) if len(maps) > 1 else maps[0]

    def combine(self, a: Any, x: tuple[Tensor, list[Tensor]]) -> Tensor:
        maps = [a[0], a[1]] if len(x[1]) > 1 else [a]
        return self.join([read(a, v) for a, v in zip(maps, x[1], strict=True)], x[0])

    def fused(self, x: tuple[Tensor, list[Tensor]]) -> Tensor:
        # One direction after the other: of two maps only one is there at a time.
        pairs = zip(self.branches.values(), x[1], strict=True)
        return self.join([branch.fused(v) for branch, v in pairs], x[0])

    def join(self, parts: list[Tensor], x: Tensor) -> Tensor:
        y = torch.cat(parts, 1) if len(parts) > 1 else parts[0]
        if self.divisor != 1.0:
            y = y / (y.shape[2] * y.shape[3] if self.divisor is None else self.divisor)
        y = self.norm(self.project(y)).relu()
        if self.stride > 1:
            y = grid.upsample_like(y, x)
        return torch.cat([x, y], 1) if self.concat else y


class _Branch(nn.Module):
    """One direction: what is read, and the scores that a position gives to those around it."""

    def __init__(
        self,
        channels: int,
        hidden_dim: int,
        mask: tuple[int, ...],
        *,
        collect: bool,
        absolute: bool,
        normalize: bool,
        **factory: Any,
    ) -> None:
        super().__init__()
        self.mask, self.collect = mask, collect
        self.absolute, self.normalize = absolute, normalize

        def convolve(width: int) -> nn.Sequential:
            return nn.Sequential(
                nn.Conv2d(width, hidden_dim, 1, bias=False, **factory),
                nn.BatchNorm2d(hidden_dim, **factory),
                nn.ReLU(),
            )

        self.value, self.look = convolve(channels), convolve(hidden_dim)
        self.score = nn.Linear(hidden_dim, mask[0] * mask[1], False, **factory)

    def pairs(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """Queries and keys of the absolute form, one of which are the places' own."""
        z = (
            self.look(grid.check_norm_batch(v, PointwiseSpatial.__name__, self.training))
            .flatten(2)
            .mT
        )
        own = places(self.score.weight, self.mask, v)
        return (z, own) if self.collect else (own, z)  # b n d

    def attention(self, v: Tensor) -> Tensor:
        if self.absolute:
            q, k = self.pairs(v)
            a = pairwise.attention_weights(q, k) if self.normalize else q @ k.mT
        else:
            z = self.look(grid.check_norm_batch(v, PointwiseSpatial.__name__, self.training))
            a = around(z, self.score.weight.unflatten(0, self.mask))  # b i j, i looks at j
            if self.normalize:
                a = precision.softmax(a, 2 if self.collect else 1)
            a = a if self.collect else a.mT
        return a.unflatten(1, v.shape[2:])  # b y x m

    def fused(self, v: Tensor) -> Tensor:
        if not self.absolute:
            return read(self.attention(v), v)
        q, k = self.pairs(v)
        values = v.flatten(2).mT  # b n d
        if self.normalize:
            b = values.shape[0]
            y = pairwise.scaled_dot_product(q.expand(b, -1, -1), k.expand(b, -1, -1), values)
        else:
            y = q @ (k.mT @ values)  # linear in the number of positions
        return y.mT.unflatten(2, v.shape[2:])


def read(a: Tensor, v: Tensor) -> Tensor:
    """Sum the values of all positions by a map ``b y x m``."""
    return (v.flatten(2) @ a.flatten(1, 2).mT).unflatten(2, v.shape[2:])


@leaf
def coarsen(x: Tensor, step: int) -> Tensor:
    """Interpolate to a grid so many times coarser that keeps the corners where they are."""
    if step == 1:
        return x
    size = [(n - 1) // step + 1 for n in x.shape[2:]]
    return interpolate(x, size, mode="bilinear", align_corners=True)


@leaf
def places(weight: Tensor, mask: tuple[int, ...], like: Tensor) -> Tensor:
    """A vector for each position, ``1 n d``, out of those for the places of a mask, ``m d``."""
    size = like.shape[2:]
    # A compiled model is for every size: it has no second way.
    if torch.compiler.is_compiling() or tuple(size) != mask:
        plane = weight.mT.reshape(1, -1, *mask)
        plane = interpolate(plane, size, mode="bilinear", align_corners=True)
        return plane.flatten(2).mT
    return weight[None]


@leaf
def around(z: Tensor, weight: Tensor) -> Tensor:
    """The scores ``b n n`` that each position i gives to each j, by its offset from i.

    The weights are ``height width d``, the center for i itself; there is nothing beyond them.
    """
    b, _, h, w = z.shape
    height, width = weight.shape[:2]
    # How far the offsets between positions reach beyond the mask; below zero, it beyond them.
    top, left = h - 1 - (height - 1) // 2, w - 1 - (width - 1) // 2
    bottom, right = 2 * h - 1 - height - top, 2 * w - 1 - width - left
    edges = [left, right, top, bottom]
    cut = [torch.sym_max(-n, 0) for n in edges]  # no two positions are so far apart
    weight = weight[cut[2] : height - cut[3], cut[0] : width - cut[1]]
    scores = z.flatten(2).mT @ weight.flatten(0, 1).mT  # b n offsets
    if torch.compiler.is_compiling() or max(edges) > 0:
        added = [torch.sym_max(n, 0) for n in edges]
        scores = pad(scores.unflatten(2, weight.shape[:2]), added)
    # i finds j at the offset j - i: one position on, all others stand one offset earlier. So a
    # step of i is a step through the scores less one of the offset, and nothing need be moved.
    line = 2 * w - 1
    area = (2 * h - 1) * line
    steps = (h * w * area, w * area - line, area - 1, line, 1)
    first = (h - 1) * line + w - 1
    square = scores.contiguous().as_strided((b, h, w, h, w), steps, first)
    return square.reshape(b, h * w, h * w)
