"""Efficient multi-head attention: all positions read a reduced image, and heads hear each other."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, pixel_shuffle

from ..core import pairwise, precision
from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import divides, positive, probability
from ..core.tracing import leaf


@leaf
def standardize(a: Tensor) -> Tensor:
    """Mean 0 and variance 1 for each head's map: an instance norm, of a single number too."""
    return layer_norm(a, a.shape[2:])


@leaf
def image(y: Tensor, x: Tensor) -> Tensor:
    """The tokens ``b n c`` as an image of the size and the layout of x."""
    y = y.mT.unflatten(2, x.shape[2:])
    return y if x.is_contiguous(memory_format=torch.channels_last) else y.contiguous()


class EfficientMultiHead(Attention):
    r"""Gives each position a weighted sum over a reduced image, by heads that are mixed.

    .. math::
        y = W_o [a_1 V_1; \dots; a_H V_H], \quad a_h = \operatorname{IN}\Big(\operatorname{softmax}
        \big(\textstyle\sum_g w_{hg} \frac{Q_g K_g^\top}{\sqrt{d_k}} + b_h\big)\Big), \quad
        [K, V] = W_{kv} \operatorname{LN}(\operatorname{DWConv}_s(x))

    where Q is from x, the depthwise convolution has a kernel of s + 1 and a stride of s, and IN
    normalizes the map of each head; section 3.2 of the paper. The second version (section 3 of
    "ResT V2: Simpler, Faster and Stronger") leaves the softmax alone (``transform=False``) and adds
    to the heads what the values hold themselves, enlarged again (``upsample=True``):
    :math:`\operatorname{LN}(\operatorname{PixelShuffle}_s(\operatorname{DWConv}(V)))`.

    Args:
        channels: :math:`C`.
        num_heads: :math:`H`.
        reduction: :math:`s`; with 1, keys and values are from the image itself.
        head_dim: :math:`d_k`, channels of a head's queries and keys; ``channels / num_heads`` if
            none.
        value_head_dim: :math:`d_v`, channels of a head's values; ``head_dim`` by default.
        transform: Mix the scores of the heads, and normalize the map after the softmax. A single
            head is never transformed.
        upsample: Add the enlarged values; height and width must be multiples of the reduction.
        bias: Give the projections of queries, keys and values biases.
        dropout: Rate of dropping weights of the map in training.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, map ``b heads n m`` for n positions and m of the reduced image, y as x.

    Raises:
        ValueError: a size is not positive, the heads do not divide the channels, or the dropout is
            not a rate.

    >>> EfficientMultiHead(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = Card(
        title="Efficient multi-head self-attention",
        paper="ResT: An Efficient Transformer for Visual Recognition",
        authors="Qinglong Zhang, Yubin Yang",
        venue="NeurIPS",
        year=2021,
        url="https://arxiv.org/abs/2105.13677",
        code="https://github.com/wofmanaf/ResT",
        license="Apache-2.0",
        domain="spatial",
        computes="conv+matmul",
        applies="matmul",
        kind="relation",
        cost=dict(time="n^2 c + n c^2", memory="n^2 + n c"),
        aliases=("emsa", "rest", "efficient_multi_head_self_attention"),
        differs=(
            "Heads and reduction are those of the third stage of the authors' networks, which has "
            "most of their layers; their class itself reduces nothing by default.",
            "The layer norms divide by the root of the variance plus 1e-5, with upsample=True "
            "1e-6, as in the authors' two versions.",
            "Height and width are read from the input; a well-known re-implementation wants them "
            "in its constructor.",
        ),
    )
    axes = Axes("b c h w", "b heads n m")

    def __init__(
        self,
        channels: int,
        num_heads: int = 4,
        reduction: int = 2,
        *,
        head_dim: int | None = None,
        value_head_dim: int | None = None,
        transform: bool = True,
        upsample: bool = False,
        bias: bool = True,
        dropout: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        positive(channels=channels, num_heads=num_heads, reduction=reduction)
        super().__init__(c=channels, heads=num_heads)
        if upsample and reduction > 1:
            self.divisors = {"h": reduction, "w": reduction}
        if head_dim is None:
            divides(channels=channels, num_heads=num_heads)
            head_dim = channels // num_heads
        value_head_dim = head_dim if value_head_dim is None else value_head_dim
        positive(head_dim=head_dim, value_head_dim=value_head_dim)
        probability(dropout=dropout)
        transform = transform and num_heads > 1
        self.num_heads, self.reduction, self.scale = num_heads, reduction, head_dim**-0.5
        self.axes = replace(self.axes, range="real" if transform else "softmax")
        factory = {"device": device, "dtype": dtype}
        inner = num_heads * value_head_dim
        eps = 1e-6 if upsample else 1e-5
        self.query = nn.Conv2d(channels, num_heads * head_dim, 1, bias=bias, **factory)
        self.shrink = self.shrink_norm = None
        if reduction > 1:
            how = {"padding": reduction // 2, "groups": channels, **factory}
            self.shrink = nn.Conv2d(channels, channels, reduction + 1, reduction, **how)
            self.shrink_norm = nn.LayerNorm(channels, eps, **factory)
        self.key = nn.Linear(channels, num_heads * head_dim, bias, **factory)
        self.value = nn.Linear(channels, inner, bias, **factory)
        self.mix = nn.Conv2d(num_heads, num_heads, 1, **factory) if transform else None
        self.drop = nn.Dropout(dropout)
        self.grow = self.grow_norm = None
        if upsample:
            how = {"padding": 1, "groups": inner, **factory}
            self.grow = nn.Conv2d(inner, inner * reduction**2, 3, **how)
            self.grow_norm = nn.LayerNorm(inner, eps, **factory)
        self.out = nn.Linear(inner, channels, **factory)

    def prepare(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        if self.shrink is None or self.shrink_norm is None:
            source = x.flatten(2).mT  # b m c
        else:
            source = self.shrink_norm(self.shrink(x).flatten(2).mT)
        q = self.query(x).flatten(2).mT
        return x, *map(self.divide, (q, self.key(source), self.value(source)))

    def divide(self, x: Tensor) -> Tensor:
        return pairwise.split_heads(x, self.num_heads)

    def attention(self, x: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor:
        _, q, k, _ = x
        if self.mix is None:
            return pairwise.attention_weights(q, k, scale=self.scale)
        return standardize(precision.softmax(self.mix((q * self.scale) @ k.mT), -1))

    def combine(self, a: Tensor, x: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor:
        return self.join(self.drop(a) @ x[3], x)

    def join(self, y: Tensor, x: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor:
        like, _, _, v = x
        y = pairwise.merge_heads(y)  # b n (heads d)
        if self.grow is not None and self.grow_norm is not None:
            h, w = like.shape[2] // self.reduction, like.shape[3] // self.reduction
            grown = self.grow(v.mT.flatten(1, 2).unflatten(2, (h, w)))
            y = y + self.grow_norm(pixel_shuffle(grown, self.reduction).flatten(2).mT)
        return image(self.out(y), like)

    def fused(self, x: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor | None:
        if self.mix is not None:  # the norm needs every number of the map
            return None
        _, q, k, v = x
        dropout = self.drop.p if self.training else 0.0
        return self.join(pairwise.scaled_dot_product(q, k, v, scale=self.scale, dropout=dropout), x)
