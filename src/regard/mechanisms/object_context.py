"""Object context: self-attention over positions, concatenated with the features."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..core import grid, pairwise
from ..core.attention import Attention, Mechanism, names_itself
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import positive, probability
from ..core.tracing import leaf

Maps = Tensor | tuple[Tensor, ...]
# x and, for each scale, the keys, which are the queries too, and the values: b d h w, b e h w.
Prepared = tuple[Tensor, list[tuple[Tensor, Tensor]]]


class ObjectContext(Attention):
    r"""Computes a context for each position by self-attention, and fuses it with the features.

    .. math::
        y = \beta\big(W [\textstyle\sum_s c_s; x]\big), \quad
        c_{s,i} = W_s \textstyle\sum_j a_{s,ij}\, v_s(x_j), \quad
        a_{s,ij} = \operatorname{softmax}_j \frac{k_s(x_i)^\top k_s(x_j)}{\sqrt d}

    where :math:`\beta` is a batch norm and a leaky ReLU, and k a convolution with another
    :math:`\beta` that computes both keys and queries. At a scale s above one, x is max-pooled by s
    before and c is upsampled after. Section 3 of the paper, base form; `PyramidObjectContext` and
    `AtrousObjectContext` are the other two.

    In half precision, rounding can change which entry the softmax selects where scores are in
    the hundreds.

    Args:
        channels: :math:`C`.
        key_channels: :math:`d`; by default half of ``channels``.
        value_channels: Channels of the values; by default half of ``channels``.
        scales: The pooling sizes, one for each context that is summed.
        concat: Concatenate the features to the context; if not, W is applied to the context alone.
        dropout: Dropout rate of whole channels of the output.
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
            "In the authors' code, and here, queries and keys share a projection, so that the "
            "scores are symmetric; in the paper they have separate ones.",
            "The activations are leaky ReLUs of slope 0.01, as in the authors' code; the paper has "
            "ReLUs.",
            "The authors' fused norm scales by the absolute value of its weight, plus 1e-5; here, "
            "and in their plain norm, the weight itself scales.",
            "A module loaded from the authors' code has no dropout, because the rate is a setting "
            "of training and not part of the weights.",
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
        key_channels = half if key_channels is None else key_channels
        value_channels = half if value_channels is None else value_channels
        positive(key_channels=key_channels, value_channels=value_channels)
        probability(dropout=dropout)
        self.scales = _checked_sizes(scales=scales)
        self.concat = concat
        self.scale = key_channels**-0.5
        axes = ["b n n" if s == 1 else f"b n{s} n{s}" for s in self.scales]
        self.axes = replace(self.axes, map=", ".join(axes))
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self.relations = nn.ModuleList(
            _Relation(channels, key_channels, value_channels, **factory) for _ in self.scales
        )
        self.merge = _conv_norm(2 * channels if concat else channels, channels, **factory)
        self.drop = nn.Dropout2d(dropout)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new parameters; every context starts at zero."""
        super().reset_parameters()
        _zero_outputs(self.relations)

    def prepare(self, x: Tensor) -> Prepared:
        pairs = []
        for s, relation in zip(self.scales, self.relations, strict=True):
            pooled = grid.max_pool(x, s)
            pairs.append(relation(pooled))
        return x, pairs

    def attention(self, z: Prepared) -> Maps:
        _, pairs = z
        keys = (k.flatten(2).transpose(1, 2) for k, _ in pairs)  # b n d
        maps = [pairwise.attention_weights(k, k, scale=self.scale) for k in keys]
        return tuple(maps) if len(maps) > 1 else maps[0]

    def combine(self, a: Maps, z: Prepared) -> Tensor:
        x, pairs = z
        return self.fuse(x, _weighted_sums(a, pairs))

    def fused(self, z: Prepared) -> Tensor:
        x, pairs = z
        return self.fuse(x, [_attend(k, v, self.scale) for k, v in pairs])

    def fuse(self, x: Tensor, sums: Sequence[Tensor]) -> Tensor:
        """Project and add up the contexts of all scales, and fuse them with x."""
        contexts = []
        for s, relation, y in zip(self.scales, self.relations, sums, strict=True):
            c = relation.out(y)
            contexts.append(grid.upsample_like(c, x) if s > 1 else c)
        context = contexts[0]
        for other in contexts[1:]:
            context = context + other
        return self.drop(self.merge(torch.cat([context, x], 1) if self.concat else context))


class PyramidObjectContext(Attention):
    r"""Computes self-attention within the blocks of several grids, and fuses it with the features.

    .. math::
        y = \beta\big(W [\beta(W_x x); c_1; \dots; c_S]\big), \quad
        c_{s,i} = W_s \textstyle\sum_{j \in B_s(i)} a_{s,ij}\, v_s(x_j)

    where :math:`B_s(i)` is the block of position i in a grid of :math:`s \times s`, and a the map
    of `ObjectContext` within it; section 3 of the paper, pyramid form.

    In half precision, rounding can change which entry the softmax selects where scores are in
    the hundreds.

    Args:
        channels: :math:`C`; the keys have half as many.
        scales: Number of blocks along each side, for each context.
        dropout: Dropout rate of whole channels of the output.
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
        self.scales = _checked_sizes(scales=scales)
        self.axes = replace(self.axes, map=", ".join(["b n n"] * len(self.scales)))
        key_channels, hidden_dim = max(channels // 2, 1), channels * len(self.scales)
        self.scale = key_channels**-0.5
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self.widen = _conv_norm(channels, hidden_dim, **factory)
        self.relations = nn.ModuleList(
            _Relation(channels, key_channels, channels, **factory) for _ in self.scales
        )
        self.merge = _conv_norm(2 * hidden_dim, channels, **factory)
        self.drop = nn.Dropout2d(dropout)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new parameters; every context starts at zero."""
        super().reset_parameters()
        _zero_outputs(self.relations)

    def prepare(self, x: Tensor) -> Prepared:
        return self.widen(x), [relation(x) for relation in self.relations]

    def attention(self, z: Prepared) -> Maps:
        _, pairs = z
        maps = []
        for s, (k, _) in zip(self.scales, pairs, strict=True):
            mask = None if s == 1 else _same_block(k, s)
            k = k.flatten(2).transpose(1, 2)  # b n d
            maps.append(pairwise.attention_weights(k, k, scale=self.scale, mask=mask))
        return tuple(maps) if len(maps) > 1 else maps[0]

    def combine(self, a: Maps, z: Prepared) -> Tensor:
        x, pairs = z
        return self.fuse(x, _weighted_sums(a, pairs))

    def fused(self, z: Prepared) -> Tensor:
        x, pairs = z
        scaled = zip(self.scales, pairs, strict=True)
        return self.fuse(x, [_attend_in_blocks(k, v, self.scale, s) for s, (k, v) in scaled])

    def fuse(self, x: Tensor, sums: Sequence[Tensor]) -> Tensor:
        """Project the contexts, and fuse them with the projected features x."""
        contexts = [relation.out(y) for relation, y in zip(self.relations, sums, strict=True)]
        return self.drop(self.merge(torch.cat([x, *contexts], 1)))


class AtrousObjectContext(Mechanism):
    r"""Fuses object context with a projection and dilated convolutions of the same features.

    .. math::
        y = \beta\big(W [\mathrm{OC}(\beta(W_0 * x)); \beta(W_1 x);
            \beta(W_2 *_{d_1} x); \beta(W_3 *_{d_2} x); \dots]\big)

    where OC is `ObjectContext` with ``concat=False``, :math:`\beta` a batch norm and a leaky ReLU,
    and :math:`*_d` a :math:`3 \times 3` convolution dilated by d; section 3 of the paper,
    with atrous spatial pyramid pooling.

    Args:
        in_channels: Channels of x.
        hidden_dim: :math:`H`, the channels of each branch; the output has twice as many.
        dilations: The dilation of each convolution.
        scale: Pooling size before the object context, whose output is upsampled.
        dropout: Dropout rate of whole channels of the output.
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
        dilations = _checked_sizes(dilations=dilations)
        probability(dropout=dropout)
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self.before = _conv_norm(in_channels, hidden_dim, 3, **factory)
        self.context = ObjectContext(
            hidden_dim, None, hidden_dim, scales=(scale,), concat=False, dropout=0.0, **factory
        )
        kernels = [(1, 1), *((3, dilation) for dilation in dilations)]
        self.branches = nn.ModuleList(
            _conv_norm(in_channels, hidden_dim, kernel_size, dilation, bias=False, **factory)
            for kernel_size, dilation in kernels
        )
        branches = 1 + len(kernels)
        self.merge = _conv_norm(branches * hidden_dim, 2 * hidden_dim, bias=False, **factory)
        self.drop = nn.Dropout2d(dropout)

    @names_itself
    def forward(self, x: Tensor) -> Tensor:
        """Run the mechanism."""
        self.check(x)
        y = [self.context(self.before(x)), *(branch(x) for branch in self.branches)]
        return self.drop(self.merge(torch.cat(y, 1)))


class _Relation(nn.Module):
    """The layers of one context: keys, values and the output projection."""

    def __init__(
        self, channels: int, key_channels: int, value_channels: int, **factory: Any
    ) -> None:
        super().__init__()
        # The authors run this layer twice, for queries and for keys, which updates the running
        # statistics of its norm twice.
        self.key = _conv_norm(channels, key_channels, momentum=1 - 0.9**2, **factory)
        self.value = nn.Conv2d(channels, value_channels, 1, **factory)
        self.out = nn.Conv2d(value_channels, channels, 1, **factory)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.key(x), self.value(x)


def _conv_norm(
    in_channels: int,
    out_channels: int,
    kernel_size: int = 1,
    dilation: int = 1,
    *,
    bias: bool = True,
    momentum: float = 0.1,
    **factory: Any,
) -> nn.Sequential:
    """Return a convolution, a batch norm and a leaky ReLU."""
    options: dict[str, Any] = {"padding": dilation * (kernel_size // 2), "dilation": dilation}
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size, bias=bias, **options, **factory),
        nn.BatchNorm2d(out_channels, momentum=momentum, **factory),
        nn.LeakyReLU(0.01),
    )


def _checked_sizes(**given: Sequence[int]) -> tuple[int, ...]:
    """Return the sizes; raise if there are none, or one is not positive."""
    ((name, sizes),) = given.items()
    if isinstance(sizes, int) or not sizes:
        raise ValueError(f"{name} must be one number or more in a sequence, got {sizes!r}")
    for size in sizes:
        positive(**{name: size})
    return tuple(sizes)


def _zero_outputs(relations: nn.ModuleList) -> None:
    """Set the output projections to zero."""
    for relation in relations:
        for parameter in relation.get_submodule("out").parameters():
            nn.init.zeros_(parameter)


def _weighted_sums(a: Maps, pairs: Sequence[tuple[Tensor, Tensor]]) -> list[Tensor]:
    """Apply the map of each scale to its values."""
    maps = a if len(pairs) > 1 else (a,)
    return [
        (a @ v.flatten(2).transpose(1, 2)).transpose(-2, -1).unflatten(2, v.shape[2:])
        for a, (_, v) in zip(maps, pairs, strict=True)
    ]


def _attend(k: Tensor, v: Tensor, scale: float) -> Tensor:
    """Compute self-attention over all positions without the map."""
    size = v.shape[2:]
    k, v = k.flatten(2).transpose(1, 2), v.flatten(2).transpose(1, 2)  # b n d
    return pairwise.scaled_dot_product(k, k, v, scale=scale).transpose(-2, -1).unflatten(2, size)


def _edges(n: int, s: int) -> list[int]:
    """Return the bounds of s equal blocks and a rest in the last, or of one block if n < s."""
    return [i * (n // s) for i in range(s)] + [n] if n >= s else [0, n]


@leaf
def _same_block(x: Tensor, s: int) -> Tensor:
    """Return which pairs of positions are in the same block, ``n n``."""
    blocks = []
    for n in x.shape[2:]:
        i = torch.arange(n, device=x.device)
        blocks.append(sum((i >= edge).long() for edge in _edges(n, s)[1:-1]) + 0 * i)
    rows, columns = blocks
    block = (s * rows[:, None] + columns).flatten()
    return block[:, None] == block


@leaf
def _attend_in_blocks(k: Tensor, v: Tensor, scale: float, s: int) -> Tensor:
    """Compute self-attention within each block of an s by s grid, without the map."""
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
