"""Spatial-shift attention of S²-MLPv2: shifted copies of the image, weighed channel by channel."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, linear

from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import divides
from ..core.tracing import leaf

DOWN, UP, RIGHT, LEFT = (2, 1), (2, -1), (3, 1), (3, -1)  # an axis, and a way along it


class S2(Attention):
    r"""Mixes two shifted projections of the image and one that stays, by weights for each channel.

    .. math::
        (z_1, z_2, z_3) = W_e x, \quad u = (S_1 z_1, S_2 z_2, z_3), \quad
        s = \textstyle\sum_{k,ij} u_{k,ij}

    .. math::
        a = \operatorname{softmax}_k\big(W_2\,\mathrm{GELU}(W_1 s)\big), \quad
        y = W_o \textstyle\sum_k a_k \odot u_k

    where :math:`S_1` moves the four quarters of the channels one step down, up, right and left, and
    :math:`S_2` right, left, down and up; what is moved in at the border is what stood there.
    Algorithm 1 and section 3 of the paper.

    Args:
        channels: :math:`C`, a multiple of 4.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, map ``b k c 1 1`` for the k = 3 copies, y as x.

    Raises:
        ValueError: the channels are not positive, or have no quarter.

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
            "The paper's pseudo-code, and the re-implementation that people know, write each "
            "shifted half over the tensor that they still read: what should move down or right "
            "becomes, along the whole axis, a copy of the first row or column. Here all four are "
            "shifts; weights can be loaded of that code with the shifts made out of place.",
            "That re-implementation runs with 512 channels alone; here any multiple of 4 is taken.",
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

    def prepare(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        first, second, still = self.expand(x).chunk(3, 1)
        return (  # b c h w each
            _shift(first, DOWN, UP, RIGHT, LEFT),
            _shift(second, RIGHT, LEFT, DOWN, UP),
            still,
        )

    def attention(self, x: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        return _weigh(x, self.squeeze.weight, self.select.weight)[..., None, None]

    def combine(self, a: Tensor, x: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        y = torch.addcmul(a[:, 0] * x[0], a[:, 1], x[1])
        return self.out(torch.addcmul(y, a[:, 2], x[2]))


@leaf
def _weigh(u: tuple[Tensor, Tensor, Tensor], squeeze: Tensor, select: Tensor) -> Tensor:
    """The softmax over the copies, ``b k c``, in single precision at least.

    Sums over a whole image are large numbers, and the scores as large, so that half precision would
    round them by more than the softmax bears.
    """
    kind = u[0].device.type
    if kind != "meta" and torch.is_autocast_enabled(kind):
        with torch.autocast(kind, enabled=False):
            return _weigh(u, squeeze, select)
    wide = torch.promote_types(u[0].dtype, torch.float32)
    s = sum(t.sum((2, 3), dtype=wide) for t in u)  # b c
    scores = linear(gelu(linear(s, squeeze.to(wide))), select.to(wide))
    return scores.unflatten(1, (3, -1)).softmax(1).to(u[0].dtype)


@leaf
def _shift(x: Tensor, *steps: tuple[int, int]) -> Tensor:
    """Move each quarter of the channels one step; the border that it leaves is doubled."""
    quarters = zip(x.chunk(4, 1), steps, strict=True)
    return torch.cat([_move(quarter, axis, way) for quarter, (axis, way) in quarters], 1)


def _move(x: Tensor, axis: int, way: int) -> Tensor:
    # Twice as fast as padding by what stands at the border.
    border = x.narrow(axis, 0 if way > 0 else -1, 1)
    rest = x.narrow(axis, 0 if way > 0 else 1, x.shape[axis] - 1)
    return torch.cat([border, rest] if way > 0 else [rest, border], axis)
