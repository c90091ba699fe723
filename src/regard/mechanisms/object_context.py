"""Object context: every position reads the positions of its object, and keeps what it was."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..core import grid, pairwise
from ..core.attention import Attention, Mechanism
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import positive, probability
from ..core.tracing import leaf

# Keys, which are the queries too, and values of each scale: b d h w, b e h w.
Pairs = list[tuple[Tensor, Tensor]]


class ObjectContext(Attention):
    r"""Gathers for each position what the positions like it hold, and joins that to the features.

    .. math::
        y = \beta\big(W [\textstyle\sum_s c_s; x]\big), \quad
        c_{s,i} = W_s \textstyle\sum_j a_{s,ij}\, v_s(x_j), \quad
        a_{s,ij} = \operatorname{softmax}_j \frac{k_s(x_i)^\top k_s(x_j)}{\sqrt d}

    where :math:`\beta` is a batch norm and a leaky ReLU, and k a convolution with a :math:`\beta`
    of its own that gives keys and queries alike. At a scale s above one, x is pooled by s before
    and c enlarged after. Section 3 of the paper, base form; `PyramidObjectContext` and
    `AtrousObjectContext` are the other two.

    Args:
        channels: :math:`C`.
        key_channels: :math:`d`; by default half of ``channels``.
        value_channels: Channels of the values; by default half of ``channels``.
        scales: The sides of the pools, one for each context that is summed.
        concat: Join the features to the context; if not, W sees the context alone.
        dropout: Rate of dropping whole channels of the output.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, map ``b n n`` for n positions, or a tuple of one for each scale, y as x.

    Raises:
        ValueError: a size is not positive, there is no scale, or the dropout is not a rate.

    >>> ObjectContext(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = Card(
        title="Object Context",
        paper="OCNet: Object Context for Semantic Segmentation",
        authors="Yuhui Yuan, Lang Huang, Jianyuan Guo, Chao Zhang, Xilin Chen, Jingdong Wang",
        venue="IJCV",
        year=2021,
        url="https://arxiv.org/abs/1809.00916",
        code="https://github.com/openseg-group/OCNet.pytorch",
        license="MIT",
        domain="spatial",
        computes="conv+matmul",
        applies="matmul",
        kind="relation",
        equivariant=("pixels",),
        train_differs=True,
        cost=dict(time="n^2 c + n c^2", memory="n c"),
        aliases=("ocnet", "ocnet_base", "ocnet_pyramid", "ocnet_asp", "object_context_pooling"),
        differs=(
            "In the authors' code, and here, one projection gives queries and keys, so that two "
            "positions score each other alike; in the paper each has its own.",
            "The activations are leaky ReLUs of slope 0.01, as in the authors' code; the paper's "
            "are ReLUs.",
            "The authors' fused norm scales by the absolute value of its weight, plus 1e-5; here, "
            "and in their plain one, the weight itself scales.",
            "A module loaded from the authors' code drops nothing: the rate of the dropout is one "
            "of training, and is no part of the weights.",
        ),
    )
    axes = Axes("b c h w", "b n n", range="softmax")

    def __init__(
        self,
        channels: int,
        key_channels: int | None = None,
        value_channels: int | None = None,
        *,
        scales: Sequence[int] = (1,),
        concat: bool = True,
        dropout: float = 0.05,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=channels)
        positive(channels=channels)
        half = max(channels // 2, 1)
        keys = half if key_channels is None else key_channels
        values = half if value_channels is None else value_channels
        positive(key_channels=keys)
        positive(value_channels=values)
        probability(dropout=dropout)
        self.scales = _several(scales)
        self.concat = concat
        self.scale = keys**-0.5
        axes = ["b n n" if s == 1 else f"b n{s} n{s}" for s in self.scales]
        self.axes = replace(self.axes, map=", ".join(axes))
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self.relations = nn.ModuleList(
            _Relation(channels, keys, values, **factory) for _ in self.scales
        )
        self.merge = _layer(2 * channels if concat else channels, channels, **factory)
        self.drop = nn.Dropout2d(dropout)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new parameters; every context starts at zero."""
        super().reset_parameters()
        _silence(self.relations)

    def prepare(self, x: Tensor) -> tuple[Tensor, Pairs]:
        pooled = (grid.max_pool(x, s) for s in self.scales)
        seen = (grid.check_norm_batch(z, type(self).__name__, self.training) for z in pooled)
        return x, [relation(z) for relation, z in zip(self.relations, seen, strict=True)]

    def attention(self, x: tuple[Tensor, Pairs]) -> Tensor | tuple[Tensor, ...]:
        rows = (k.flatten(2).mT for k, _ in x[1])  # b n d
        maps = [pairwise.attention_weights(k, k, scale=self.scale) for k in rows]
        return tuple(maps) if len(maps) > 1 else maps[0]

    def combine(self, a: Tensor | tuple[Tensor, ...], x: tuple[Tensor, Pairs]) -> Tensor:
        maps = a if len(self.scales) > 1 else (a,)
        return self.join(x[0], [_read(a, v) for a, (_, v) in zip(maps, x[1], strict=True)])

    def fused(self, x: tuple[Tensor, Pairs]) -> Tensor:
        return self.join(x[0], [_attend(k, v, self.scale) for k, v in x[1]])

    def join(self, x: Tensor, read: Sequence[Tensor]) -> Tensor:
        found = [relation.out(y) for relation, y in zip(self.relations, read, strict=True)]
        found = [
            grid.upsample_like(c, x) if s > 1 else c
            for s, c in zip(self.scales, found, strict=True)
        ]
        context = found[0]
        for other in found[1:]:
            context = context + other
        return self.drop(self.merge(torch.cat([context, x], 1) if self.concat else context))


class PyramidObjectContext(Attention):
    r"""Gathers context within the blocks of grids of several sizes, and joins all to the features.

    .. math::
        y = \beta\big(W [\beta(W_x x); c_1; \dots; c_S]\big), \quad
        c_{s,i} = W_s \textstyle\sum_{j \in B_s(i)} a_{s,ij}\, v_s(x_j)

    where :math:`B_s(i)` is the block of position i in a grid of :math:`s \times s`, and a the map
    of `ObjectContext` within it; section 3 of the paper, pyramid form.

    Args:
        channels: :math:`C`; the keys have half of them.
        scales: Blocks along each side, one number for each context.
        dropout: Rate of dropping whole channels of the output.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, map ``b n n`` for n positions and zero between blocks, or a tuple of one for
        each scale, y as x.

    Raises:
        ValueError: a size is not positive, there is no scale, or the dropout is not a rate.

    >>> PyramidObjectContext(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = replace(ObjectContext.card, equivariant=())
    axes = Axes("b c h w", "b n n, b n n, b n n, b n n", range="softmax")

    def __init__(
        self,
        channels: int,
        *,
        scales: Sequence[int] = (1, 2, 3, 6),
        dropout: float = 0.05,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=channels)
        positive(channels=channels)
        probability(dropout=dropout)
        self.scales = _several(scales)
        self.axes = replace(self.axes, map=", ".join(["b n n"] * len(self.scales)))
        keys, width = max(channels // 2, 1), channels * len(self.scales)
        self.scale = keys**-0.5
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self.widen = _layer(channels, width, **factory)
        self.relations = nn.ModuleList(
            _Relation(channels, keys, channels, **factory) for _ in self.scales
        )
        self.merge = _layer(2 * width, channels, **factory)
        self.drop = nn.Dropout2d(dropout)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new parameters; every context starts at zero."""
        super().reset_parameters()
        _silence(self.relations)

    def prepare(self, x: Tensor) -> tuple[Tensor, Pairs]:
        x = grid.check_norm_batch(x, type(self).__name__, self.training)
        return self.widen(x), [relation(x) for relation in self.relations]

    def attention(self, x: tuple[Tensor, Pairs]) -> Tensor | tuple[Tensor, ...]:
        maps = []
        for s, (k, _) in zip(self.scales, x[1], strict=True):
            rows = k.flatten(2).mT  # b n d
            mask = None if s == 1 else _same_block(k, s)
            maps.append(pairwise.attention_weights(rows, rows, scale=self.scale, mask=mask))
        return tuple(maps) if len(maps) > 1 else maps[0]

    def combine(self, a: Tensor | tuple[Tensor, ...], x: tuple[Tensor, Pairs]) -> Tensor:
        maps = a if len(self.scales) > 1 else (a,)
        return self.join(x[0], [_read(a, v) for a, (_, v) in zip(maps, x[1], strict=True)])

    def fused(self, x: tuple[Tensor, Pairs]) -> Tensor:
        pairs = zip(self.scales, x[1], strict=True)
        read = [_attend_in_blocks(k, v, self.scale, s) for s, (k, v) in pairs]
        return self.join(x[0], read)

    def join(self, wide: Tensor, read: Sequence[Tensor]) -> Tensor:
        found = [relation.out(y) for relation, y in zip(self.relations, read, strict=True)]
        return self.drop(self.merge(torch.cat([wide, *found], 1)))


class AtrousObjectContext(Mechanism):
    r"""Joins object context, a projection and dilated convolutions of the same features.

    .. math::
        y = \beta\big(W [\mathrm{OC}(\beta(W_0 * x)); \beta(W_1 x);
            \beta(W_2 *_{d_1} x); \beta(W_3 *_{d_2} x); \dots]\big)

    where OC is `ObjectContext` without the features joined, :math:`\beta` a batch norm and a leaky
    ReLU, and :math:`*_d` a :math:`3 \times 3` convolution dilated by d; section 3 of the paper,
    with atrous spatial pyramid pooling.

    Args:
        in_channels: Channels of x.
        hidden_dim: :math:`H`, the channels of each branch; the output has twice as many.
        dilations: The dilation of each convolution.
        scale: Side of the pool before the object context, which is enlarged after it.
        dropout: Rate of dropping whole channels of the output.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, y ``b d h w`` with d = 2H; the map is that of ``context``.

    Raises:
        ValueError: a size is not positive, there is no dilation, or the dropout is not a rate.

    >>> AtrousObjectContext(64, 16)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 32, 9, 7])
    """

    card = replace(ObjectContext.card, kind="head", equivariant=())
    axes = Axes("b c h w", "", output="b d h w", range="softmax")

    def __init__(
        self,
        in_channels: int,
        hidden_dim: int = 512,
        *,
        dilations: Sequence[int] = (12, 24, 36),
        scale: int = 2,
        dropout: float = 0.1,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=in_channels)
        positive(in_channels=in_channels, hidden_dim=hidden_dim, scale=scale)
        dilations = _several(dilations, "dilations")
        probability(dropout=dropout)
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self.before = _layer(in_channels, hidden_dim, 3, **factory)
        self.context = ObjectContext(
            hidden_dim, None, hidden_dim, scales=(scale,), concat=False, dropout=0.0, **factory
        )
        sides = [(1, 1), *((3, dilation) for dilation in dilations)]
        self.branches = nn.ModuleList(
            _layer(in_channels, hidden_dim, *side, bias=False, **factory) for side in sides
        )
        width = hidden_dim * (1 + len(sides))
        self.merge = _layer(width, 2 * hidden_dim, bias=False, **factory)
        self.drop = nn.Dropout2d(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Run the mechanism."""
        self.check(x)
        x = grid.check_norm_batch(x, type(self).__name__, self.training)
        seen = [self.context(self.before(x)), *(branch(x) for branch in self.branches)]
        return self.drop(self.merge(torch.cat(seen, 1)))


class _Relation(nn.Module):
    """The layers of one context: keys and values, and the projection of their sum."""

    def __init__(self, channels: int, keys: int, values: int, **factory: Any) -> None:
        super().__init__()
        # The authors run this layer twice, for queries and for keys: its norm moves by two steps.
        self.key = _layer(channels, keys, momentum=1 - 0.9**2, **factory)
        self.value = nn.Conv2d(channels, values, 1, **factory)
        self.out = nn.Conv2d(values, channels, 1, **factory)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.key(x), self.value(x)


def _layer(
    in_channels: int,
    out_channels: int,
    kernel_size: int = 1,
    dilation: int = 1,
    *,
    bias: bool = True,
    momentum: float = 0.1,
    **factory: Any,
) -> nn.Sequential:
    how: dict[str, Any] = {"padding": dilation * (kernel_size // 2), "dilation": dilation}
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size, bias=bias, **how, **factory),
        nn.BatchNorm2d(out_channels, momentum=momentum, **factory),
        nn.LeakyReLU(0.01),
    )


def _several(numbers: Sequence[int], name: str = "scales") -> tuple[int, ...]:
    if isinstance(numbers, int) or not numbers:
        raise ValueError(f"{name} must be one number or more in a sequence, got {numbers!r}")
    for number in numbers:
        positive(**{name: number})
    return tuple(numbers)


def _silence(relations: nn.ModuleList) -> None:
    for relation in relations:
        for parameter in relation.get_submodule("out").parameters():
            nn.init.zeros_(parameter)


def _read(a: Tensor, v: Tensor) -> Tensor:
    return (a @ v.flatten(2).mT).mT.unflatten(2, v.shape[2:])


def _attend(k: Tensor, v: Tensor, scale: float) -> Tensor:
    rows = k.flatten(2).mT  # b n d
    return pairwise.scaled_dot_product(rows, rows, v.flatten(2).mT, scale=scale).mT.unflatten(
        2, v.shape[2:]
    )


def _edges(n: int, s: int) -> list[int]:
    """Where blocks begin and end: the last takes what is left, and all if there are too few."""
    return [i * (n // s) for i in range(s)] + [n] if n >= s else [0, n]


@leaf
def _same_block(x: Tensor, s: int) -> Tensor:
    """Whether two positions lie in one block, ``n n``."""
    places = []
    for n in x.shape[2:]:
        i = torch.arange(n, device=x.device)
        places.append(sum((i >= edge).long() for edge in _edges(n, s)[1:-1]) + 0 * i)
    rows, columns = places
    block = (s * rows[:, None] + columns).flatten()
    return block[:, None] == block


@leaf
def _attend_in_blocks(k: Tensor, v: Tensor, scale: float, s: int) -> Tensor:
    if s == 1:
        return _attend(k, v, scale)
    rows, columns = (_edges(n, s) for n in k.shape[2:])
    bands = []
    for top, bottom in itertools.pairwise(rows):
        spans = [
            (..., slice(top, bottom), slice(left, right))
            for left, right in itertools.pairwise(columns)
        ]
        bands.append(torch.cat([_attend(k[span], v[span], scale) for span in spans], 3))
    return torch.cat(bands, 2)
