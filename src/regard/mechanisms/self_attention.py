"""Self-attention of SAGAN: every position reads every position, and starts by reading nothing."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..core import grid, pairwise
from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import positive, reduced


class SelfAttention(Attention):
    r"""Adds to each position a weighted sum over all positions, by a scale that starts at zero.

    .. math::
        y_j = x_j + \gamma\, W_v \textstyle\sum_i a_{ji}\, h(x_i), \quad
        a_{ji} = \operatorname{softmax}_i\, g(x_j)^\top f(x_i)

    with linear queries g, keys f and values h; equations 1 to 3 of the paper.

    Args:
        channels: :math:`C`.
        reduction: Queries and keys have :math:`\lfloor C/r \rfloor` channels.
        value_reduction: The values have :math:`\lfloor C/r_v \rfloor` channels, and :math:`W_v`
            brings their sum back to :math:`C`; if None they have :math:`C`, and there is no
            :math:`W_v`.
        subsample: Halve the keys and the values in height and width, by a maximum pool.
        bias: Give the projections biases.
        residual: Add the sum, times :math:`\gamma`, to the input; if not, it is the output.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, map ``b n m`` for n positions and m keys, y as x.

    Raises:
        ValueError: a size is not positive, or a reduction leaves no channel.

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
            "The authors' code, and the default here, pools keys and values after projecting them "
            "and has values of half the channels; the paper does not speak of pooling, and its "
            "values have an eighth of the channels (pool=False, value_reduction=8).",
            "The paper's first version and the best-known re-implementation have values of all "
            "channels, biases, and no convolution behind the sum (pool=False, "
            "value_reduction=None, bias=True).",
            "The authors normalize every layer of their networks by its spectral norm; that "
            "belongs to the network, and torch.nn.utils.parametrizations adds it to any layer.",
            "A map of odd height or width loses its last row or column in the pool, and one of a "
            "single row or column is not pooled along it; the authors' code needs even sizes.",
        ),
    )
    axes = Axes("b c h w", "b n m", range="softmax")

    def __init__(
        self,
        channels: int,
        reduction: int = 8,
        *,
        value_reduction: int | None = 2,
        subsample: bool = True,
        bias: bool = False,
        residual: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=channels)
        hidden = reduced(channels, reduction)
        width = channels
        if value_reduction is not None:
            positive(value_reduction=value_reduction)
            if value_reduction > channels:
                raise ValueError(
                    f"value_reduction ({value_reduction}) must not be larger than channels "
                    f"({channels}): nothing would be left"
                )
            width = channels // value_reduction
        self.subsample = subsample
        self.residual = residual
        self.identity_at_init = residual
        factory = {"device": device, "dtype": dtype}
        self.query = nn.Conv2d(channels, hidden, 1, bias=bias, **factory)
        self.key = nn.Conv2d(channels, hidden, 1, bias=bias, **factory)
        self.value = nn.Conv2d(channels, width, 1, bias=bias, **factory)
        if value_reduction is not None:
            self.out = nn.Conv2d(width, channels, 1, bias=bias, **factory)
        else:
            self.out = nn.Identity()
        if residual:
            self.gamma = nn.Parameter(torch.zeros(1, **factory))

    def reset_parameters(self) -> None:
        """Draw new projections; the scale starts at zero, so that the module starts as x."""
        super().reset_parameters()
        if self.residual:
            nn.init.zeros_(self.gamma)

    def prepare(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        q, k, v = self.query(x), self.key(x), self.value(x)
        if self.subsample:
            k, v = grid.max_pool(k), grid.max_pool(v)
        return x, q.flatten(2).mT, k.flatten(2).mT, v.flatten(2).mT  # x, b n d, b m d, b m e

    def attention(self, x: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor:
        return pairwise.attention_weights(x[1], x[2])

    def combine(self, a: Tensor, x: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor:
        return self.add(a @ x[3], x[0])

    def fused(self, x: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor:
        x, q, k, v = x
        return self.add(pairwise.scaled_dot_product(q, k, v), x)

    def add(self, y: Tensor, x: Tensor) -> Tensor:
        y = self.out(y.mT.unflatten(2, x.shape[2:]))
        return x + self.gamma * y if self.residual else y
