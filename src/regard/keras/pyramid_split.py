"""Pyramid split attention: kernels of several sizes side by side, weighed against one another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import keras
from keras import ops

from ..core.check import divides, odd, one_of, positive
from . import parts
from .attention import Attention, Shape, space


@keras.saving.register_keras_serializable("regard")
class PyramidSplit(Attention):
    """Convolves with several kernels and weighs each channel of one result against the others'."""

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
        self.out_channels, self.kernel_sizes, self.stride = (
            out_channels,
            tuple(kernel_sizes),
            stride,
        )
        self.kernel_groups, self.reduction, self.order = tuple(kernel_groups), reduction, order

    def construct(self, shape: Shape) -> None:
        channels = shape[-1]
        out = self.output_shape_of(shape)[-1]
        divides(out_channels=out, kernel_sizes=len(self.kernel_sizes))
        width = out // len(self.kernel_sizes)
        if self.reduction > width:
            raise ValueError(
                f"reduction ({self.reduction}) must not be larger than the share of each kernel in "
                f"out_channels ({width}): nothing would be left"
            )
        made = {"dtype": self.dtype_policy}

        def branch(kernel: int, groups: int) -> Any:
            divides(in_channels=channels, kernel_groups=groups)
            if width % groups:
                raise ValueError(
                    f"kernel_groups ({groups}) must divide the share of each kernel in "
                    f"out_channels ({width})"
                )
            return parts.conv(channels, width, kernel, groups=groups, bias=False, **made)

        self.branches = list(map(branch, self.kernel_sizes, self.kernel_groups))
        self.squeeze = parts.dense(width, width // self.reduction, **made)
        self.excite = parts.dense(width // self.reduction, width, **made)

    def prepare(self, x: Any) -> list[Any]:
        return [
            parts.convolve(x, branch.kernel, stride=self.stride, padding=kernel // 2)
            for kernel, branch in zip(self.kernel_sizes, self.branches, strict=True)
        ]  # k times b h w d

    def attention(self, x: list[Any]) -> Any:
        z = ops.stack([ops.mean(f, space(f), keepdims=True) for f in x], 1)  # b k 1 1 d
        return parts.softmax(ops.sigmoid(self.excite(ops.relu(self.squeeze(z)))), 1)

    def combine(self, a: Any, x: list[Any]) -> Any:
        y = [a[:, k] * f for k, f in enumerate(x)]
        return ops.concatenate(y[::-1] if self.order == "last-first" else y, -1)

    def output_shape_of(self, shape: Shape) -> Shape:
        b, h, w, c = shape
        out = c if self.out_channels is None else self.out_channels
        return b, parts.strided(h, self.stride), parts.strided(w, self.stride), out
