"""Efficient multi-head self-attention: keys and values from a downsampled image, mixed heads."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, pixel_shuffle

from ..core import pairwise, precision
from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import head_dims, positive, probability
from ..core.tracing import leaf

Prepared = tuple[Tensor, Tensor, Tensor, Tensor]  # x, and q, k, v: b heads n d each


class EfficientMultiHead(Attention):
    r"""Applies multi-head attention to a downsampled image, with scores mixed across heads.

    .. math::
        y = W_o [a_1 V_1; \dots; a_H V_H], \quad a_h = \operatorname{IN}\Big(\operatorname{softmax}
        \big(\textstyle\sum_g w_{hg} \frac{Q_g K_g^\top}{\sqrt{d_k}} + b_h\big)\Big), \quad
        [K, V] = W_{kv} \operatorname{LN}(\operatorname{DWConv}_s(x))

    where Q is from x, the depthwise convolution has a kernel of s + 1 and a stride of s, and IN
    normalizes the map of each head; section 3.2 of the paper. The second version (section 3 of
    "ResT V2: Simpler, Faster and Stronger") has a plain softmax (``transform=False``) and adds the
    upsampled values to the output of the heads (``upsample=True``):
    :math:`\operatorname{LN}(\operatorname{PixelShuffle}_s(\operatorname{DWConv}(V)))`.

    In half precision, rounding can change which entry the softmax selects where scores are in
    the hundreds.

    Args:
        channels: :math:`C`.
        num_heads: :math:`H`.
        reduction: :math:`s`; with 1, keys and values are computed from x itself.
        head_dim: :math:`d_k`, channels of a head's queries and keys; ``channels / num_heads`` by
            default.
        value_head_dim: :math:`d_v`, channels of a head's values; ``head_dim`` by default.
        transform: Mix the scores of the heads, and normalize the map after the softmax; no effect
            with a single head.
        upsample: Add the upsampled values; height and width must be multiples of the reduction.
        bias: Give the projections of queries, keys and values biases.
        dropout: Dropout rate of the attention weights.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, map ``b heads n m`` for n positions and m of the downsampled image, y as x.

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
            "The default heads and reduction are those of the third stage of the authors' "
            "networks, which has most of their layers; their class has no reduction by default.",
            "The layer norms have an eps of 1e-5, with upsample=True 1e-6, as in the authors' two "
            "versions.",
            "Height and width are read from the input; a well-known re-implementation takes them "
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
        super().__init__(c=channels, heads=num_heads)
        positive(reduction=reduction)
        if upsample and reduction > 1:
            self.divisors = {"h": reduction, "w": reduction}
        head_dim, value_head_dim = head_dims(num_heads, head_dim, value_head_dim, channels=channels)
        probability(dropout=dropout)
        transform = transform and num_heads > 1
        self.num_heads, self.reduction, self.scale = num_heads, reduction, head_dim**-0.5
        self.axes = replace(self.axes, range="real" if transform else "softmax")
        factory = {"device": device, "dtype": dtype}
        inner_dim = num_heads * value_head_dim
        eps = 1e-6 if upsample else 1e-5
        self.query = nn.Conv2d(channels, num_heads * head_dim, 1, bias=bias, **factory)
        self.shrink = self.shrink_norm = None
        if reduction > 1:
            options = {"padding": reduction // 2, "groups": channels, **factory}
            self.shrink = nn.Conv2d(channels, channels, reduction + 1, reduction, **options)
            self.shrink_norm = nn.LayerNorm(channels, eps, **factory)
        self.key = nn.Linear(channels, num_heads * head_dim, bias, **factory)
        self.value = nn.Linear(channels, inner_dim, bias, **factory)
        self.mix = nn.Conv2d(num_heads, num_heads, 1, **factory) if transform else None
        self.drop = nn.Dropout(dropout)
        self.grow = self.grow_norm = None
        if upsample:
            options = {"padding": 1, "groups": inner_dim, **factory}
            self.grow = nn.Conv2d(inner_dim, inner_dim * reduction**2, 3, **options)
            self.grow_norm = nn.LayerNorm(inner_dim, eps, **factory)
        self.out = nn.Linear(inner_dim, channels, **factory)

    def prepare(self, x: Tensor) -> Prepared:
        if self.shrink is None or self.shrink_norm is None:
            source = x.flatten(2).transpose(1, 2)  # b m c
        else:
            source = self.shrink_norm(self.shrink(x).flatten(2).transpose(1, 2))
        q, k, v = self.query(x).flatten(2).transpose(1, 2), self.key(source), self.value(source)
        q, k, v = (pairwise.split_heads(t, self.num_heads) for t in (q, k, v))
        return x, q, k, v

    def attention(self, z: Prepared) -> Tensor:
        _, q, k, _ = z
        if self.mix is None:
            return pairwise.attention_weights(q, k, scale=self.scale)
        scores = self.mix((q * self.scale) @ k.transpose(-2, -1))
        return _instance_norm(precision.softmax(scores, -1))

    def combine(self, a: Tensor, z: Prepared) -> Tensor:
        x, _, _, v = z
        return self.merge(self.drop(a) @ v, v, x)

    def fused(self, z: Prepared) -> Tensor | None:
        if self.mix is not None:  # the instance norm needs the whole map
            return None
        x, q, k, v = z
        dropout = self.drop.p if self.training else 0.0
        y = pairwise.scaled_dot_product(q, k, v, scale=self.scale, dropout=dropout)
        return self.merge(y, v, x)

    def merge(self, y: Tensor, v: Tensor, x: Tensor) -> Tensor:
        """Merge the output y of the heads, add the upsampled values, and project."""
        y = pairwise.merge_heads(y)  # b n (heads d)
        if self.grow is not None and self.grow_norm is not None:
            h, w = x.shape[2] // self.reduction, x.shape[3] // self.reduction
            v = self.grow(v.transpose(-2, -1).flatten(1, 2).unflatten(2, (h, w)))
            y = y + self.grow_norm(pixel_shuffle(v, self.reduction).flatten(2).transpose(1, 2))
        return _as_image(self.out(y), x)


@leaf
def _instance_norm(a: Tensor) -> Tensor:
    """Normalize each head's map to mean 0 and variance 1; a map may be a single number."""
    return layer_norm(a, a.shape[2:])


@leaf
def _as_image(y: Tensor, x: Tensor) -> Tensor:
    """Return tokens ``b n c`` as an image with the size and the memory layout of x."""
    y = y.transpose(-2, -1).unflatten(2, x.shape[2:])
    return y if x.is_contiguous(memory_format=torch.channels_last) else y.contiguous()
