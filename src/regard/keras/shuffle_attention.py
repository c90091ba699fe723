"""Shuffle attention: half of each group gates channels, half positions; then all are shuffled."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from ..core.check import above_zero, positive
from . import parts
from .attention import Attention, Shape


@keras.saving.register_keras_serializable("regard")
class ShuffleAttention(Attention):
    """Gates channels in one half of each group and positions in the other, then shuffles them."""

    def __init__(
        self,
        groups: int = 64,
        *,
        eps: float = 1e-5,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(data_format=data_format, **kwargs)
        positive(groups=groups)
        above_zero(eps=eps)
        self.groups, self.eps = groups, eps

    def construct(self, shape: Shape) -> None:
        channels, groups = shape[-1], self.groups
        if channels % (2 * groups):
            raise ValueError(
                f"groups ({groups}) must divide channels ({channels}) into even parts: each group "
                "is split in two"
            )
        half = channels // (2 * groups)

        def weight(start: str, name: str) -> Any:
            return self.add_weight(shape=(half,), initializer=start, name=name)

        # The same gate everywhere, to start with.
        self.channel_weight = weight("zeros", "channel_weight")
        self.channel_bias = weight("ones", "channel_bias")
        self.norm = parts.group_norm(half, half, epsilon=self.eps, dtype=self.dtype_policy)
        self.spatial_weight = weight("zeros", "spatial_weight")
        self.spatial_bias = weight("ones", "spatial_bias")

    def prepare(self, x: Any) -> tuple[Any, Any]:
        d = x.shape[-1] // (2 * self.groups)
        z = ops.reshape(x, (-1, *ops.shape(x)[1:-1], self.groups, 2, d))
        z = ops.moveaxis(z, (-3, -2), (1, 2))
        return z[:, :, 0], z[:, :, 1]  # b g * d, b g * d

    def attention(self, x: tuple[Any, Any]) -> tuple[Any, Any]:
        u, v = x
        z = ops.mean(u, tuple(range(2, len(u.shape) - 1)), keepdims=True)  # b g 1* d
        normal = self.norm(ops.reshape(v, (-1, *ops.shape(v)[2:])))  # each group by itself
        normal = ops.reshape(normal, ops.shape(v))
        return (
            ops.sigmoid(self.channel_weight * z + self.channel_bias),
            ops.sigmoid(self.spatial_weight * normal + self.spatial_bias),
        )

    def combine(self, a: tuple[Any, Any], x: tuple[Any, Any]) -> Any:
        u, v = x
        channels = 2 * self.groups * u.shape[-1]
        y = ops.moveaxis(ops.stack([u * a[0], v * a[1]], 2), (1, 2), (-3, -2))  # b * g 2 d
        whole = (-1, *ops.shape(u)[2:-1])
        # Both halves of all channels take turns: channel 2j + i is channel j of half i.
        y = ops.swapaxes(ops.reshape(y, (*whole, 2, channels // 2)), -1, -2)
        return ops.reshape(y, (*whole, channels))
