"""CBAM: one gate per channel, then one gate per position."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

import keras
from keras import ops

from ..core.axes import Axes
from ..core.check import odd, one_of, positive, reduced
from . import parts
from .attention import Attention, Shape, spatial_axes
from .parts import Tensor

POOLS: dict[str, Callable[..., Tensor]] = {
    "mean": ops.mean,
    "max": ops.max,
    "l2": parts.l2_norm,
    "logsumexp": ops.logsumexp,
}


@keras.saving.register_keras_serializable("regard")
class CBAM(Attention):
    """Scales each channel by a gate, then each position of the result by another gate."""

    def __init__(
        self,
        reduction: int = 16,
        *,
        kernel_size: int = 7,
        pools: Sequence[str] = ("mean", "max"),
        hidden_dim: int | None = None,
        bias: bool = True,
        spatial_bias: bool = False,
        norm: bool = True,
        planes: Literal["max-mean", "mean-max"] = "max-mean",
        gates: Literal["both", "channel", "spatial"] = "both",
        residual: bool = False,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(data_format=data_format, **kwargs)
        odd(kernel_size=kernel_size)
        one_of(("max-mean", "mean-max"), planes=planes)
        one_of(("both", "channel", "spatial"), gates=gates)
        if isinstance(pools, str) or not pools:
            raise ValueError(f"pools must be a sequence of names, got {pools!r}")
        for pool in pools:
            one_of(tuple(POOLS), pools=pool)
        self.reduction, self.kernel_size, self.pools = reduction, kernel_size, tuple(pools)
        positive(hidden_dim=1 if hidden_dim is None else hidden_dim)
        self.hidden_dim, self.bias, self.spatial_bias = hidden_dim, bias, spatial_bias
        self.planes, self.gates, self.residual = planes, gates, residual
        self.norm: Any = norm  # the layer itself after `construct`

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        return {**super().get_config(), "norm": bool(self.norm)}

    @property
    def axes(self) -> Axes:
        """The named axes of this layer; a single gate has those of its part."""
        own = super().axes
        return own if self.gates == "both" else replace(own, map=own.parts[self.gates])

    def construct(self, shape: Shape) -> None:
        channels, factory = shape[-1], {"dtype": self.dtype_policy}
        if self.gates != "spatial":
            hidden_dim = reduced(channels, self.reduction, self.hidden_dim)
            self.squeeze = parts.dense(channels, hidden_dim, bias=self.bias, **factory)
            self.excite = parts.dense(hidden_dim, channels, bias=self.bias, **factory)
        if self.gates != "channel":
            options = {"dims": len(shape) - 2, "bias": self.spatial_bias, **factory}
            self.look = parts.conv(2, 1, self.kernel_size, **options)
            self.norm = self.norm and parts.batch_norm(1, momentum=0.01, **factory)

    def channel_gate(self, x: Tensor) -> Tensor:
        z = [POOLS[name](x, axis=spatial_axes(x), keepdims=True) for name in self.pools]
        z = self.excite(ops.relu(self.squeeze(ops.concatenate(z, 1))))  # b p … c
        return ops.sigmoid(ops.sum(z, 1, keepdims=True))

    def spatial_gate(self, x: Tensor) -> Tensor:
        planes = [ops.max(x, -1, keepdims=True), ops.mean(x, -1, keepdims=True)]
        z = ops.concatenate(planes if self.planes == "max-mean" else planes[::-1], -1)
        z = self.look(z)  # b * 1
        return ops.sigmoid(self.norm(z) if self.norm else z)

    def attention(self, x: Tensor) -> Tensor:
        if self.gates != "both":
            return self.channel_gate(x) if self.gates == "channel" else self.spatial_gate(x)
        a = self.channel_gate(x)
        return a * self.spatial_gate(x * a)

    def combine(self, a: Tensor, x: Tensor) -> Tensor:
        return x + x * a if self.residual else x * a
