"""scSE: a gate per channel and a gate per position, in parallel."""

from __future__ import annotations

from typing import Any, Literal

import keras
from keras import ops

from ..core.check import one_of, reduced
from . import parts
from .attention import Attention, Shape, spatial_axes
from .parts import Tensor

Map = Tensor | tuple[Tensor, Tensor]  # of one gate, or of both

FUSIONS = ("max", "add", "mul", "concat")
GATES = ("both", "channel", "spatial")


@keras.saving.register_keras_serializable("regard")
class ScSE(Attention):
    """Scales each channel by a gate and, in parallel, each position, and fuses the two results."""

    def __init__(
        self,
        reduction: int = 2,
        *,
        fusion: Literal["max", "add", "mul", "concat"] = "max",
        gates: Literal["both", "channel", "spatial"] = "both",
        bias: bool = True,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(data_format=data_format, **kwargs)
        one_of(FUSIONS, fusion=fusion)
        one_of(GATES, gates=gates)
        self.reduction, self.fusion, self.gates, self.bias = reduction, fusion, gates, bias

    def construct(self, shape: Shape) -> None:
        channels, factory = shape[-1], {"bias": self.bias, "dtype": self.dtype_policy}
        hidden_dim = reduced(channels, self.reduction)
        if self.gates != "spatial":
            self.squeeze = parts.dense(channels, hidden_dim, **factory)
            self.excite = parts.dense(hidden_dim, channels, **factory)
        if self.gates != "channel":
            self.look = parts.dense(channels, 1, **factory)

    def attention(self, x: Tensor) -> Map:
        if self.gates == "channel":
            return self.channel_gate(x)
        if self.gates == "spatial":
            return self.spatial_gate(x)
        return self.channel_gate(x), self.spatial_gate(x)

    def channel_gate(self, x: Tensor) -> Tensor:
        z = ops.mean(x, spatial_axes(x), keepdims=True)  # b 1* c
        return ops.sigmoid(self.excite(ops.relu(self.squeeze(z))))

    def spatial_gate(self, x: Tensor) -> Tensor:
        return ops.sigmoid(self.look(x))  # b * 1

    def combine(self, a: Map, x: Tensor) -> Tensor:
        if self.gates != "both":
            return x * a
        c, s = a
        if self.fusion == "add":
            return x * (c + s)
        if self.fusion == "mul":
            return (x * c) * (x * s)
        if self.fusion == "concat":
            return ops.concatenate([x * c, x * s], -1)
        return ops.maximum(x * c, x * s)

    def output_shape_of(self, shape: Shape) -> Shape:
        twice = self.gates == "both" and self.fusion == "concat"
        return (*shape[:-1], 2 * shape[-1]) if twice else shape
