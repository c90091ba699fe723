"""Spatial-shift attention of S²-MLPv2: a channel-wise softmax over shifted feature maps."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, linear

from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import divides
from ..core.tracing import leaf

DOWN, UP, RIGHT, LEFT = (2, 1), (2, -1), (3, 1), (3, -1)  # axis and direction

Prepared = tuple[Tensor, Tensor, Tensor]  # the three branches, b c h w each


class S2(Attention):
    r"""Sums two spatially shifted projections of x and an unshifted one, weighted per channel.

    .. math::
        (z_1, z_2, z_3) = W_e x, \quad u = (S_1 z_1, S_2 z_2, z_3), \quad
        s = \textstyle\sum_{k,ij} u_{k,ij}

    .. math::
        a = \operatorname{softmax}_k\big(W_2\,\mathrm{GELU}(W_1 s)\big), \quad
        y = W_o \textstyle\sum_k a_k \odot u_k

    where :math:`S_1` shifts the four quarters of the channels by one position down, up, right and
    left, and :math:`S_2` right, left, down and up, with the border replicated. Algorithm 1 and
    section 3 of the paper.

    Args:
        channels: :math:`C`, a multiple of 4.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, map ``b k c 1 1`` for the k = 3 copies, y as x.

    Raises:
        ValueError: the channels are not a positive multiple of 4.

    >>> S2(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = Card(
        title="Spatial-shift attention (S²-MLPv2)",
        paper="S²-MLPv2: Improved Spatial-Shift MLP Architecture for Vision",
        authors="Tan Yu, Xu Li, Yunfeng Cai, Mingming Sun, Ping Li",
        venue="arXiv",
        year=2021,
        url="https://arxiv.org/abs/2108.01072",
        domain="branch",
        computes="pool+fc",
        applies="select",
        kind="relation",
        cost=dict(time="n c^2", memory="n c"),
        aliases=("s2", "s2_attention", "s2_mlp", "s2_mlpv2", "spatial_shift"),
        differs=(
            "The paper's pseudo-code, and the best-known re-implementation, shift in place: the "
            "shifts down and right overwrite what they still read, and copy the first row or "
            "column along the whole axis. Here all four are shifts; weights trained with the "
            "shifts made out of place can be loaded.",
            "That re-implementation accepts 512 channels only; here any multiple of 4 is accepted.",
        ),
    )
    axes = Axes("b c h w", "b k c 1 1", range="softmax k")

    def __init__(
        self,
        channels: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=channels)
        divides(channels=channels, quarters=4)
        factory = {"device": device, "dtype": dtype}
        self.expand = nn.Conv2d(channels, 3 * channels, 1, **factory)
        self.squeeze = nn.Linear(channels, channels, bias=False, **factory)
        self.select = nn.Linear(channels, 3 * channels, bias=False, **factory)
        self.out = nn.Conv2d(channels, channels, 1, **factory)

    def prepare(self, x: Tensor) -> Prepared:
        z_1, z_2, z_3 = self.expand(x).chunk(3, 1)
        return _shift(z_1, DOWN, UP, RIGHT, LEFT), _shift(z_2, RIGHT, LEFT, DOWN, UP), z_3

    def attention(self, z: Prepared) -> Tensor:
        return _branch_weights(z, self.squeeze.weight, self.select.weight)[..., None, None]

    def combine(self, a: Tensor, z: Prepared) -> Tensor:
        u_1, u_2, u_3 = z
        y = torch.addcmul(a[:, 0] * u_1, a[:, 1], u_2)
        return self.out(torch.addcmul(y, a[:, 2], u_3))


@leaf
def _branch_weights(u: Prepared, squeeze: Tensor, select: Tensor) -> Tensor:
    """Return the softmax over the branches, ``b k c``, computed in single precision at least.

    Sums over a whole image, and so the scores, are too large for half precision.
    """
    device, dtype = u[0].device.type, u[0].dtype
    if device != "meta" and torch.is_autocast_enabled(device):
        with torch.autocast(device, enabled=False):
            return _branch_weights(u, squeeze, select)
    sum_dtype = torch.promote_types(dtype, torch.float32)
    s = sum(t.sum((2, 3), dtype=sum_dtype) for t in u)  # b c
    scores = linear(gelu(linear(s, squeeze.to(sum_dtype))), select.to(sum_dtype))
    return scores.unflatten(1, (3, -1)).softmax(1).to(dtype)


@leaf
def _shift(x: Tensor, *steps: tuple[int, int]) -> Tensor:
    """Shift each quarter of the channels by one position and replicate the border."""
    quarters = zip(x.chunk(4, 1), steps, strict=True)
    return torch.cat([_shift_by_one(part, axis, sign) for part, (axis, sign) in quarters], 1)


def _shift_by_one(x: Tensor, axis: int, sign: int) -> Tensor:
    # Twice as fast as replicate padding.
    last = x.shape[axis] - 1
    border = x.narrow(axis, 0 if sign > 0 else last, 1)
    rest = x.narrow(axis, 0 if sign > 0 else 1, last)
    return torch.cat([border, rest] if sign > 0 else [rest, border], axis)
