"""ODConv: a convolution whose kernel is weighed in four ways, differently for each image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn

from ..core import grid, precision
from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import above_zero, one_of, per_axis, positive
from ..core.mixed_conv import MixedConv, Padding

INPUT = {1: "b c l", 2: "b c h w", 3: "b c t h w"}
OUTPUT = {1: "b o x", 2: "b o y x", 3: "b o z y x"}
SPATIAL = {1: "b i", 2: "b i j", 3: "b i j k"}


class ODConv(Attention):
    r"""Convolves each image with a mixture of kernels, weighed by input, output and position too.

    .. math::
        y = \big(\textstyle\sum_k a^k_k\, a^f \odot a^c \odot a^s \odot W_k\big) * x

    .. math::
        a^c, a^f, a^s = \sigma\big((A z + b)/\tau\big), \quad
        a^k = \operatorname{softmax}\big((A_k z + b_k)/\tau\big), \quad
        z = \delta\big(\mathrm{BN}(W \bar x)\big)

    with one weight for each channel of x, each channel of y, each position of the kernel and each
    kernel; the bar averages over positions and :math:`\delta` is ReLU; equation 3 of the paper.
    Weights of which there would be one only are left out, and those of y's channels for depthwise
    convolutions. A high temperature :math:`\tau`, which the paper lowers from 30 to 1 in the first
    epochs, lets all kernels learn: set ``temperature``.

    Args:
        in_channels: Channels of x.
        out_channels: Channels of y; those of x by default.
        kernel_size: Side of the kernels, or one for each axis.
        num_kernels: Number of kernels to mix.
        dims: Axes of space and time: 1, 2 or 3.
        reduction: The attention has :math:`\max(\lfloor C/r \rfloor, m)` hidden channels.
        min_hidden_dim: :math:`m`.
        temperature: :math:`\tau`.
        stride: Stride, or one for each axis.
        padding: Zeros on each side, or one number for each axis; ``same`` keeps the size, or
            divides it by the stride and rounds up; ``valid`` adds none. By default the kernel is
            centered and must be odd.
        dilation: Dilation, or one for each axis.
        groups: Groups of the convolution.
        bias: Add a bias, which starts at zero; the authors' layer has none.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c *`` (``dims`` axes of space and time), maps channel ``b c 1*``, filter ``b o 1*``,
        spatial ``b i j`` and kernel ``b e``, y ``b o *``, whose size depends on stride and padding.

    Raises:
        ValueError: a size is not positive, the groups do not divide the channels, the padding is
            negative or unknown, or missing for an even kernel, the temperature is not above zero,
            or the number of axes is unknown.

    >>> ODConv(64, kernel_size=3)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = Card(
        title="Omni-Dimensional Dynamic Convolution",
        paper="Omni-Dimensional Dynamic Convolution",
        authors="Chao Li, Aojun Zhou, Anbang Yao",
        venue="ICLR",
        year=2022,
        url="https://openreview.net/forum?id=DmpCfq6Mg39",
        code="https://github.com/OSVAI/ODConv",
        license="Apache-2.0",
        domain="branch",
        computes="pool+fc",
        applies="select",
        kind="convolution",
        map_invariant=("pixels",),
        train_differs=True,
        cost=dict(time="n c^2", memory="n c"),
        aliases=("od_conv", "odconv2d", "omni_dimensional", "omni_dimensional_dynamic_conv"),
        differs=(
            "A new module has the temperature of a trained one, 1, as in the authors' code.",
            "The weights of channels are applied to x and y, as in the authors' code, which is the "
            "same.",
        ),
    )
    axes = Axes(
        "b c h w",
        "channel: b c 1 1, filter: b o 1 1, spatial: b i j, kernel: b e",
        output="b o y x",
        range="unit",
    )

    def __init__(
        self,
        in_channels: int,
        out_channels: int | None = None,
        kernel_size: int | Sequence[int] = 3,
        *,
        num_kernels: int = 4,
        dims: Literal[1, 2, 3] = 2,
        reduction: int = 16,
        min_hidden_dim: int = 16,
        temperature: float = 1.0,
        stride: int | Sequence[int] = 1,
        padding: Padding = None,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
        bias: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=in_channels)
        out_channels = in_channels if out_channels is None else out_channels
        positive(in_channels=in_channels, num_kernels=num_kernels)
        positive(reduction=reduction, min_hidden_dim=min_hidden_dim)
        one_of((1, 2, 3), dims=dims)
        above_zero(temperature=temperature)
        self.temperature = temperature
        self.kernel = per_axis(dims, 1, kernel_size=kernel_size)
        hidden_dim = max(in_channels // reduction, min_hidden_dim)
        factory = {"device": device, "dtype": dtype}
        self.mixture = MixedConv(
            in_channels,
            out_channels,
            kernel_size,
            num_kernels,
            dims=dims,
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=groups,
            **factory,
        )
        self.squeeze = nn.Linear(in_channels, hidden_dim, bias=False, **factory)
        self.norm = nn.BatchNorm1d(hidden_dim, **factory)
        taps = self.mixture.weight[0, 0].numel() * groups // in_channels
        ones = " 1" * dims
        found = {"channel": (in_channels, f"b c{ones}")}
        if not groups == in_channels == out_channels:
            found["filter"] = (out_channels, f"b o{ones}")
        if taps > 1:
            found["spatial"] = (taps, SPATIAL[dims])
        if num_kernels > 1:
            found["kernel"] = (num_kernels, "b e")
        self.weigh = nn.ModuleDict(
            {name: nn.Linear(hidden_dim, width, **factory) for name, (width, _) in found.items()}
        )
        self.bias = nn.Parameter(torch.zeros(out_channels, **factory)) if bias else None
        maps = ", ".join(f"{name}: {axes}" for name, (_, axes) in found.items())
        self.axes = replace(self.axes, input=INPUT[dims], map=maps, output=OUTPUT[dims])

    def reset_parameters(self) -> None:
        """Draw new kernels and layers; a bias starts at zero."""
        super().reset_parameters()
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def start_from(self, convolution: nn.Conv2d) -> None:
        """Copy it into every kernel, and weigh so that y is what it was for every input.

        Not if the kernels have another size or other groups. All weights but those of the kernels
        start at a half, which larger kernels make up for.
        """
        halves = [layer for name, layer in self.weigh.items() if name != "kernel"]
        if self.mixture.copy_from(convolution, 2.0 ** len(halves)):
            for layer in halves:
                for parameter in layer.parameters():
                    nn.init.zeros_(parameter)
            if self.bias is not None and convolution.bias is not None:
                with torch.no_grad():
                    self.bias.copy_(convolution.bias)

    def attention(self, x: Tensor) -> tuple[Tensor, ...]:
        z = self.norm(self.squeeze(grid.mean(x))).relu()
        maps = []
        for name, layer in self.weigh.items():
            scores = layer(z) / self.temperature
            if name == "kernel":
                maps.append(precision.softmax(scores, 1))
            elif name == "spatial":
                maps.append(scores.sigmoid().unflatten(1, self.kernel))
            else:
                maps.append(grid.broadcast_gate(scores.sigmoid(), x))
        return tuple(maps)

    def combine(self, a: tuple[Tensor, ...], x: Tensor) -> Tensor:
        maps = dict(zip(self.weigh, a, strict=True))
        kernel = maps.get("kernel")
        if kernel is None:
            kernel = torch.ones_like(maps["channel"].flatten(1)[:, :1])
        y = self.mixture(x * maps["channel"], kernel, maps.get("spatial"))
        y = y * maps["filter"] if "filter" in maps else y
        return y if self.bias is None else y + grid.broadcast_gate(self.bias[None], y)
