"""Outlook attention: every position says how its neighbors read one another."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..core import neighbors, precision
from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import divides, odd, positive, probability
from ..core.tracing import leaf


@leaf
def overlay(a: Tensor, side: int, stride: int, x: Tensor) -> Tensor:
    """Add up, for each position and each distance, what all windows say of them.

    So the values are read once for each distance, and not once for each window and pair in it.

    Args:
        a: Maps of windows, ``b heads k j y x``.
        side: Side of the windows.
        stride: Steps between them.
        x: The image that they lie on, ``b c h w``.

    Returns:
        Weights ``b heads d h w`` of the (2 side - 1)² neighbors, row by row.
    """
    b, num_heads, _, _, rows, columns = a.shape
    h, w = x.shape[2:]
    reach, across = side // 2, 2 * side - 1
    total = a.new_zeros(b, num_heads, across, across, h + 2 * reach, w + 2 * reach)
    for i in range(side**2):  # the place in the windows that is written to
        top, left = divmod(i, side)
        total[
            :,
            :,
            side - 1 - top : across - top,
            side - 1 - left : across - left,
            top : top + (rows - 1) * stride + 1 : stride,
            left : left + (columns - 1) * stride + 1 : stride,
        ] += a[:, :, i].unflatten(2, (side, side))
    return total.flatten(2, 3)[..., reach : reach + h, reach : reach + w]


class Outlook(Attention):
    r"""Lets each position say how the positions of its window read one another.

    .. math::
        y = W_o \sum_p \operatorname{fold}_p(a_p\, V_p), \quad
        a_p = \operatorname{softmax}_j\big(W_a x_p / \sqrt d\big), \quad
        V_p = \operatorname{unfold}_p(W_v x)

    where :math:`V_p` holds the values of the :math:`K^2` positions around p, :math:`a_p` is a
    :math:`K^2 \times K^2` map for each head of d channels, and fold adds its rows to the positions
    that they stand for; section 3.1 of the paper. With a stride there is a window for as many
    positions only, whose map is made from their average; y is as large as x.

    Args:
        channels: :math:`C`.
        num_heads: Heads, which have a map each.
        kernel_size: :math:`K`, odd.
        stride: Steps between the windows.
        bias: Give the values a bias.
        scaled: Divide the scores by :math:`\sqrt d`.
        dropout: Rate of dropping weights of the map in training.
        out_dropout: Rate of dropping numbers of the output in training.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, map ``b heads k j y x``: in the window at y, x, how the position k of
        :math:`K^2`, row by row, reads the position j; y as x.

    Raises:
        ValueError: a size is not positive, the kernel is even, the heads do not divide the
            channels, or a dropout is not a rate.

    >>> Outlook(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = Card(
        title="Outlook attention",
        paper="VOLO: Vision Outlooker for Visual Recognition",
        authors="Li Yuan, Qibin Hou, Zihang Jiang, Jiashi Feng, Shuicheng Yan",
        venue="TPAMI",
        year=2022,
        url="https://arxiv.org/abs/2106.13112",
        code="https://github.com/sail-sg/volo",
        license="Apache-2.0",
        domain="spatial",
        computes="fc",
        applies="matmul",
        kind="relation",
        cost=dict(time="n c^2", memory="n c"),
        aliases=("outlook", "outlook_attention", "outlooker", "volo"),
        differs=(
            "The authors' code, and the default here, divides the scores by the root of a head's "
            "width; the paper's equations do not (scale=False).",
            "The authors' networks make maps at every second position (stride=2); their class, "
            "and the default here, at all.",
            "The windows are always centerd; the authors' code has a padding, of which no other "
            "value works at every size.",
        ),
    )
    axes = Axes("b c h w", "b heads k j y x", range="softmax j")

    def __init__(
        self,
        channels: int,
        num_heads: int = 8,
        *,
        kernel_size: int = 3,
        stride: int = 1,
        bias: bool = False,
        scaled: bool = True,
        dropout: float = 0.0,
        out_dropout: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        divides(channels=channels, num_heads=num_heads)
        super().__init__(c=channels, heads=num_heads)
        odd(kernel_size=kernel_size)
        positive(stride=stride)
        probability(dropout=dropout, out_dropout=out_dropout)
        self.num_heads, self.kernel_size, self.stride = num_heads, kernel_size, stride
        self.scaled = (channels // num_heads) ** -0.5 if scaled else 1.0
        factory = {"device": device, "dtype": dtype}
        self.score = nn.Conv2d(channels, num_heads * kernel_size**4, 1, **factory)
        self.value = nn.Conv2d(channels, channels, 1, bias=bias, **factory)
        self.drop = nn.Dropout(dropout)
        self.out = nn.Conv2d(channels, channels, 1, **factory)
        self.drop_out = nn.Dropout(out_dropout)

    def attention(self, x: Tensor) -> Tensor:
        scores = self.score(neighbors.avg_pool(x, self.stride)) * self.scaled
        size = (self.num_heads, self.kernel_size**2, self.kernel_size**2)
        return precision.softmax(scores.unflatten(1, size), 3)  # b heads k j y x

    def combine(self, a: Tensor, x: Tensor) -> Tensor:
        a = overlay(self.drop(a), self.kernel_size, self.stride, x)
        return self.drop_out(self.out(neighbors.gather(a, self.value(x), 2 * self.kernel_size - 1)))
