"""BAM: one gate per channel and position, from a channel and a dilated spatial branch."""

from __future__ import annotations

from typing import Any, Literal

import keras
from keras import layers, ops

from ..core.check import one_of, positive, reduced
from . import parts
from .attention import Attention, Shape, spatial_axes
from .parts import Tensor


@keras.saving.register_keras_serializable("regard")
class BAM(Attention):
    """Scales each element by one plus a gate from a channel branch and a spatial branch.

    In training with a batch of one image, the norms of the channel branch get one value per channel
    and return their biases, where torch raises an error.
    """

    def __init__(
        self,
        reduction: int = 16,
        *,
        dilation: int = 4,
        fusion: Literal["product", "sum"] = "product",
        norm_position: Literal["hidden", "last"] = "hidden",
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(data_format=data_format, **kwargs)
        positive(dilation=dilation)
        one_of(("product", "sum"), fusion=fusion)
        one_of(("hidden", "last"), norm_position=norm_position)
        self.reduction, self.dilation = reduction, dilation
        self.fusion, self.norm_position = fusion, norm_position

    def construct(self, shape: Shape) -> None:
        channels, factory = shape[-1], {"dtype": self.dtype_policy}
        hidden_dim = reduced(channels, self.reduction)
        early = self.norm_position == "hidden"

        def dilated_conv() -> list[Any]:
            options = {"dims": len(shape) - 2, "dilation": self.dilation, **factory}
            conv = parts.conv(hidden_dim, hidden_dim, 3, **options)
            return [conv, *norm_relu()]

        def norm_relu() -> list[Any]:
            return [parts.batch_norm(hidden_dim, **factory), layers.ReLU(**factory)]

        self.channel = [
            parts.dense(channels, hidden_dim, **factory),
            *(norm_relu() if early else [layers.ReLU(**factory)]),
            parts.dense(hidden_dim, channels, **factory),
            *([] if early else [parts.batch_norm(channels, **factory)]),
        ]
        self.spatial = [
            parts.dense(channels, hidden_dim, **factory),
            *(norm_relu() if early else []),
            *dilated_conv(),
            *dilated_conv(),
            parts.dense(hidden_dim, 1, **factory),
            *([] if early else [parts.batch_norm(1, **factory)]),
        ]

    def attention(self, x: Tensor) -> Tensor:
        c = parts.apply_layers(self.channel, ops.mean(x, spatial_axes(x), keepdims=True))  # b 1* c
        s = parts.apply_layers(self.spatial, x)  # b * 1
        return ops.sigmoid(c * s if self.fusion == "product" else c + s)

    def combine(self, a: Tensor, x: Tensor) -> Tensor:
        return x + x * a
