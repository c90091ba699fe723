"""BAM: one gate per channel and position, from a channel and a dilated spatial branch."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from ..core import grid
from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import one_of, positive, reduced
from ..core.conv_norm import CONV, NORM, conv_norm


class BAM(Attention):
    r"""Scales each element by one plus a gate from a channel branch and a spatial branch.

    .. math::
        a = \sigma\big(M_c(\bar x) \odot M_s(x)\big), \quad y = x + a \odot x

    where :math:`M_c` is two linear layers on the average :math:`\bar x` of each channel, and
    :math:`M_s` two :math:`1 \times 1` convolutions with two dilated :math:`3 \times 3` ones between
    them; equations 1 to 4 of the paper, which add the two branches.

    In half precision, rounding can change on which side of its step the sigmoid is where scores
    are in the hundreds.

    Args:
        channels: :math:`C`.
        reduction: :math:`r`; both branches have :math:`\lfloor C/r \rfloor` hidden channels.
        dilation: Dilation of the :math:`3 \times 3` convolutions.
        fusion: How the branches are combined: their ``product``, as in the authors' code, or their
            ``sum``, as in the paper.
        norm_position: Where the batch norms are: after the ``hidden`` layers, as in the authors'
            code, or ``last`` in each branch, as in the paper (and after the dilated convolutions).
        dims: Axes of space and time: 1, 2 or 3.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c *`` (``dims`` axes of space and time), map ``b c *``, y as x.

    Raises:
        ValueError: a size is not positive, the reduction leaves no hidden channel, or the fusion,
            the position of the norms or ``dims`` is unknown.

    >>> BAM(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = Card(
        title="BAM",
        paper="BAM: Bottleneck Attention Module",
        authors="Jongchan Park, Sanghyun Woo, Joon-Young Lee, In So Kweon",
        venue="BMVC",
        year=2018,
        url="https://arxiv.org/abs/1807.06514",
        code="https://github.com/Jongchan/attention-module",
        license="MIT",
        domain="channel+spatial",
        computes="pool+fc+conv",
        applies="gate",
        kind="gate",
        train_differs=True,
        cost=dict(time="n c^2", memory="n c"),
        aliases=("bam", "bottleneck_attention"),
        differs=(
            "The paper adds the two branches (fusion='sum'); the authors' code, and the default "
            "here, multiplies them.",
            "The paper ends each branch with a batch norm (norm_position='last'); the authors' "
            "code, and the default here, has norms after the hidden layers and none at the end.",
            "The authors' code pools a square window, which is the average of a channel only if "
            "the input is square; here it always is the average.",
        ),
    )
    axes = Axes("b c *", "b c *", range="unit")

    def __init__(
        self,
        channels: int,
        reduction: int = 16,
        *,
        dilation: int = 4,
        fusion: Literal["product", "sum"] = "product",
        norm_position: Literal["hidden", "last"] = "hidden",
        dims: Literal[1, 2, 3] = 2,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=channels)
        hidden_dim = reduced(channels, reduction)
        positive(dilation=dilation)
        one_of(("product", "sum"), fusion=fusion)
        one_of(("hidden", "last"), norm_position=norm_position)
        one_of((1, 2, 3), dims=dims)
        self.axes = self.axes.over(dims)
        self.fusion = fusion
        last = norm_position == "last"
        factory = {"device": device, "dtype": dtype}

        def dilated() -> nn.Sequential:
            options = {"dims": dims, "dilation": dilation, "bias": True, **factory}
            return conv_norm(hidden_dim, hidden_dim, 3, activation=nn.ReLU(), **options)

        def norm_relu() -> list[nn.Module]:
            return [NORM[dims](hidden_dim, **factory), nn.ReLU()]

        self.channel = nn.Sequential(
            nn.Linear(channels, hidden_dim, **factory),
            *([] if last else [nn.BatchNorm1d(hidden_dim, **factory)]),
            nn.ReLU(),
            nn.Linear(hidden_dim, channels, **factory),
            *([nn.BatchNorm1d(channels, **factory)] if last else []),
        )
        self.spatial = nn.Sequential(
            CONV[dims](channels, hidden_dim, 1, **factory),
            *([] if last else norm_relu()),
            *dilated(),
            *dilated(),
            CONV[dims](hidden_dim, 1, 1, **factory),
            *([NORM[dims](1, **factory)] if last else []),
        )

    def attention(self, x: Tensor) -> Tensor:
        z = grid.mean(x)  # b c
        c, s = grid.broadcast_gate(self.channel(z), x), self.spatial(x)  # b c 1*, b 1 *
        return (c * s if self.fusion == "product" else c + s).sigmoid_()

    def combine(self, a: Tensor, x: Tensor) -> Tensor:
        return torch.addcmul(x, x, a)
