"""Selective kernel convolution: each channel chooses among receptive fields."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from ..core.check import divides, odd, positive
from . import parts
from .attention import Attention, Shape, space


@keras.saving.register_keras_serializable("regard")
class SelectiveKernel(Attention):
    """Convolves with several kernels and lets each channel choose among the results."""

    def __init__(
        self,
        out_channels: int | None = None,
        *,
        kernel_sizes: Sequence[int] = (3, 5),
        stride: int = 1,
        dilation: int = 1,
        groups: int = 32,
        reduction: int = 16,
        min_hidden_dim: int = 32,
        hidden_dim: int | None = None,
        dilate: bool = True,
        norm: bool = True,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(data_format=data_format, **kwargs)
        positive(
            stride=stride, dilation=dilation, reduction=reduction, min_hidden_dim=min_hidden_dim
        )
        if isinstance(kernel_sizes, int) or len(kernel_sizes) < 2:
            raise ValueError(f"kernel_sizes must be two sizes or more, got {kernel_sizes!r}")
        for kernel in kernel_sizes:
            odd(kernel_sizes=kernel)
        positive(hidden_dim=1 if hidden_dim is None else hidden_dim)
        self.out_channels, self.kernel_sizes = out_channels, tuple(kernel_sizes)
        self.stride, self.dilation, self.groups = stride, dilation, groups
        self.reduction, self.min_hidden_dim, self.hidden_dim = reduction, min_hidden_dim, hidden_dim
        self.dilate = dilate
        self.norm: Any = norm  # the layer itself, once it is built

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {**super().get_config(), "norm": bool(self.norm)}

    def construct(self, shape: Shape) -> None:
        channels = shape[-1]
        out = self.output_shape_of(shape)[-1]
        divides(in_channels=channels, groups=self.groups)
        divides(out_channels=out, groups=self.groups)
        hidden_dim = (
            max(out // self.reduction, self.min_hidden_dim)
            if self.hidden_dim is None
            else self.hidden_dim
        )
        made = {"dtype": self.dtype_policy}

        def branch(kernel: int) -> list[Any]:
            size, _ = self.field(kernel)
            convolution = parts.conv(channels, out, size, groups=self.groups, bias=False, **made)
            return [convolution, parts.batch_norm(out, **made)]

        self.branches = [branch(kernel) for kernel in self.kernel_sizes]
        biased = {"bias": not self.norm, **made}
        self.squeeze = parts.dense(out, hidden_dim, **biased)
        self.norm = self.norm and parts.batch_norm(hidden_dim, **made)
        self.select = parts.dense(hidden_dim, len(self.kernel_sizes) * out, **biased)

    def field(self, kernel: int) -> tuple[int, int]:
        """The size and the dilation by which a branch covers so many positions."""
        if self.dilate and kernel > 3:
            return 3, self.dilation * (kernel // 2)
        return kernel, self.dilation

    def prepare(self, x: Any) -> list[Any]:
        us = []
        for kernel, (convolution, norm) in zip(self.kernel_sizes, self.branches, strict=True):
            size, step = self.field(kernel)
            moves = {"stride": self.stride, "dilation": step, "padding": step * (size // 2)}
            us.append(ops.relu(norm(parts.convolve(x, convolution.kernel, **moves))))
        return us  # k times b h w o

    def attention(self, x: list[Any]) -> Any:
        z = self.squeeze(sum(ops.mean(u, space(u), keepdims=True) for u in x))  # b 1 1 d
        z = self.select(ops.relu(self.norm(z)) if self.norm else z)
        return parts.softmax(ops.reshape(z, (-1, len(x), 1, 1, x[0].shape[-1])), 1)

    def combine(self, a: Any, x: list[Any]) -> Any:
        return sum(a[:, k] * u for k, u in enumerate(x))

    def output_shape_of(self, shape: Shape) -> Shape:
        b, h, w, c = shape
        out = c if self.out_channels is None else self.out_channels
        return b, parts.strided(h, self.stride), parts.strided(w, self.stride), out
