"""Shuffle attention: channel gates for one half of each group, position gates for the other."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import group_norm

from ..core import grid
from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import above_zero, positive
from ..core.tracing import leaf

Prepared = tuple[Tensor, Tensor, Tensor]  # b c *, b g d *, b g d *


class ShuffleAttention(Attention):
    r"""Scales channels in one half of each group and positions in the other, then shuffles them.

    .. math::
        a^c = \sigma(w_1 \odot \bar u + b_1), \quad
        a^s = \sigma\big(w_2 \odot \mathrm{GN}(v) + b_2\big), \quad
        y = \operatorname{shuffle}\big([a^c \odot u; a^s \odot v]\big)

    for the halves u and v of every group, where the bar averages over positions, GN normalizes each
    channel separately, and the shuffle interleaves the first and the second half of all channels;
    section 3 of the paper.

    Args:
        channels: :math:`C`.
        groups: :math:`G`; all groups share the weights, vectors of :math:`C / 2G` entries.
        eps: Added to the variance in GN.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c *`` (one to three axes of space and time), maps ``b g d 1*`` and ``b g d *`` for g
        groups with halves of d channels, y as x.

    Raises:
        ValueError: a size is not positive, twice the groups do not divide the channels, or ``eps``
            is not above zero.

    >>> ShuffleAttention(64, groups=8)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = Card(
        title="Shuffle Attention",
        paper="SA-Net: Shuffle Attention for Deep Convolutional Neural Networks",
        authors="Qing-Long Zhang, Yu-Bin Yang",
        venue="ICASSP",
        year=2021,
        url="https://arxiv.org/abs/2102.00240",
        code="https://github.com/wofmanaf/SA-Net",
        license="none stated",
        domain="channel+spatial",
        computes="pool",
        applies="gate",
        kind="gate",
        equivariant=("pixels",),
        cost=dict(time="n c", memory="n c"),
        aliases=("shuffle", "sa_net", "sa"),
    )
    axes = Axes("b c *", "channel: b g d 1*, spatial: b g d *", range="unit")

    def __init__(
        self,
        channels: int,
        groups: int = 64,
        *,
        eps: float = 1e-5,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=channels)
        positive(channels=channels, groups=groups)
        above_zero(eps=eps)
        if channels % (2 * groups):
            raise ValueError(
                f"groups ({groups}) must divide channels ({channels}) into even parts: each group "
                "is split in two"
            )
        self.groups = groups
        self.eps = eps
        half = channels // (2 * groups)
        factory = {"device": device, "dtype": dtype}
        self.channel_weight = nn.Parameter(torch.zeros(half, **factory))
        self.channel_bias = nn.Parameter(torch.ones(half, **factory))
        self.norm = nn.GroupNorm(half, half, eps, **factory)
        self.spatial_weight = nn.Parameter(torch.zeros(half, **factory))
        self.spatial_bias = nn.Parameter(torch.ones(half, **factory))

    def reset_parameters(self) -> None:
        """Reset the weights to zero and the biases to one: all gates are equal."""
        super().reset_parameters()
        for weight in (self.channel_weight, self.spatial_weight):
            nn.init.zeros_(weight)
        for bias in (self.channel_bias, self.spatial_bias):
            nn.init.ones_(bias)

    def prepare(self, x: Tensor) -> Prepared:
        u, v = x.unflatten(1, (self.groups, 2, -1)).unbind(2)
        return x, u, v

    def attention(self, z: Prepared) -> tuple[Tensor, Tensor]:
        x, u, v = z
        channel = self.channel_weight * u.flatten(3).mean(3) + self.channel_bias  # b g d
        # The gate's weight and bias are merged into the affine parameters of the norm.
        scale = (self.spatial_weight * self.norm.weight).repeat(self.groups)
        shift = (self.spatial_weight * self.norm.bias + self.spatial_bias).repeat(self.groups)
        v = v.flatten(3).flatten(1, 2)  # b c/2 n
        spatial = group_norm(v, v.shape[1], scale, shift, self.eps).unflatten(1, (self.groups, -1))
        return (
            grid.broadcast_gate(channel.sigmoid(), u),
            spatial.sigmoid().unflatten(3, x.shape[2:]),
        )

    def combine(self, a: tuple[Tensor, Tensor], z: Prepared) -> Tensor:
        channel, spatial = a
        x, u, v = z
        return _shuffle(u * channel, v * spatial, x)


@leaf
def _shuffle(u: Tensor, v: Tensor, like: Tensor) -> Tensor:
    """Join halves of groups, ``b g d *``, and interleave the halves of all channels.

    Channel 2j + i of the result is channel j of half i. The memory format is that of ``like``.
    """
    channels_last = like.dim() == 4 and like.is_contiguous(memory_format=torch.channels_last)
    axis = 1
    if channels_last:
        u, v, axis = u.permute(0, 3, 4, 1, 2), v.permute(0, 3, 4, 1, 2), 3
    if u.shape[axis] % 2 == 0:  # the halves of all channels consist of whole groups: one copy
        parts = [t.unflatten(axis, (2, -1)).movedim(axis, axis + 2) for t in (u, v)]  # g/2 d 2
        y = torch.stack(parts, axis + 1).flatten(axis, axis + 3)
    else:
        y = torch.stack([u, v], axis + 1).flatten(axis, axis + 2).unflatten(axis, (2, -1))
        y = y.transpose(axis, axis + 1).flatten(axis, axis + 1)
    return y.permute(0, 3, 1, 2) if channels_last else y
