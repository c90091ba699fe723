"""Deformable attention: keys and values are sampled at places that the queries choose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, grid_sample, interpolate

from ..core import grid, pairwise, precision, tokens, windows
from ..core.attention import Attention, Tap
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import divides, one_of, per_axis, positive, probability
from ..core.tracing import at_least, leaf

# x; q, k, v: b heads n d each; queries as a grid b c h w; places and their start: b g y x 2
Prepared = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]

HIDDEN = 32  # of the layers that compute biases from distances


class DeformableAttention(Attention):
    r"""Applies multi-head attention to positions that are moved by offsets from the queries.

    .. math::
        y = W_o [a_1 V_1; \dots; a_H V_H], \quad
        a_h = \operatorname{softmax}\big(d^{-1/2}\, Q_h K_h^\top + \beta_h(p_q - p)\big), \quad
        [K, V] = W\, \phi(x; p)

    where :math:`\phi` samples x bilinearly at places p, which start on a grid with a stride r and
    are moved by :math:`\theta(Q) = W_2 \operatorname{GELU}(\operatorname{LN}(
    \operatorname{DWConv}_k(Q)))` for each group of channels, and :math:`\beta` is a table that is
    sampled likewise; equations 2 to 7 of the paper.

    In half precision, rounding can change which entry the softmax selects where scores are in
    the hundreds, and places are rounded.

    Args:
        channels: :math:`C`.
        num_heads: :math:`H`.
        groups: Groups of channels with places of their own; they divide the heads.
        stride: :math:`r`.
        kernel_size: :math:`k`.
        offset_range: Largest offset, in steps of the grid; negative for offsets of any size, with
            places that are clamped to the image.
        offsets: Move the places; otherwise x is averaged over windows as large as the stride.
        positions: Biases :math:`\beta` from a ``table``, a ``fixed`` table of pairs of positions,
            or a ``mlp`` of the distances; or a ``convolution`` of the queries that is added to the
            output; or ``none``.
        size: Height and width that the tables are made for; they are interpolated for others.
        return_places: Return the places, and where they started, too.
        dropout: Dropout rate of the attention weights.
        out_dropout: Dropout rate of the output.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, map ``b heads n m`` for m sampled positions, y as x; the part
        ``tap_places`` is p, ``b g y x 2``, rows before columns, from -1 to 1. With
        ``return_places``, p and its start follow y.

    Raises:
        ValueError: a size is not positive, ``num_heads`` does not divide the channels, ``groups``
            does not divide the heads, a dropout is not a rate, or ``positions`` is unknown.

    >>> DeformableAttention(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = Card(
        title="Deformable attention",
        paper="Vision Transformer with Deformable Attention",
        authors="Zhuofan Xia, Xuran Pan, Shiji Song, Li Erran Li, Gao Huang",
        venue="CVPR",
        year=2022,
        url="https://arxiv.org/abs/2201.00520",
        code="https://github.com/LeapLabTHU/DAT",
        license="Apache-2.0",
        domain="spatial",
        computes="conv+matmul",
        applies="sample+matmul",
        kind="relation",
        cost=dict(time="n^2 c + n c^2", memory="n^2 + n c"),
        aliases=("dat", "dattention", "dat_attention", "deformable_self_attention"),
        differs=(
            "As in the authors' code, the places start half a step after those of an even grid, so "
            "that the last row and column lie outside of the image.",
            "A single row or column of places starts at the center of its step, where their code "
            "divides by zero.",
            "Their tables are for one size; here they are interpolated for others.",
        ),
    )
    axes = Axes("b c h w", "b heads n m", parts=dict(places="b g y x 2"), range="softmax")

    def __init__(
        self,
        channels: int,
        num_heads: int = 8,
        *,
        groups: int = 4,
        stride: int = 2,
        kernel_size: int = 5,
        offset_range: float = -1.0,
        offsets: bool = True,
        positions: Literal["table", "fixed", "mlp", "convolution", "none"] = "table",
        size: int | Sequence[int] = 14,
        return_places: bool = False,
        dropout: float = 0.0,
        out_dropout: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        divides(channels=channels, num_heads=num_heads)
        divides(num_heads=num_heads, groups=groups)
        super().__init__(c=channels, heads=num_heads)
        positive(stride=stride, kernel_size=kernel_size)
        one_of(("table", "fixed", "mlp", "convolution", "none"), positions=positions)
        probability(dropout=dropout, out_dropout=out_dropout)
        h, w = per_axis(2, 1, size=size)
        self.num_heads, self.groups, self.stride = num_heads, groups, stride
        self.kernel_size, self.offset_range, self.kind = kernel_size, offset_range, positions
        self.scale = (channels // num_heads) ** -0.5
        self.return_places = return_places
        if return_places:
            self.axes = replace(self.axes, output="b c h w, b g y x 2, b g y x 2")
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        width = channels // groups
        self.query = nn.Conv2d(channels, channels, 1, **factory)
        self.look = self.look_norm = self.offset = None
        if offsets:
            # As the authors do: no padding where the windows do not overlap.
            padding = 0 if kernel_size == stride else kernel_size // 2
            self.look = nn.Conv2d(
                width, width, kernel_size, stride, padding, groups=width, **factory
            )
            self.look_norm = nn.LayerNorm(width, **factory)
            self.offset = nn.Conv2d(width, 2, 1, bias=False, **factory)
        self.tap_places = Tap()
        self.key = nn.Conv2d(channels, channels, 1, **factory)
        self.value = nn.Conv2d(channels, channels, 1, **factory)
        if positions == "table":
            self.positions = nn.Parameter(torch.empty(num_heads, 2 * h - 1, 2 * w - 1, **factory))
        elif positions == "fixed":
            shape = num_heads, h * w, max(h // stride, 1) * max(w // stride, 1)
            self.positions = nn.Parameter(torch.empty(shape, **factory))
        elif positions == "mlp":
            self.position_hidden = nn.Linear(2, HIDDEN, **factory)
            self.position_out = nn.Linear(HIDDEN, num_heads // groups, bias=False, **factory)
        elif positions == "convolution":
            self.local = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, **factory)
        self.drop = nn.Dropout(dropout)
        self.out = nn.Conv2d(channels, channels, 1, **factory)
        self.drop_out = nn.Dropout(out_dropout)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the convolutions by He's rule, tables with a small spread; zero the biases."""
        super().reset_parameters()
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
        if self.kind in ("table", "fixed"):
            nn.init.trunc_normal_(self.positions, std=0.01)

    def prepare(self, x: Tensor) -> Prepared:
        queries = self.query(x)
        sampled, places, start = self.sampled(x, queries)
        q, k, v = (
            pairwise.split_heads(tokens.to_tokens(t), self.num_heads)
            for t in (queries, self.key(sampled), self.value(sampled))
        )
        return x, q, k, v, queries, places, start

    def attention(self, z: Prepared) -> Tensor:
        x, q, k, _, _, places, _ = z
        return pairwise.attention_weights(q, k, scale=self.scale, mask=self.bias(x, places))

    def combine(self, a: Tensor, z: Prepared) -> Tensor | tuple[Tensor, ...]:
        v = z[3]
        return self.join(self.drop(a) @ v, z)

    def fused(self, z: Prepared) -> Tensor | tuple[Tensor, ...]:
        x, q, k, v, _, places, _ = z
        y = pairwise.scaled_dot_product(
            q,
            k,
            v,
            scale=self.scale,
            mask=self.bias(x, places),
            dropout=self.drop.p if self.training else 0.0,
        )
        return self.join(y, z)

    def sampled(self, x: Tensor, queries: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return x at the chosen places, the places, and where they started."""
        if self.look is None or self.look_norm is None or self.offset is None:
            pooled = grid.avg_pool(x, self.stride)
            start = _start(pooled, pooled, self.groups)
            places = start.clamp(-1, 1) if self.offset_range < 0 else start
            return pooled, self.tap_places(places), start
        look = self.look(_by_group(queries, self.groups, self.look))
        look = gelu(self.look_norm(look.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))
        start = _start(look, x, self.groups)
        places = self.tap_places(_moved(start, self.offset(look), self.offset_range))
        return _sample(x, places, self.groups), places, start

    def bias(self, x: Tensor, places: Tensor) -> Tensor | None:
        """Return the biases by position, ``b heads n m``."""
        if self.kind == "table":
            return _from_table(self.positions, x, places)
        if self.kind == "fixed":
            return _resized(self.positions, x, places)
        if self.kind != "mlp":
            return None
        distance = windows.log_spaced(_distances(x, places) / 2).to(x.dtype)
        bias = self.position_out(self.position_hidden(distance).relu())  # b g n m heads
        return bias.permute(0, 1, 4, 2, 3).flatten(1, 2)

    def join(self, y: Tensor, z: Prepared) -> Tensor | tuple[Tensor, ...]:
        """Merge the heads ``b heads n d``, and project."""
        x, _, _, _, queries, places, start = z
        y = tokens.heads_to_grid(y, x)
        if self.kind == "convolution":
            y = y + self.local(queries)
        y = self.drop_out(self.out(y))
        return (y, places, start.clone()) if self.return_places else y


@leaf
def _by_group(queries: Tensor, groups: int, look: nn.Conv2d) -> Tensor:
    """Divide queries into groups, ``(b g) c h w``, at least as large as an unpadded kernel."""
    t = queries.unflatten(1, (groups, -1)).flatten(0, 1)
    return t if look.padding != (0, 0) else grid.fill_up(t, look.kernel_size[0])


@leaf
def _start(like: Tensor, x: Tensor, groups: int) -> Tensor:
    """Return where the places of a grid start, ``b g y x 2``."""
    wide = torch.promote_types(x.dtype, torch.float32)
    axes = [
        (torch.arange(n, device=x.device, dtype=wide) + 0.5) / at_least(n - 1, 1) * 2 - 1
        for n in like.shape[2:]
    ]
    places = torch.stack(torch.meshgrid(axes, indexing="ij"), -1).to(x.dtype)
    return places.expand(x.shape[0], groups, -1, -1, -1).contiguous()


@leaf
def _moved(start: Tensor, offset: Tensor, largest: float) -> Tensor:
    """Move places by offsets ``(b g) 2 y x``."""
    offset = offset.permute(0, 2, 3, 1).unflatten(0, start.shape[:2])
    if largest < 0:
        return (start + offset).clamp(-1, 1)
    rows, columns = (at_least(n - 1, 1) for n in start.shape[2:4])
    y, x = offset.tanh().unbind(-1)
    return start + largest * torch.stack([y / rows, x / columns], -1)


@leaf
def _sample(x: Tensor, places: Tensor, groups: int) -> Tensor:
    """Sample each group of channels at its places, with zeros outside of the image."""
    t = precision.widen(x).unflatten(1, (groups, -1)).flatten(0, 1)
    at = precision.widen(places).flatten(0, 1).flip(-1)
    return (
        grid_sample(t, at, align_corners=True).unflatten(0, (-1, groups)).flatten(1, 2).to(x.dtype)
    )


@leaf
def _distances(x: Tensor, places: Tensor) -> Tensor:
    """Return the distances from places to queries, ``b g n m 2``, in parts of half the image."""
    wide = torch.promote_types(x.dtype, torch.float32)
    axes = [
        torch.arange(n, device=x.device, dtype=wide) / at_least(n - 1, 1) * 2 - 1
        for n in x.shape[2:]
    ]
    queries = torch.stack(torch.meshgrid(axes, indexing="ij"), -1).flatten(0, 1)
    return queries[:, None] - precision.widen(places).flatten(2, 3).unsqueeze(2)


@leaf
def _from_table(table: Tensor, x: Tensor, places: Tensor) -> Tensor:
    """Sample a table ``heads h w`` at the distances; their range is that of the table."""
    b, groups = places.shape[:2]
    at = (_distances(x, places) / 2).flatten(0, 1).flip(-1)
    tables = precision.widen(table).unflatten(0, (groups, -1)).expand(b, -1, -1, -1, -1)
    bias = grid_sample(tables.flatten(0, 1), at, align_corners=True)  # (b g) heads n m
    return bias.unflatten(0, (-1, groups)).flatten(1, 2).to(x.dtype)


@leaf
def _resized(table: Tensor, x: Tensor, places: Tensor) -> Tensor:
    size = x.flatten(2).shape[2], places.flatten(2, 3).shape[2]
    return interpolate(table[None], size, mode="bilinear")
