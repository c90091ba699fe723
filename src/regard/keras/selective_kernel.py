"""Selective kernel convolution: a channel-wise softmax over branches of different kernel sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from ..core.check import divides, odd, positive
from . import parts
from .attention import Attention, Shape, spatial_axes
from .parts import Tensor


@keras.saving.register_keras_serializable("regard")
class SelectiveKernel(Attention):
    """Convolves with kernels of different sizes and sums the results, weighted per channel."""

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
        self.norm: Any = norm  # the layer itself after `construct`

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        return {**super().get_config(), "norm": bool(self.norm)}

    def construct(self, shape: Shape) -> None:
        channels = shape[-1]
        out_channels = self.output_shape_of(shape)[-1]
        divides(in_channels=channels, groups=self.groups)
        divides(out_channels=out_channels, groups=self.groups)
        hidden_dim = (
            max(out_channels // self.reduction, self.min_hidden_dim)
            if self.hidden_dim is None
            else self.hidden_dim
        )
        factory = {"dtype": self.dtype_policy}

        def branch(kernel: int) -> list[Any]:
            size, _ = self.size_and_dilation(kernel)
            options = {"groups": self.groups, "bias": False, **factory}
            conv = parts.conv(channels, out_channels, size, **options)
            return [conv, parts.batch_norm(out_channels, **factory)]

        self.branches = [branch(kernel) for kernel in self.kernel_sizes]
        options = {"bias": not self.norm, **factory}
        self.squeeze = parts.dense(out_channels, hidden_dim, **options)
        self.norm = self.norm and parts.batch_norm(hidden_dim, **factory)
        self.select = parts.dense(hidden_dim, len(self.kernel_sizes) * out_channels, **options)

    def size_and_dilation(self, kernel: int) -> tuple[int, int]:
        """Return the size and the dilation of the convolution for a kernel of this size."""
        if self.dilate and kernel > 3:
            return 3, self.dilation * (kernel // 2)
        return kernel, self.dilation

    def prepare(self, x: Tensor) -> list[Tensor]:
        outputs = []
        for kernel, (conv, norm) in zip(self.kernel_sizes, self.branches, strict=True):
            size, dilation = self.size_and_dilation(kernel)
            padding = dilation * (size // 2)
            options = {"stride": self.stride, "dilation": dilation, "padding": padding}
            outputs.append(ops.relu(norm(parts.convolve(x, conv.kernel, **options))))
        return outputs  # k times b h w o

    def attention(self, z: list[Tensor]) -> Tensor:
        hidden = self.squeeze(sum(ops.mean(u, spatial_axes(u), keepdims=True) for u in z))
        scores = self.select(ops.relu(self.norm(hidden)) if self.norm else hidden)
        return parts.softmax(ops.reshape(scores, (-1, len(z), 1, 1, z[0].shape[-1])), 1)

    def combine(self, a: Tensor, z: list[Tensor]) -> Tensor:
        return sum(a[:, k] * u for k, u in enumerate(z))

    def output_shape_of(self, shape: Shape) -> Shape:
        b, h, w, c = shape
        h, w = (parts.strided_size(size, self.stride) for size in (h, w))
        return b, h, w, c if self.out_channels is None else self.out_channels
