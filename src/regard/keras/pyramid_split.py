"""Pyramid split attention: convolutions of different kernel sizes, scaled by softmax weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import keras
from keras import ops

from ..core.check import divides, odd, one_of, positive
from . import parts
from .attention import Attention, Shape, spatial_axes
from .parts import Tensor


@keras.saving.register_keras_serializable("regard")
class PyramidSplit(Attention):
    """Convolves with kernels of different sizes and scales each channel of each result."""

    def __init__(
        self,
        out_channels: int | None = None,
        *,
        kernel_sizes: Sequence[int] = (3, 5, 7, 9),
        stride: int = 1,
        kernel_groups: Sequence[int] = (1, 4, 8, 16),
        reduction: int = 16,
        order: Literal["last-first", "first-last"] = "last-first",
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(data_format=data_format, **kwargs)
        positive(stride=stride, reduction=reduction)
        one_of(("last-first", "first-last"), order=order)
        if isinstance(kernel_sizes, int) or len(kernel_sizes) < 2:
            raise ValueError(f"kernel_sizes must be two sizes or more, got {kernel_sizes!r}")
        for kernel in kernel_sizes:
            odd(kernel_sizes=kernel)
        if isinstance(kernel_groups, int) or len(kernel_groups) != len(kernel_sizes):
            raise ValueError(
                f"kernel_groups must be {len(kernel_sizes)}, one for each kernel, "
                f"got {kernel_groups!r}"
            )
        self.out_channels, self.stride = out_channels, stride
        self.kernel_sizes, self.kernel_groups = tuple(kernel_sizes), tuple(kernel_groups)
        self.reduction, self.order = reduction, order

    def construct(self, shape: Shape) -> None:
        channels = shape[-1]
        out_channels = self.output_shape_of(shape)[-1]
        divides(out_channels=out_channels, kernel_sizes=len(self.kernel_sizes))
        branch_channels = out_channels // len(self.kernel_sizes)
        if self.reduction > branch_channels:
            raise ValueError(
                f"reduction ({self.reduction}) must not be larger than the share of each kernel in "
                f"out_channels ({branch_channels}): nothing would be left"
            )
        factory = {"dtype": self.dtype_policy}

        def branch(kernel: int, groups: int) -> keras.layers.Layer:
            divides(in_channels=channels, kernel_groups=groups)
            if branch_channels % groups:
                raise ValueError(
                    f"kernel_groups ({groups}) must divide the share of each kernel in "
                    f"out_channels ({branch_channels})"
                )
            options = {"groups": groups, "bias": False, **factory}
            return parts.conv(channels, branch_channels, kernel, **options)

        self.branches = list(map(branch, self.kernel_sizes, self.kernel_groups))
        self.squeeze = parts.dense(branch_channels, branch_channels // self.reduction, **factory)
        self.excite = parts.dense(branch_channels // self.reduction, branch_channels, **factory)

    def prepare(self, x: Tensor) -> list[Tensor]:
        return [
            parts.convolve(x, branch.kernel, stride=self.stride, padding=kernel // 2)
            for kernel, branch in zip(self.kernel_sizes, self.branches, strict=True)
        ]  # k times b h w d

    def attention(self, z: list[Tensor]) -> Tensor:
        pooled = ops.stack([ops.mean(f, spatial_axes(f), keepdims=True) for f in z], 1)
        gates = ops.sigmoid(self.excite(ops.relu(self.squeeze(pooled))))  # b k 1 1 d
        return parts.softmax(gates, 1)

    def combine(self, a: Tensor, z: list[Tensor]) -> Tensor:
        y = [a[:, k] * f for k, f in enumerate(z)]
        return ops.concatenate(y[::-1] if self.order == "last-first" else y, -1)

    def output_shape_of(self, shape: Shape) -> Shape:
        b, h, w, c = shape
        h, w = (parts.strided_size(size, self.stride) for size in (h, w))
        return b, h, w, c if self.out_channels is None else self.out_channels
