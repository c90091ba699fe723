"""BAM: one gate per channel and position, from a channel and a dilated spatial branch."""

from __future__ import annotations

from typing import Any, Literal

import keras
from keras import layers, ops

from ..core.check import one_of, positive, reduced
from . import parts
from .attention import Attention, Shape, space


@keras.saving.register_keras_serializable("regard")
class BAM(Attention):
    """Strengthens each position of each channel by a gate that two branches agree on.

    A batch of one image gives the norms of the channel branch one value for each channel: in
    training they return their offsets, where torch refuses.
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
        channels, made = shape[-1], {"dtype": self.dtype_policy}
        hidden = reduced(channels, self.reduction)
        early = self.norm_position == "hidden"

        def look() -> list[Any]:
            return [parts.conv(hidden, hidden, 3, dilation=self.dilation, **made), *normed()]

        def normed() -> list[Any]:
            return [parts.batch_norm(hidden, **made), layers.ReLU(**made)]

        self.channel = [
            parts.dense(channels, hidden, **made),
            *(normed() if early else [layers.ReLU(**made)]),
            parts.dense(hidden, channels, **made),
            *([] if early else [parts.batch_norm(channels, **made)]),
        ]
        self.spatial = [
            parts.dense(channels, hidden, **made),
            *(normed() if early else []),
            *look(),
            *look(),
            parts.dense(hidden, 1, **made),
            *([] if early else [parts.batch_norm(1, **made)]),
        ]

    def attention(self, x: Any) -> Any:
        c = parts.through(self.channel, ops.mean(x, space(x), keepdims=True))  # b 1 1 c
        s = parts.through(self.spatial, x)  # b h w 1
        return ops.sigmoid(c * s if self.fusion == "product" else c + s)

    def combine(self, a: Any, x: Any) -> Any:
        return x + x * a
