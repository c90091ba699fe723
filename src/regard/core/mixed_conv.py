"""Convolution of each image with its own mixture of kernels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, Literal, SupportsIndex

import torch
from torch import Tensor, nn
from torch.nn.functional import conv1d, conv2d, conv3d, pad

from . import grid
from .check import divides, one_of, per_axis, positive
from .tracing import at_least, leaf

CONV = {1: conv1d, 2: conv2d, 3: conv3d}
Padding = SupportsIndex | Sequence[int] | Literal["same", "valid"] | None


class MixedConv(nn.Module):
    """Convolves each image with its own mixture of kernels, whose weights are an input.

    Args:
        in_channels: Channels of x.
        out_channels: Channels of y; those of x by default.
        kernel_size: Side of the kernels, or one for each axis.
        kernels: Number of kernels to mix.
        dims: Axes of space and time: 1, 2 or 3.
        stride: Stride, or one for each axis.
        padding: Zeros on each side, or one number for each axis, or ``same``, ``valid`` or None, as
            in `CondConv`.
        dilation: Dilation, or one for each axis.
        groups: Groups of the convolution.
        bias: Give the convolution a bias.
        mix_bias: Mix the kernels' biases too; if not, all share one.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c *``, the weights of the mixture ``b k``, y ``b o *``.

    >>> MixedConv(8, 12, 3, kernels=4)(torch.randn(2, 8, 9, 7), torch.rand(2, 4)).shape
    torch.Size([2, 12, 9, 7])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int | None,
        kernel_size: int | Sequence[int],
        kernels: int,
        *,
        dims: int = 2,
        stride: int | Sequence[int] = 1,
        padding: Padding = None,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
        bias: bool = False,
        mix_bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        out_channels = in_channels if out_channels is None else out_channels
        positive(in_channels=in_channels, out_channels=out_channels, kernels=kernels)
        divides(in_channels=in_channels, groups=groups)
        divides(out_channels=out_channels, groups=groups)
        kernel = per_axis(dims, 1, kernel_size=kernel_size)
        self.stride = per_axis(dims, 1, stride=stride)
        self.dilation = per_axis(dims, 1, dilation=dilation)
        self.groups = groups
        if isinstance(padding, str):
            one_of(("same", "valid"), padding=padding)
            self.padding = padding
        elif padding is not None:
            self.padding = per_axis(dims, 0, padding=padding)
        else:
            reach = [d * (k - 1) for d, k in zip(self.dilation, kernel, strict=True)]
            if any(n % 2 for n in reach):
                raise ValueError(f"kernel_size must be odd unless padding is given, got {kernel}")
            self.padding = tuple(n // 2 for n in reach)
        factory = {"device": device, "dtype": dtype}
        self.shape = (in_channels // groups, *kernel)
        # Flat: a parameter of five axes would break a model's to(memory_format=channels_last).
        size = (kernels, out_channels, math.prod(self.shape))
        self.weight = nn.Parameter(torch.empty(size, **factory))
        size = (kernels, out_channels) if mix_bias else (out_channels,)
        self.bias = nn.Parameter(torch.empty(size, **factory)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialize each kernel as that of a single convolution."""
        bound = self.weight.shape[2] ** -0.5
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def copy_from(self, convolution: nn.Conv2d, scale: float = 1.0) -> bool:
        """Make each kernel and bias that of a convolution, times ``scale``; but not a shared bias.

        Return whether that is possible: not for a kernel of another size or in other groups.
        """
        kernel = convolution.weight.detach()
        if kernel.shape[1:] != self.shape:
            return False
        with torch.no_grad():
            self.weight.copy_(scale * kernel.flatten(1))
            if self.bias is not None:
                own = self.bias.new_zeros(()) if convolution.bias is None else convolution.bias
                self.bias.copy_(scale * own if self.bias.dim() == 2 else own)
        return True

    def forward(self, x: Tensor, a: Tensor, taps: Tensor | None = None) -> Tensor:
        """Convolve ``x`` with the kernels mixed by ``a``, and scaled by ``taps``.

        Args:
            x: ``b c *``.
            a: The weights of the mixture ``b k``.
            taps: A factor for each position in the mixture's kernel, ``b *``.
        """
        geometry = self.shape, self.stride, self.padding, self.dilation, self.groups
        return convolve(x, a, self.weight, self.bias, *geometry, taps)

    def flat(self, state: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
        """Return a state dict in which the kernels of that name have the shape of `weight`."""
        return {**state, name: state[name].reshape(self.weight.shape)}


@leaf
def convolve(
    x: Tensor,
    a: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    shape: tuple[int, ...],
    stride: tuple[int, ...],
    padding: str | tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int,
    taps: Tensor | None = None,
) -> Tensor:
    """Convolve each image with its mixture of kernels; y has the memory format of x."""
    dims = x.dim() - 2
    last = dims == 2 and x.is_contiguous(memory_format=torch.channels_last)
    if padding == "same":
        x = pad(x, _around(x, shape[1:], stride, dilation))
    geometry = stride, 0 if isinstance(padding, str) else padding, dilation
    if bias is not None:
        bias = a @ bias if bias.dim() == 2 else bias.expand(x.shape[0], -1)  # b o
    # Recorded groups cannot depend on the batch, nor can there be none.
    fixed = torch.onnx.is_in_onnx_export() or torch.jit.is_tracing() or x.shape[0] == 0
    if fixed and taps is None:  # mix the results
        parts = [CONV[dims](x, w.unflatten(1, shape), None, *geometry, groups) for w in weight]
        y = torch.stack(parts, 1)  # b k o …
        y = (grid.broadcast_gate(a, y) * y).sum(1)
    else:
        kernels = (a @ weight.flatten(1)).reshape(-1, weight.shape[1], *shape)  # b o i …
        if taps is not None:
            kernels = kernels * taps[:, None, None]
        if not fixed:  # the kernels of one image are one group
            b, bias_row = x.shape[0], None if bias is None else bias.flatten()
            x = x.reshape(1, -1, *x.shape[2:])
            y = CONV[dims](x, kernels.flatten(0, 1), bias_row, *geometry, b * groups)
            y, bias = y.reshape(b, -1, *y.shape[2:]), None
        else:
            columns = _columns(x, shape[1:], *geometry)  # b (i t) y …
            rows = columns.flatten(2).unflatten(1, (groups, -1))  # b g (i t) n
            y = (kernels.flatten(2).unflatten(1, (groups, -1)) @ rows).flatten(1, 2)
            y = y.reshape(x.shape[0], weight.shape[1], *columns.shape[2:])
    if bias is not None:
        y = y + grid.broadcast_gate(bias, y)
    return y.contiguous(memory_format=torch.channels_last) if last else y


def _columns(
    x: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: int | Sequence[int],
    dilation: Sequence[int],
) -> Tensor:
    """Return the values that each position of a kernel meets, ``b (i t) y …``."""
    if not isinstance(padding, int):
        x = pad(x, [n for n in reversed(padding) for _ in range(2)])
    geometry = [*zip(x.shape[2:], kernel, stride, dilation, strict=True)]
    reach = [(n - d * (k - 1) - 1) // s * s + 1 for n, k, s, d in geometry]
    views = []
    for place in product(*map(range, kernel)):
        starts = [i * d for i, d in zip(place, dilation, strict=True)]
        window = [slice(i, i + n, s) for i, n, s in zip(starts, reach, stride, strict=True)]
        views.append(x[(slice(None), slice(None), *window)])
    return torch.stack(views, 2).flatten(1, 2)


def _around(
    x: Tensor, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> list[Any]:
    """Return the numbers of zeros before and after each axis, last axis first, as for `pad`."""
    edges = []
    for n, k, s, d in zip(x.shape[2:], kernel, stride, dilation, strict=True):
        extra = d * (k - 1) if s == 1 else at_least(d * (k - 1) + 1 - s + (-n) % s, 0)
        edges = [extra // 2, extra - extra // 2, *edges]
    return edges
