"""Outlook attention: each position predicts the attention map within its window."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..core import neighbors, precision
from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import divides, odd, positive, probability
from ..core.tracing import leaf


class Outlook(Attention):
    r"""Predicts, from each position, an attention map among the positions of its window.

    .. math::
        y = W_o \sum_p \operatorname{fold}_p(a_p\, V_p), \quad
        a_p = \operatorname{softmax}_j\big(W_a x_p / \sqrt d\big), \quad
        V_p = \operatorname{unfold}_p(W_v x)

    where :math:`V_p` are the values of the :math:`K^2` positions around p, :math:`a_p` is a
    :math:`K^2 \times K^2` map for each head of d channels, and fold adds the outputs of overlapping
    windows; section 3.1 of the paper. With a stride s there is one window for :math:`s \times s`
    positions, whose map is computed from their average; y still has the size of x.

    In half precision, rounding can change which entry the softmax selects where scores are in
    the hundreds.

    Args:
        channels: :math:`C`.
        num_heads: Number of heads.
        kernel_size: :math:`K`, odd.
        stride: Stride of the windows.
        bias: Add a bias to the values.
        scaled: Divide the scores by :math:`\sqrt d`.
        dropout: Dropout rate of the attention weights.
        out_dropout: Dropout rate of the output.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, map ``b heads k j y x``: in the window at y, x, the attention of query k, of
        :math:`K^2` row by row, to key j; y as x.

    Raises:
        ValueError: a size is not positive, the kernel is even, ``num_heads`` does not divide the
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
            "The authors' code, and the default here, divides the scores by the root of d; the "
            "paper's equations do not (scaled=False).",
            "The authors' networks have a window at every second position (stride=2); their class, "
            "and the default here, at every position.",
            "The windows are always centered; the authors' code has an argument for the padding, "
            "of which no other value works at every size.",
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
        self.scale = (channels // num_heads) ** -0.5 if scaled else 1.0
        factory = {"device": device, "dtype": dtype}
        self.score = nn.Conv2d(channels, num_heads * kernel_size**4, 1, **factory)
        self.value = nn.Conv2d(channels, channels, 1, bias=bias, **factory)
        self.drop = nn.Dropout(dropout)
        self.out = nn.Conv2d(channels, channels, 1, **factory)
        self.drop_out = nn.Dropout(out_dropout)

    def attention(self, x: Tensor) -> Tensor:
        scores = self.score(neighbors.avg_pool(x, self.stride)) * self.scale
        size = (self.num_heads, self.kernel_size**2, self.kernel_size**2)
        return precision.softmax(scores.unflatten(1, size), 3)  # b heads k j y x

    def combine(self, a: Tensor, x: Tensor) -> Tensor:
        a = _sum_over_windows(self.drop(a), self.kernel_size, self.stride, x)
        y = neighbors.gather(a, self.value(x), 2 * self.kernel_size - 1)
        return self.drop_out(self.out(y))


@leaf
def _sum_over_windows(a: Tensor, side: int, stride: int, x: Tensor) -> Tensor:
    """Sum the weights of all windows for each position and each neighbor.

    The values are then read once per neighbor, and not once per window and pair of its positions.

    Args:
        a: Maps of the windows, ``b heads k j y x``.
        side: Side of the windows.
        stride: Stride of the windows.
        x: The image, ``b c h w``.

    Returns:
        Weights ``b heads d h w`` of the (2 side - 1)² neighbors, row by row.
    """
    b, num_heads, _, _, rows, columns = a.shape
    h, w = x.shape[2:]
    margin, size = side // 2, 2 * side - 1
    total = a.new_zeros(b, num_heads, size, size, h + 2 * margin, w + 2 * margin)
    for i in range(side**2):  # the query in the window
        top, left = divmod(i, side)
        total[
            :,
            :,
            side - 1 - top : size - top,
            side - 1 - left : size - left,
            top : top + (rows - 1) * stride + 1 : stride,
            left : left + (columns - 1) * stride + 1 : stride,
        ] += a[:, :, i].unflatten(2, (side, side))
    return total.flatten(2, 3)[..., margin : margin + h, margin : margin + w]
