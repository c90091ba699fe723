"""Focused linear attention: features that keep their length and sharpen their direction."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, softplus

from ..core import grid, linear, pairwise, precision, tokens
from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import divides, odd, one_of, positive, probability
from ..core.conv_norm import CONV
from ..core.initial import small_projections
from ..core.tracing import leaf

Prepared = tuple[Tensor, Tensor, Tensor, Tensor]  # x, and q, k, v: b heads n d each

EPS = 1e-6  # added to the features and to the mean weight


class FocusedLinear(Attention):
    r"""Weighs the values by products of focused features, and adds a depthwise convolution of them.

    .. math::
        y = W_o \big(\frac{\phi(Q)\,(\phi(K)^\top V)}{\phi(Q) \sum_m \phi(K_m)}
        + \operatorname{DWConv}(V)\big), \quad
        \phi(x) = \frac{\lVert u \rVert}{\lVert u^p \rVert}\, u^p, \quad
        u = \operatorname{ReLU}(x) / \operatorname{softplus}(s)

    in each head, where the lengths are those over all heads and the convolution is the same for
    each; equations 4 to 6 of the paper. K has a learned vector for each position added; if there
    are more positions or fewer, they are interpolated along the sequence. With a reduction r, keys
    and values are from :math:`\operatorname{LN}(\operatorname{Conv}_r(x))`, and V is interpolated
    along the sequence for its convolution.

    Args:
        channels: :math:`C`.
        num_heads: Number of heads.
        reduction: :math:`r`; with 1, keys and values are computed from x itself.
        power: :math:`p`.
        kernel_size: Side of the depthwise convolution, odd.
        num_positions: Number of learned vectors by position; None for none.
        learned_scale: Divide by softplus(s), with s learned for each channel.
        bias: Give the projections of queries, keys and values biases.
        out_dropout: Dropout rate of the output.
        dims: Axes of space and time: 1, 2 or 3.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c *`` (``dims`` axes of space and time), map ``b heads n m`` for n positions and m of
        the reduced image, y as x. The map is built only if its tap is watched.

    Raises:
        ValueError: a size is not positive, ``num_heads`` does not divide the channels, the kernel
            is even, the dropout is not a rate, or ``dims`` is unknown.

    >>> FocusedLinear(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = Card(
        title="Focused linear attention",
        paper="FLatten Transformer: Vision Transformer using Focused Linear Attention",
        authors="Dongchen Han, Xuran Pan, Yizeng Han, Shiji Song, Gao Huang",
        venue="ICCV",
        year=2023,
        url="https://arxiv.org/abs/2308.00442",
        code="https://github.com/LeapLabTHU/FLatten-Transformer",
        license="none stated",
        domain="spatial",
        computes="fc+matmul",
        applies="matmul",
        kind="relation",
        cost=dict(time="n c^2", memory="n c"),
        aliases=("flatten", "fla", "flatten_transformer", "focused_linear_attention"),
        differs=(
            "The authors' code, and the default here, has a learned scale and learned vectors by "
            "position; the paper's equations have neither (learned_scale=False, "
            "num_positions=None).",
            "Their code has as many vectors as its fixed size has positions; here they are "
            "interpolated for other sizes.",
        ),
    )
    axes = Axes("b c *", "b heads n m", range="unit")

    def __init__(
        self,
        channels: int,
        num_heads: int = 8,
        reduction: int = 1,
        *,
        power: int = 3,
        kernel_size: int = 5,
        num_positions: int | None = 49,
        learned_scale: bool = True,
        bias: bool = True,
        out_dropout: float = 0.0,
        dims: Literal[1, 2, 3] = 2,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        divides(channels=channels, num_heads=num_heads)
        super().__init__(c=channels, heads=num_heads)
        positive(reduction=reduction, power=power)
        odd(kernel_size=kernel_size)
        one_of((1, 2, 3), dims=dims)
        probability(out_dropout=out_dropout)
        self.num_heads, self.reduction, self.power = num_heads, reduction, power
        self.axes = self.axes.over(dims)
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self.query = nn.Linear(channels, channels, bias, **factory)
        self.shrink = self.shrink_norm = self.positions = self.scale = None
        if reduction > 1:
            self.shrink = CONV[dims](channels, channels, reduction, reduction, **factory)
            self.shrink_norm = nn.LayerNorm(channels, **factory)
        self.key = nn.Linear(channels, channels, bias, **factory)
        self.value = nn.Linear(channels, channels, bias, **factory)
        if num_positions is not None:
            positive(num_positions=num_positions)
            self.positions = nn.Parameter(torch.empty(num_positions, channels, **factory))
        if learned_scale:
            self.scale = nn.Parameter(torch.empty(channels, **factory))
        width = channels // num_heads
        self.local = CONV[dims](
            width, width, kernel_size, padding=kernel_size // 2, groups=width, **factory
        )
        self.out = nn.Linear(channels, channels, **factory)
        self.drop_out = nn.Dropout(out_dropout)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw projections with a small spread; zero positions, scale and biases."""
        super().reset_parameters()
        small_projections(self)
        for parameter in (self.positions, self.scale):
            if parameter is not None:
                nn.init.zeros_(parameter)

    def prepare(self, x: Tensor) -> Prepared:
        source = tokens.to_tokens(x)
        q = self.query(source)
        if self.shrink is not None and self.shrink_norm is not None:
            shrunk = self.shrink(grid.fill_up(x, self.reduction))
            source = self.shrink_norm(tokens.to_tokens(shrunk))
        k, v = self.key(source), self.value(source)
        if self.positions is not None:
            k = k + _resampled(self.positions.T[None], k).transpose(1, 2)
        focused = self.focus(q), self.focus(k), v
        q, k, v = (pairwise.split_heads(t, self.num_heads) for t in focused)
        return x, q, k, v

    def attention(self, z: Prepared) -> Tensor:
        _, q, k, v = z
        return linear.weights(q, k, EPS, mean=True, dtype=v.dtype)

    def combine(self, a: Tensor, z: Prepared) -> Tensor:
        x, _, _, v = z
        return self.join(a @ v, v, x)

    def fused(self, z: Prepared) -> Tensor:
        x, q, k, v = z
        return self.join(linear.weighted_sum(q, k, v, EPS, mean=True), v, x)

    def focus(self, x: Tensor) -> Tensor:
        """Return the features ``b n c`` of queries or keys, in single precision at least."""
        u = precision.widen(x).relu() + EPS
        if self.scale is not None:
            u = u / softplus(precision.widen(self.scale))
        sharp = u**self.power
        return sharp * (u.norm(dim=-1, keepdim=True) / sharp.norm(dim=-1, keepdim=True))

    def join(self, y: Tensor, v: Tensor, x: Tensor) -> Tensor:
        """Add the convolved values ``b heads m d`` to y, ``b heads n d``, and project."""
        v = v.transpose(-2, -1).flatten(0, 1)  # (b heads) d m
        if self.reduction > 1:
            v = _resampled(v, y)
        local = self.local(_as_grid(v, x)).flatten(2).transpose(-2, -1)
        y = y + local.unflatten(0, (-1, self.num_heads))
        return tokens.to_grid(self.drop_out(self.out(pairwise.merge_heads(y))), x)


@leaf
def _resampled(x: Tensor, like: Tensor) -> Tensor:
    """Interpolate sequences ``… d n`` to the length of others, ``… m d``."""
    return interpolate(x, like.shape[-2], mode="linear")


@leaf
def _as_grid(v: Tensor, x: Tensor) -> Tensor:
    return v.unflatten(2, x.shape[2:])
