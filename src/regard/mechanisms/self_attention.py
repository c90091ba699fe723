"""Self-attention of SAGAN: every position attends to all positions, scaled by a learned gain."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from ..core import grid, pairwise
from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import one_of, positive, reduced
from ..core.conv_norm import CONV

Prepared = tuple[Tensor, Tensor, Tensor, Tensor]  # x, b n d, b m d, b m e


class SelfAttention(Attention):
    r"""Adds to each position a weighted sum over all positions, times a gain that starts at zero.

    .. math::
        y_j = x_j + \gamma\, W_v \textstyle\sum_i a_{ji}\, h(x_i), \quad
        a_{ji} = \operatorname{softmax}_i\, g(x_j)^\top f(x_i)

    with linear queries g, keys f and values h; equations 1 to 3 of the paper.

    In half precision, rounding can change which entry the softmax selects where scores are in
    the hundreds.

    Args:
        channels: :math:`C`.
        reduction: Queries and keys have :math:`\lfloor C/r \rfloor` channels.
        value_reduction: The values have :math:`\lfloor C/r_v \rfloor` channels, and :math:`W_v`
            projects their sum back to :math:`C`; if None they have :math:`C` channels, and there is
            no :math:`W_v`.
        subsample: Halve height and width of keys and values, but not time, by max pooling.
        bias: Give the projections biases.
        residual: Add the sum, times :math:`\gamma`, to the input; otherwise return the sum itself.
        dims: Axes of space and time: 1, 2 or 3.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c *`` (``dims`` axes of space and time), map ``b n m`` for n positions and m keys, y
        as x.

    Raises:
        ValueError: a size is not positive, a reduction leaves no channel, or ``dims`` is unknown.

    >>> SelfAttention(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = Card(
        title="Self-attention (SAGAN)",
        paper="Self-Attention Generative Adversarial Networks",
        authors="Han Zhang, Ian Goodfellow, Dimitris Metaxas, Augustus Odena",
        venue="ICML",
        year=2019,
        url="https://arxiv.org/abs/1805.08318",
        code="https://github.com/brain-research/self-attention-gan",
        license="Apache-2.0",
        domain="spatial",
        computes="conv+matmul",
        applies="matmul",
        kind="relation",
        identity_at_init=True,
        cost=dict(time="n^2 c + n c^2", memory="n c"),
        aliases=("sagan", "self_attn"),
        differs=(
            "The authors' code, and the default here, pools the projected keys and values and "
            "has values of half the channels; the paper mentions no pooling, and its values have "
            "an eighth of the channels (subsample=False, value_reduction=8).",
            "The paper's first version and the best-known re-implementation have values of all "
            "channels, biases, and no convolution after the sum (subsample=False, "
            "value_reduction=None, bias=True).",
            "The authors use spectral normalization in every layer of their networks; here it is "
            "left to the network: torch.nn.utils.parametrizations adds it to any layer.",
            "A feature map of odd height or width loses its last row or column in the pool, and "
            "an axis of length one is not pooled; the authors' code needs even sizes.",
        ),
    )
    axes = Axes("b c *", "b n m", range="softmax")

    def __init__(
        self,
        channels: int,
        reduction: int = 8,
        *,
        value_reduction: int | None = 2,
        subsample: bool = True,
        bias: bool = False,
        residual: bool = True,
        dims: Literal[1, 2, 3] = 2,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=channels)
        key_dim = reduced(channels, reduction)
        value_dim = channels
        if value_reduction is not None:
            positive(value_reduction=value_reduction)
            if value_reduction > channels:
                raise ValueError(
                    f"value_reduction ({value_reduction}) must not be larger than channels "
                    f"({channels}): nothing would be left"
                )
            value_dim = channels // value_reduction
        one_of((1, 2, 3), dims=dims)
        self.axes = self.axes.over(dims)
        self.subsample = subsample
        self.residual = residual
        self.identity_at_init = residual
        factory = {"device": device, "dtype": dtype}
        self.query = CONV[dims](channels, key_dim, 1, bias=bias, **factory)
        self.key = CONV[dims](channels, key_dim, 1, bias=bias, **factory)
        self.value = CONV[dims](channels, value_dim, 1, bias=bias, **factory)
        if value_reduction is not None:
            self.out = CONV[dims](value_dim, channels, 1, bias=bias, **factory)
        else:
            self.out = nn.Identity()
        if residual:
            self.gamma = nn.Parameter(torch.zeros(1, **factory))

    def reset_parameters(self) -> None:
        """Reset the projections, and the gain to zero: the module starts as the identity."""
        super().reset_parameters()
        if self.residual:
            nn.init.zeros_(self.gamma)

    def prepare(self, x: Tensor) -> Prepared:
        q, k, v = self.query(x), self.key(x), self.value(x)
        if self.subsample:
            k, v = grid.max_pool(k), grid.max_pool(v)
        q, k, v = q.flatten(2), k.flatten(2), v.flatten(2)
        return x, q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)

    def attention(self, z: Prepared) -> Tensor:
        _, q, k, _ = z
        return pairwise.attention_weights(q, k)

    def combine(self, a: Tensor, z: Prepared) -> Tensor:
        x, _, _, v = z
        return self.add(a @ v, x)

    def fused(self, z: Prepared) -> Tensor:
        x, q, k, v = z
        return self.add(pairwise.scaled_dot_product(q, k, v), x)

    def add(self, y: Tensor, x: Tensor) -> Tensor:
        """Project the sum over the values and add it to the input."""
        y = self.out(y.transpose(-2, -1).unflatten(2, x.shape[2:]))
        return x + self.gamma * y if self.residual else y
