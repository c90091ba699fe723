"""Shuffle attention: channel gates for one half of each group, position gates for the other."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from ..core.check import above_zero, positive
from . import parts
from .attention import Attention, Shape
from .parts import Tensor

Prepared = tuple[Tensor, Tensor]  # b g * d, b g * d


@keras.saving.register_keras_serializable("regard")
class ShuffleAttention(Attention):
    """Scales channels in one half of each group and positions in the other, then shuffles them."""

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

        def weight(initializer: str, name: str) -> keras.Variable:
            return self.add_weight(shape=(half,), initializer=initializer, name=name)

        # All gates start equal.
        self.channel_weight = weight("zeros", "channel_weight")
        self.channel_bias = weight("ones", "channel_bias")
        self.norm = parts.group_norm(half, half, epsilon=self.eps, dtype=self.dtype_policy)
        self.spatial_weight = weight("zeros", "spatial_weight")
        self.spatial_bias = weight("ones", "spatial_bias")

    def prepare(self, x: Tensor) -> Prepared:
        d = x.shape[-1] // (2 * self.groups)
        z = ops.reshape(x, (-1, *ops.shape(x)[1:-1], self.groups, 2, d))
        z = ops.moveaxis(z, (-3, -2), (1, 2))
        return z[:, :, 0], z[:, :, 1]

    def attention(self, z: Prepared) -> tuple[Tensor, Tensor]:
        u, v = z
        mean = ops.mean(u, tuple(range(2, len(u.shape) - 1)), keepdims=True)  # b g 1* d
        normed = self.norm(ops.reshape(v, (-1, *ops.shape(v)[2:])))  # each group separately
        normed = ops.reshape(normed, ops.shape(v))
        return (
            ops.sigmoid(self.channel_weight * mean + self.channel_bias),
            ops.sigmoid(self.spatial_weight * normed + self.spatial_bias),
        )

    def combine(self, a: tuple[Tensor, Tensor], z: Prepared) -> Tensor:
        channel, spatial = a
        u, v = z
        channels = 2 * self.groups * u.shape[-1]
        y = ops.stack([u * channel, v * spatial], 2)
        y = ops.moveaxis(y, (1, 2), (-3, -2))  # b * g 2 d
        positions = (-1, *ops.shape(u)[2:-1])
        # Interleave the halves of all channels: channel 2j + i is channel j of half i.
        y = ops.swapaxes(ops.reshape(y, (*positions, 2, channels // 2)), -1, -2)
        return ops.reshape(y, (*positions, channels))
