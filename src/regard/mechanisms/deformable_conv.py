"""Deformable convolution: each tap of the kernel chooses where it reads, and what that counts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from importlib import import_module
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import divides, one_of, per_axis, positive
from ..core.mixed_conv import Padding
from ..core.tracing import leaf

# Where the kernel is the reference's own: its layers of the offsets, of the logits, or of both.


@cache
def _kernel() -> Callable[..., Tensor] | None:
    """The compiled convolution of torchvision, looked for when it is first needed."""
    try:
        found = import_module("torchvision.ops").deform_conv2d
    except (ImportError, RuntimeError):  # the latter where it was built for another torch
        return None
    return found if hasattr(torch.ops.torchvision, "deform_conv2d") else None


@leaf
def deform(
    x: Tensor,
    offset: Tensor,
    modulator: Tensor | None,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> Tensor:
    """Convolve x where the taps were moved to, zeros outside; layout and type are those of x.

    In half precision a position would be off by a pixel: it is computed in single at least.

    Args:
        x: ``b c h w``.
        offset: ``b g k 2 y x``: down and to the right, for the g groups of channels and k taps.
        modulator: ``b g k y x``, or None.
        weight: ``o i r s``, the c channels being in groups of i.
        bias: ``o``, or None.
        stride: Down and to the right.
        padding: Zeros on each side.
        dilation: Steps between taps.
    """
    last = x.is_contiguous(memory_format=torch.channels_last)
    layout = torch.channels_last if last else torch.contiguous_format
    wide = torch.promote_types(x.dtype, torch.float32)
    given = (x, offset, modulator, weight, bias)
    how = stride, padding, dilation
    z, offset, modulator, weight, bias = (t if t is None else t.to(wide) for t in given)
    known = x.device.type in ("cpu", "cuda") and not torch.compiler.is_compiling()
    if known and (kernel := _kernel()) is not None:
        masks = modulator if modulator is None else modulator.flatten(1, 2)
        y = kernel(z, offset.flatten(1, 3), weight, bias, *how, masks)
    else:
        y = deform_by_gathering(z, offset, modulator, weight, bias, *how)
    return y.to(x.dtype).contiguous(memory_format=layout)


def deform_by_gathering(
    x: Tensor,
    offset: Tensor,
    modulator: Tensor | None,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> Tensor:
    """`deform` in torch alone, which any compiler and exporter understands.

    Not by `grid_sample`, whose coordinates from -1 to 1 round whole pixels to their neighbors:
    its gradients would be other ones where the offsets are zero, as they are at the start.
    """
    (b, c, h, w), (i, r, s) = x.shape, weight.shape[1:]
    groups, offset_groups = c // i, offset.shape[1]
    parts = math.lcm(groups, offset_groups)  # so that no part is in two groups of either kind
    factory = {"device": x.device, "dtype": x.dtype}

    def line(n: Any, i: int) -> Tensor:  # where the first tap reads, without its offset
        return torch.arange(n, **factory) * stride[i] - padding[i]

    def taps(n: int, i: int) -> Tensor:
        return torch.arange(n, **factory) * dilation[i]

    moved = offset.permute(3, 0, 4, 5, 1, 2)  # 2 b y x g k
    v = moved[0] + line(offset.shape[4], 0)[:, None, None, None] + taps(r, 0).repeat_interleave(s)
    u = moved[1] + line(offset.shape[5], 1)[:, None, None] + taps(s, 1).repeat(r)
    m = torch.ones((), **factory) if modulator is None else modulator.permute(0, 3, 4, 1, 2)
    top, left = v.floor(), u.floor()
    down, right = v - top, u - left
    # Every pixel of every part is a row of a table, each corner of every tap reads one of them.
    table = x.unflatten(1, (parts, -1)).permute(0, 3, 4, 1, 2).flatten(0, 3)  # (b h w p) c
    image = torch.arange(b, device=x.device)[:, None, None, None, None] * (h * w)
    part = torch.arange(parts, device=x.device)[:, None]
    columns = torch.zeros((), **factory)
    for row, near_v in ((top, 1 - down), (top + 1, down)):
        for column, near_u in ((left, 1 - right), (left + 1, right)):
            inside = (row >= 0) & (row < h) & (column >= 0) & (column < w)
            share = (near_v * near_u * inside * m).repeat_interleave(parts // offset_groups, 3)
            # What is outside, or no number, still needs an index.
            pixel = row.long().clamp(0, h - 1) * w + column.long().clamp(0, w - 1) + image
            pixel = pixel.repeat_interleave(parts // offset_groups, 3) * parts + part
            read = table.index_select(0, pixel.flatten()).unflatten(0, share.shape)
            columns = torch.addcmul(columns, share.unsqueeze(5), read)  # b y x p k c
    # The part of a channel is the slow axis of the columns, its tap the middle one.
    kernel = weight.unflatten(0, (groups, -1)).unflatten(2, (parts // groups, -1)).flatten(4)
    kernel = kernel.permute(0, 2, 4, 3, 1).flatten(1, 3)  # g (p k c) o
    rows = columns.flatten(0, 2).unflatten(1, (groups, -1)).flatten(2)  # (b y x) g (p k c)
    y = (rows.transpose(0, 1) @ kernel).transpose(0, 1).flatten(1)  # (b y x) o
    y = y.unflatten(0, (b, *offset.shape[4:])).permute(0, 3, 1, 2)
    return y if bias is None else y + bias[:, None, None]


class DeformableConv(Attention):
    r"""Convolves the input at places, and with weights, that another convolution proposes.

    .. math::
        y(p) = \textstyle\sum_k w_k\, m_k(p)\, x\big(p + p_k + \Delta_k(p)\big), \quad
        (\Delta, l) = W * x, \quad m = \sigma(l)

    where :math:`p_k` are the taps of a plain kernel, and x is bilinear between its pixels and zero
    outside; equation 1 of the paper, and without :math:`m` equations 2 to 4 of the first
    version (Dai and others, Deformable Convolutional Networks, ICCV 2017). Offsets and logits start
    at zero. The paper trains W at a tenth of the learning rate of the rest.

    A `torchvision.ops.DeformConv2d` gets offsets and modulators from elsewhere. It is loaded with
    offsets that start at zero, and without modulators; or with what the layer of its offsets
    saved, among its own entries, as ``offset.weight`` and ``offset.bias``, and that of the logits
    as ``mask.weight`` and ``mask.bias``, unless one layer gives both, the offsets first. Their
    ``offset_groups`` and ``modulator`` may stand among its arguments.

    Args:
        in_channels: Channels of x.
        out_channels: Channels of y; those of x by default.
        kernel_size: Side of the kernel, or one for each axis.
        stride: Stride, or one for each axis.
        padding: Zeros on each side, or so many for each axis; ``same`` keeps the size at a stride
            of one; ``valid`` adds none. By default the kernel is centerd, for which it has to be
            odd.
        dilation: Dilation, or one for each axis.
        groups: Groups of the convolution.
        offset_groups: Groups of channels, each with offsets and modulators of its own.
        modulator: How logits become modulators: a ``sigmoid``, which starts at a half; a
            ``doubled`` one, which starts as a plain convolution; or None, the first version.
        bias: Give the convolution a bias.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, maps offset ``b g k 2 y x`` (down and to the right, for the k taps, row by
        row) and modulator ``b g k y x``, y ``b o y x``.

    Raises:
        ValueError: a size is not positive, groups do not divide the channels, the modulator is
            unknown, the padding is negative or unknown, or missing for an even kernel, or is
            ``same`` at another stride.

    >>> DeformableConv(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = Card(
        title="Deformable Convolution",
        paper="Deformable ConvNets v2: More Deformable, Better Results",
        authors="Xizhou Zhu, Han Hu, Stephen Lin, Jifeng Dai",
        venue="CVPR",
        year=2019,
        url="https://arxiv.org/abs/1811.11168",
        code="https://github.com/open-mmlab/mmcv",
        license="Apache-2.0",
        domain="spatial",
        computes="conv",
        applies="sample",
        kind="convolution",
        cost=dict(time="n c^2", memory="n c"),
        aliases=("dcn", "dcnv1", "dcnv2", "deform_conv", "modulated_deform_conv"),
        differs=(
            "The paper's modulators are sigmoids and start at a half; the re-implementation that "
            "many took over doubles them (modulator='doubled'), to start as a plain convolution.",
            "The first version of 2017 has no modulators (modulator=None).",
            "Offsets and modulators come from one convolution, as in the authors' code; where a "
            "reference has two, they are stacked.",
        ),
    )
    axes = Axes(
        "b c h w", "offset: b g k 2 y x, modulator: b g k y x", output="b o y x", range="offset"
    )

    def __init__(
        self,
        in_channels: int,
        out_channels: int | None = None,
        kernel_size: int | Sequence[int] = 3,
        *,
        stride: int | Sequence[int] = 1,
        padding: Padding = None,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
        offset_groups: int = 1,
        modulator: Literal["sigmoid", "doubled"] | None = "sigmoid",
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=in_channels)
        out_channels = in_channels if out_channels is None else out_channels
        positive(in_channels=in_channels, out_channels=out_channels)
        divides(in_channels=in_channels, groups=groups)
        divides(out_channels=out_channels, groups=groups)
        divides(in_channels=in_channels, offset_groups=offset_groups)
        one_of(("sigmoid", "doubled", None), modulator=modulator)
        kernel = per_axis(2, 1, kernel_size=kernel_size)
        steps, dilation = per_axis(2, 1, stride=stride), per_axis(2, 1, dilation=dilation)
        reach = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        if isinstance(padding, str):
            one_of(("same", "valid"), padding=padding)
            if padding == "same" and steps != (1, 1):
                raise ValueError(f"padding 'same' needs a stride of 1, got {stride!r}")
        elif padding is None and any(n % 2 for n in reach):
            raise ValueError(f"kernel_size must be odd unless padding is given, got {kernel}")
        # Where it cannot be as much on both sides, `same` adds one more at the end.
        self.extra = tuple(n % 2 if padding == "same" else 0 for n in reach)
        if padding is None or padding == "same":
            padding = [n // 2 for n in reach]
        padding = per_axis(2, 0, padding=0 if padding == "valid" else padding)
        self.shape = (offset_groups, math.prod(kernel))
        self.modulator = modulator
        places = 2 * math.prod(self.shape)
        if modulator is None:
            self.axes = replace(self.axes, map="offset: b g k 2 y x")
        else:
            places += math.prod(self.shape)
        how = {"stride": steps, "padding": padding, "dilation": dilation}
        factory = {"device": device, "dtype": dtype}
        self.place = nn.Conv2d(in_channels, places, kernel, **how, **factory)
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel, **how, groups=groups, bias=bias, **factory
        )
        self.how = steps, padding, dilation
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw a new kernel whose taps stay where they are."""
        super().reset_parameters()
        nn.init.zeros_(self.place.weight)
        nn.init.zeros_(self.place.bias)

    def prepare(self, x: Tensor) -> Tensor:
        return pad(x, (0, self.extra[1], 0, self.extra[0])) if any(self.extra) else x

    def attention(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        z = self.place(x)
        (g, k), cut = self.shape, 2 * math.prod(self.shape)
        offset = z[:, :cut].unflatten(1, (g, k, 2))
        if self.modulator is None:
            return offset
        m = z[:, cut:].unflatten(1, (g, k)).sigmoid()
        return offset, 2 * m if self.modulator == "doubled" else m

    def combine(self, a: Tensor | tuple[Tensor, Tensor], x: Tensor) -> Tensor:
        offset, modulator = (a, None) if self.modulator is None else a
        return deform(x, offset, modulator, self.conv.weight, self.conv.bias, *self.how)
