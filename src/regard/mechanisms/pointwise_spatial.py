"""Point-wise spatial attention: each position predicts its attention map over all others."""

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
from ..core.conv_norm import conv_norm
from ..core.tracing import at_least, leaf, recording

DIRECTIONS = ("collect", "distribute")

Maps = Tensor | tuple[Tensor, ...]
Prepared = tuple[Tensor, list[Tensor]]  # x and, for each direction, the values


class PointwiseSpatial(Attention):
    r"""Predicts, at each position, attention weights from and to all others by their offset.

    .. math::
        y = \Big[x;\, P\big[\textstyle\sum_j a^c_{ij} u_j;\, \sum_j a^d_{ij} v_j\big]\Big], \quad
        a^c_{ij} = \operatorname{softmax}_j w^c_{j-i} \cdot f(u_i), \quad
        a^d_{ij} = \operatorname{softmax}_j w^d_{i-j} \cdot f(v_j)

    where :math:`a^c` is predicted at the position i that collects, and :math:`a^d` at the position
    j that distributes. Each of u and v (from x), f and P is a :math:`1 \times 1` convolution with
    batch norm and ReLU, and w has a vector for each offset within a mask around the position;
    positions outside the mask have the score 0. Section 3 of the paper.

    Args:
        channels: :math:`C`.
        reduction: u, v and f have :math:`\lfloor C/r \rfloor` channels.
        hidden_dim: The number of these channels, instead of ``reduction``.
        mask_size: Height and width of the mask, or one number for both;
            :math:`(2h-1) \times (2w-1)` covers an image of :math:`h \times w`. With ``absolute``,
            height and width of the image.
        mode: ``collect``, ``distribute`` or ``both``.
        absolute: w has a vector for each position instead of each offset, interpolated if the image
            is not of the mask's size.
        stride: Attend on a grid this many times coarser, by bilinear interpolation to it and back.
        normalize: Apply a softmax to the scores; if not, the scores are the weights.
        divisor: What the sums are divided by; the number of positions if None.
        concat: Concatenate x and the result, to :math:`2C` channels.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, map ``b y x m``: the weights of m positions for each position of the
        (coarser) grid, one map for each direction; y ``b 2c h w``, or as x without ``concat``.

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
            "applies a softmax in both directions, and divides by 1.",
            "The authors' code has one more convolution before the scores than the paper's figure.",
            "With a coarser grid the authors' code needs a height and width of a multiple of the "
            "stride plus one; here the result is interpolated to any size of x.",
            "The absolute form of the authors' code needs images of the mask's size; here its "
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
        directions = DIRECTIONS if mode == "both" else (mode,)
        options = {"absolute": absolute, "normalize": normalize, **factory}
        self.branches = nn.ModuleDict(
            {
                name: _Branch(channels, hidden_dim, mask, collect=name == "collect", **options)
                for name in directions
            }
        )
        self.project = nn.Conv2d(len(directions) * hidden_dim, channels, 1, bias=False, **factory)
        self.norm = nn.BatchNorm2d(channels, **factory)

    def prepare(self, x: Tensor) -> Prepared:
        # Downsampled after the convolution, as in the authors' code.
        values = [_downsample(branch.value(x), self.stride) for branch in self.branches.values()]
        return x, values

    def attention(self, z: Prepared) -> Maps:
        _, values = z
        branches = self.branches.values()
        maps = [branch.attention(v) for branch, v in zip(branches, values, strict=True)]
        return tuple(maps) if len(maps) > 1 else maps[0]

    def combine(self, a: Maps, z: Prepared) -> Tensor:
        x, values = z
        maps = [a[0], a[1]] if len(values) > 1 else [a]
        return self.fuse([_weighted_sum(a, v) for a, v in zip(maps, values, strict=True)], x)

    def fused(self, z: Prepared) -> Tensor:
        x, values = z
        # One direction after the other, so that only one map is in memory at a time.
        branches = self.branches.values()
        return self.fuse([branch.fused(v) for branch, v in zip(branches, values, strict=True)], x)

    def fuse(self, sums: list[Tensor], x: Tensor) -> Tensor:
        """Project the weighted sums of all directions, and fuse them with x."""
        y = torch.cat(sums, 1) if len(sums) > 1 else sums[0]
        if self.divisor != 1.0:
            y = y / (y.shape[2] * y.shape[3] if self.divisor is None else self.divisor)
        y = self.norm(self.project(y)).relu()
        if self.stride > 1:
            y = grid.upsample_like(y, x)
        return torch.cat([x, y], 1) if self.concat else y


class _Branch(nn.Module):
    """One direction: the values, and the scores predicted from them."""

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

        self.value = conv_norm(channels, hidden_dim, activation=nn.ReLU(), **factory)
        self.look = conv_norm(hidden_dim, hidden_dim, activation=nn.ReLU(), **factory)
        self.score = nn.Linear(hidden_dim, mask[0] * mask[1], False, **factory)

    def attention(self, v: Tensor) -> Tensor:
        if self.absolute:
            q, k = self.queries_and_keys(v)
            a = pairwise.attention_weights(q, k) if self.normalize else q @ k.transpose(-2, -1)
        else:
            a = _relative_scores(self.look(v), self.score.weight.unflatten(0, self.mask))
            if self.normalize:
                a = precision.softmax(a, 2 if self.collect else 1)
            a = a if self.collect else a.transpose(-2, -1)
        return a.unflatten(1, v.shape[2:])  # b y x m

    def fused(self, v: Tensor) -> Tensor:
        if not self.absolute:
            return _weighted_sum(self.attention(v), v)
        q, k = self.queries_and_keys(v)
        values = v.flatten(2).transpose(1, 2)  # b n d
        if self.normalize:
            b = values.shape[0]
            y = pairwise.scaled_dot_product(q.expand(b, -1, -1), k.expand(b, -1, -1), values)
        else:
            y = q @ (k.transpose(-2, -1) @ values)  # linear in the number of positions
        return y.transpose(-2, -1).unflatten(2, v.shape[2:])

    def queries_and_keys(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """Return queries and keys of the absolute form; one of them are the position vectors."""
        z = self.look(v).flatten(2).transpose(1, 2)  # b n d
        positions = _position_vectors(self.score.weight, self.mask, v)
        return (z, positions) if self.collect else (positions, z)


def _weighted_sum(a: Tensor, v: Tensor) -> Tensor:
    """Sum the values of all positions, weighted by a map ``b y x m``."""
    return (v.flatten(2) @ a.flatten(1, 2).transpose(-2, -1)).unflatten(2, v.shape[2:])


@leaf
def _downsample(x: Tensor, stride: int) -> Tensor:
    """Interpolate to a grid ``stride`` times coarser, with aligned corners."""
    if stride == 1:
        return x
    size = [(n - 1) // stride + 1 for n in x.shape[2:]]
    return interpolate(x, size, mode="bilinear", align_corners=True)


@leaf
def _position_vectors(weight: Tensor, mask: tuple[int, ...], like: Tensor) -> Tensor:
    """Interpolate the vectors ``m d`` of a mask to the positions of an image, ``1 n d``."""
    size = like.shape[2:]
    # A compiled model serves every size, so it must not branch on one.
    if recording() or tuple(size) != mask:
        plane = weight.transpose(-2, -1).reshape(1, -1, *mask)
        plane = interpolate(plane, size, mode="bilinear", align_corners=True)
        return plane.flatten(2).transpose(1, 2)
    return weight[None]


@leaf
def _relative_scores(z: Tensor, weight: Tensor) -> Tensor:
    """Return the scores ``b i j`` of each position j, predicted at i by the offset of j from i.

    The weights are ``height width d``, with the offset 0 in the center; scores outside are 0.
    """
    b, _, h, w = z.shape
    height, width = weight.shape[:2]
    # How many offsets lie outside the mask on each side; if negative, how much of it is unused.
    top, left = h - 1 - (height - 1) // 2, w - 1 - (width - 1) // 2
    bottom, right = 2 * h - 1 - height - top, 2 * w - 1 - width - left
    edges = [left, right, top, bottom]
    cut = [at_least(-n, 0) for n in edges]
    weight = weight[cut[2] : height - cut[3], cut[0] : width - cut[1]]
    scores = z.flatten(2).transpose(1, 2) @ weight.flatten(0, 1).transpose(-2, -1)  # b n offsets
    if recording() or max(edges) > 0:
        added = [at_least(n, 0) for n in edges]
        scores = pad(scores.unflatten(2, weight.shape[:2]), added)
    # The score of j at i is at offset j - i: moving i by one moves the offsets by minus one. With
    # strides that do so, the result is a view, and nothing is copied.
    line = 2 * w - 1
    if torch.jit.is_tracing():  # a trace would keep the strides of one size: look the offsets up
        rows, columns = (torch.arange(n, device=z.device) for n in (h, w))
        place = ((h - 1 + rows) * line + w - 1)[:, None] + columns  # h w, of offset 0 from there
        moved = (rows * line)[:, None] + columns
        place = place.flatten() - moved.reshape(-1, 1)
        return scores.flatten(2).gather(2, place.expand(b, -1, -1))
    area = (2 * h - 1) * line
    strides = (h * w * area, w * area - line, area - 1, line, 1)
    first = (h - 1) * line + w - 1
    square = scores.contiguous().as_strided((b, h, w, h, w), strides, first)
    return square.reshape(b, h * w, h * w)
