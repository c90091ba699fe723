"""Deformable convolution: a convolution with learned offsets and weights of its sampling points."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from importlib import import_module
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import divides, one_of, per_axis, positive
from ..core.mixed_conv import Padding
from ..core.tracing import leaf, recording


class DeformableConv(Attention):
    r"""Convolves x at offsets, and with modulating weights, computed by another convolution.

    .. math::
        y(p) = \textstyle\sum_k w_k\, m_k(p)\, x\big(p + p_k + \Delta_k(p)\big), \quad
        (\Delta, l) = W * x, \quad m = \sigma(l)

    where :math:`p_k` are the positions of a regular kernel, and x is interpolated bilinearly and
    zero outside; equation 1 of the paper, and without :math:`m` equations 2 to 4 of the first
    version (Dai and others, Deformable Convolutional Networks, ICCV 2017). Offsets and logits start
    at zero. The paper trains W at a tenth of the learning rate of the rest.

    A `torchvision.ops.DeformConv2d` takes offsets and modulators as inputs. It is loaded with
    offsets that start at zero, and without modulators. To load the layers that compute them too,
    add their entries to its own: ``offset.weight`` and ``offset.bias``, and for the logits
    ``mask.weight`` and ``mask.bias``, unless one layer computes both, the offsets first. Their
    ``offset_groups`` and ``modulator`` may be given with its arguments.

    In half precision, the sampled positions are rounded by a part of a pixel.

    Args:
        in_channels: Channels of x.
        out_channels: Channels of y; those of x by default.
        kernel_size: Side of the kernel, or one for each axis.
        stride: Stride, or one for each axis.
        padding: Zeros on each side, or one number for each axis; ``same`` keeps the size at a
            stride of one; ``valid`` adds none. By default the kernel is centered and must be odd.
        dilation: Dilation, or one for each axis.
        groups: Groups of the convolution.
        offset_groups: Groups of channels, each with its own offsets and modulators.
        modulator: How logits become modulators: a ``sigmoid``, which starts at a half; a
            ``doubled`` sigmoid, which starts as a plain convolution; or None for no modulators.
        bias: Give the convolution a bias.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, maps offset ``b g k 2 y x`` (down and to the right, for the k positions of
        the kernel, row by row) and modulator ``b g k y x``, y ``b o y x``.

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
            "The paper's modulators are sigmoids and start at a half; a widely copied re-"
            "implementation doubles them (modulator='doubled'), to start as a plain convolution.",
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
        strides, dilation = per_axis(2, 1, stride=stride), per_axis(2, 1, dilation=dilation)
        extent = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        if isinstance(padding, str):
            one_of(("same", "valid"), padding=padding)
            if padding == "same" and strides != (1, 1):
                raise ValueError(f"padding 'same' needs a stride of 1, got {stride!r}")
        elif padding is None and any(n % 2 for n in extent):
            raise ValueError(f"kernel_size must be odd unless padding is given, got {kernel}")
        # If the padding is odd, `same` adds the remaining zero at the end.
        self.extra_padding = tuple(n % 2 if padding == "same" else 0 for n in extent)
        if padding is None or padding == "same":
            padding = [n // 2 for n in extent]
        padding = per_axis(2, 0, padding=0 if padding == "valid" else padding)
        self.offset_groups, self.points = offset_groups, math.prod(kernel)
        self.modulator = modulator
        if modulator is None:
            self.axes = replace(self.axes, map="offset: b g k 2 y x")
        per_point = 2 if modulator is None else 3  # two offsets and one logit
        place_channels = per_point * offset_groups * self.points
        options = {"stride": strides, "padding": padding, "dilation": dilation}
        factory = {"device": device, "dtype": dtype}
        self.place = nn.Conv2d(in_channels, place_channels, kernel, **options, **factory)
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel, **options, groups=groups, bias=bias, **factory
        )
        self.options = strides, padding, dilation
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw a new kernel; offsets and logits start at zero."""
        super().reset_parameters()
        nn.init.zeros_(self.place.weight)
        nn.init.zeros_(self.place.bias)

    def start_from(self, convolution: nn.Conv2d) -> None:
        """Take kernel and bias, unless the kernel has another size or other groups.

        As in the authors' code: without modulators, or with doubled ones, y is what it was;
        ``sigmoid`` modulators, all of them a half, halve all but the bias.
        """
        if self.conv.weight.shape != convolution.weight.shape:
            return
        with torch.no_grad():
            self.conv.weight.copy_(convolution.weight)
            if self.conv.bias is not None:
                bias = convolution.bias
                self.conv.bias.zero_() if bias is None else self.conv.bias.copy_(bias)

    def prepare(self, x: Tensor) -> Tensor:
        down, right = self.extra_padding
        return pad(x, (0, right, 0, down)) if down or right else x

    def attention(self, z: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        numbers = self.place(z)
        g, k = self.offset_groups, self.points
        offset = numbers[:, : 2 * g * k].unflatten(1, (g, k, 2))
        if self.modulator is None:
            return offset
        m = numbers[:, 2 * g * k :].unflatten(1, (g, k)).sigmoid()
        return offset, 2 * m if self.modulator == "doubled" else m

    def combine(self, a: Tensor | tuple[Tensor, Tensor], z: Tensor) -> Tensor:
        offset, modulator = (a, None) if self.modulator is None else a
        return deform(z, offset, modulator, self.conv.weight, self.conv.bias, *self.options)


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
    """Convolve x at the sampling points; layout and dtype of the output are those of x.

    In half precision a coordinate could be off by a pixel: all is computed in single at least.

    Args:
        x: ``b c h w``, zero outside.
        offset: ``b g k 2 y x``: down and to the right, for g groups of channels and k points.
        modulator: ``b g k y x``, or None.
        weight: ``o i r s``, where groups of i channels divide the c channels.
        bias: ``o``, or None.
        stride: Down and to the right.
        padding: Zeros on each side.
        dilation: Spacing of the kernel's points.
    """
    channels_last = x.is_contiguous(memory_format=torch.channels_last)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    dtype = torch.promote_types(x.dtype, torch.float32)
    tensors = (x, offset, modulator, weight, bias)
    options = stride, padding, dilation
    z, offset, modulator, weight, bias = (t if t is None else t.to(dtype) for t in tensors)
    supported = x.device.type in ("cpu", "cuda") and not recording()
    if supported and (kernel := _kernel()) is not None:
        mask = modulator if modulator is None else modulator.flatten(1, 2)
        y = kernel(z, offset.flatten(1, 3), weight, bias, *options, mask)
    else:
        y = deform_by_gathering(z, offset, modulator, weight, bias, *options)
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
    """Compute `deform` with torch operators that every compiler and exporter supports.

    Not `grid_sample`: its coordinates from -1 to 1 can round an integer pixel to a neighbor, which
    changes the gradients of zero offsets, as they are at the start.
    """
    (b, c, h, w), (i, r, s) = x.shape, weight.shape[1:]
    groups, offset_groups = c // i, offset.shape[1]
    parts = math.lcm(groups, offset_groups)  # so that no part is in two groups of either kind
    factory = {"device": x.device, "dtype": x.dtype}

    def starts(n: int, axis: int) -> Tensor:  # the first point of each window
        return torch.arange(n, **factory) * stride[axis] - padding[axis]

    def points(n: int, axis: int) -> Tensor:
        return torch.arange(n, **factory) * dilation[axis]

    d = offset.permute(3, 0, 4, 5, 1, 2)  # 2 b y x g k
    v = d[0] + starts(offset.shape[4], 0)[:, None, None, None] + points(r, 0).repeat_interleave(s)
    u = d[1] + starts(offset.shape[5], 1)[:, None, None] + points(s, 1).repeat(r)
    m = torch.ones((), **factory) if modulator is None else modulator.permute(0, 3, 4, 1, 2)
    top, left = v.floor(), u.floor()
    down, right = v - top, u - left
    # Each pixel of each part is a row of a table; bilinear sampling reads four rows per point.
    table = x.unflatten(1, (parts, -1)).permute(0, 3, 4, 1, 2).flatten(0, 3)  # (b h w p) c
    image = torch.arange(b, device=x.device)[:, None, None, None, None] * (h * w)
    part = torch.arange(parts, device=x.device)[:, None]
    columns = torch.zeros((), **factory)
    for row, near_v in ((top, 1 - down), (top + 1, down)):
        for column, near_u in ((left, 1 - right), (left + 1, right)):
            inside = (row >= 0) & (row < h) & (column >= 0) & (column < w)
            share = (near_v * near_u * inside * m).repeat_interleave(parts // offset_groups, 3)
            # Points outside the image, or NaN, still need a valid index.
            pixel = row.long().clamp(0, h - 1) * w + column.long().clamp(0, w - 1) + image
            pixel = pixel.repeat_interleave(parts // offset_groups, 3) * parts + part
            read = table.index_select(0, pixel.flatten()).unflatten(0, share.shape)
            columns = torch.addcmul(columns, share.unsqueeze(5), read)  # b y x p k c
    # Order the weights as the columns: part, kernel point, channel of the part.
    kernel = weight.unflatten(0, (groups, -1)).unflatten(2, (parts // groups, -1)).flatten(4)
    kernel = kernel.permute(0, 2, 4, 3, 1).flatten(1, 3)  # g (p k c) o
    rows = columns.flatten(0, 2).unflatten(1, (groups, -1)).flatten(2)  # (b y x) g (p k c)
    y = (rows.transpose(0, 1) @ kernel).transpose(0, 1).flatten(1)  # (b y x) o
    y = y.unflatten(0, (b, *offset.shape[4:])).permute(0, 3, 1, 2)
    return y if bias is None else y + bias[:, None, None]


@cache
def _kernel() -> Callable[..., Tensor] | None:
    """Return torchvision's compiled operator, imported when first needed; None without one."""
    try:
        found = import_module("torchvision.ops").deform_conv2d
    except (ImportError, RuntimeError):  # RuntimeError: it was built for another torch
        return None
    return found if hasattr(torch.ops.torchvision, "deform_conv2d") else None
