"""Manhattan attention: scores decay with the distance along rows and columns."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..core import pairwise, relative, tokens
from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import above_zero, divides, one_of
from ..core.tracing import leaf

# x; q, k, v: b heads n d each, q and k turned by their positions; the convolved values b c h w
Prepared = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


class Manhattan(Attention):
    r"""Applies multi-head attention whose scores decay with the Manhattan distance.

    .. math::
        y = W_o \big([a_1 V_1; \dots; a_H V_H] + \operatorname{DWConv}_5(V)\big), \quad
        a_h = \operatorname{softmax}_j\big(d^{-1/2}\, \theta(Q_h)_i^\top \theta(K_h)_j
        + (|\Delta u| + |\Delta v|) \ln \gamma_h\big), \quad
        \gamma_h = 1 - 2^{-r_0 - r h / H}

    for rows u and columns v, where :math:`\theta` turns pairs of channels by angles that grow with
    the position; section 3.2 and equations 6 to 8 of the paper. The decomposed form attends within
    rows, and then within the columns of the result; equation 9.

    In half precision, rounding can change which entry the softmax selects where scores are in
    the hundreds.

    Args:
        channels: :math:`C`.
        num_heads: :math:`H`.
        decomposed: Attend within rows and then within columns, not to the whole image.
        decay: Add the logarithm of the decay to the ``scores``, or multiply the ``weights`` by it
            after the softmax, as in the paper's equations.
        first_decay: :math:`r_0`.
        decay_range: :math:`r`.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, map ``b heads n n``, or, decomposed, the maps ``w``, ``b h heads w w``, and
        ``h``, ``b w heads h h``; y as x.

    Raises:
        ValueError: a size is not positive, ``num_heads`` does not divide the channels, a head has
            an odd number of channels, a decay is not above zero, or ``decay`` is unknown.

    >>> Manhattan(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = Card(
        title="Manhattan self-attention",
        paper="RMT: Retentive Networks Meet Vision Transformers",
        authors="Qihang Fan, Huaibo Huang, Mingrui Chen, Hongmin Liu, Ran He",
        venue="CVPR",
        year=2024,
        url="https://arxiv.org/abs/2309.11523",
        code="https://github.com/qhfan/RMT",
        license="none stated",
        domain="spatial",
        computes="fc+matmul",
        applies="matmul",
        kind="relation",
        cost=dict(time="n^2 c + n^2 h + n^2 w + n c^2", memory="n c + n h + n w"),
        aliases=("retention_2d", "masa", "rmt", "manhattan_self_attention", "vision_retention"),
        differs=(
            "The paper multiplies the weights by the decay after the softmax (decay='weights'); "
            "the authors' code, and the default here, adds its logarithm before.",
            "The paper's equations do not have the turns by position, which the code has; they "
            "follow the row of all positions.",
        ),
    )
    axes = Axes("b c h w", "b heads n n", range="softmax")

    def __init__(
        self,
        channels: int,
        num_heads: int = 8,
        *,
        decomposed: bool = False,
        decay: Literal["scores", "weights"] = "scores",
        first_decay: float = 2.0,
        decay_range: float = 4.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        divides(channels=channels, num_heads=num_heads)
        super().__init__(c=channels, heads=num_heads)
        one_of(("scores", "weights"), decay=decay)
        above_zero(first_decay=first_decay, decay_range=decay_range)
        head_dim = channels // num_heads
        if head_dim % 2:
            raise ValueError(f"channels / num_heads must be even, got {head_dim}")
        if decomposed:
            self.axes = replace(self.axes, map="w: b h heads w w, h: b w heads h h")
        if decay == "weights":
            self.axes = replace(self.axes, range="unit")
        self.num_heads, self.decomposed, self.decay = num_heads, decomposed, decay
        self.first_decay, self.decay_range = first_decay, decay_range
        self.scale = head_dim**-0.5
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self.query = nn.Linear(channels, channels, **factory)
        self.key = nn.Linear(channels, channels, **factory)
        self.value = nn.Linear(channels, channels, **factory)
        self.local = nn.Conv2d(channels, channels, 5, padding=2, groups=channels, **factory)
        self.out = nn.Linear(channels, channels, **factory)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new parameters: projections by Glorot's rule, those of the heads smaller."""
        super().reset_parameters()
        for layer in (self.query, self.key, self.value):
            nn.init.xavier_normal_(layer.weight, gain=2**-2.5)
        nn.init.xavier_normal_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def prepare(self, x: Tensor) -> Prepared:
        t = tokens.to_tokens(x)
        values = self.value(t)
        projected = self.query(t), self.key(t), values
        q, k, v = (pairwise.split_heads(t, self.num_heads) for t in projected)
        local = self.local(tokens.to_grid(values, x))
        return x, _turned(q), _turned(k * self.scale), v, tokens.to_tokens(local)

    def attention(self, z: Prepared) -> Tensor | tuple[Tensor, Tensor]:
        x, q, k, _, _ = z
        if self.decomposed:
            return self.weights(q, k, x, 1), self.weights(q, k, x, 0)
        q, k = self.with_decay(q, k, x)
        a = pairwise.attention_weights(q, k)
        return a if self.decay == "scores" else a * self.decays(q, x).exp().to(a.dtype)

    def combine(self, a: Tensor | tuple[Tensor, Tensor], z: Prepared) -> Tensor:
        x, _, _, v, local = z
        if not self.decomposed:
            return self.join(a @ v, local, x)  # type: ignore[operator]  # it is one map
        within_rows, within_columns = a
        v = (within_rows @ _lines(v, x, 1)).permute(0, 3, 2, 1, 4)  # b w heads h d
        return self.join(_from_lines(within_columns @ v), local, x)

    def fused(self, z: Prepared) -> Tensor | None:
        x, q, k, v, local = z
        if self.decay == "weights":  # which no kernel changes after the softmax
            return None
        if not self.decomposed:
            q, k = self.with_decay(q, k, x)
            return self.join(pairwise.scaled_dot_product(q, k, v), local, x)
        v = self.within(q, k, _lines(v, x, 1), x, 1).permute(0, 3, 2, 1, 4)
        return self.join(_from_lines(self.within(q, k, v, x, 0)), local, x)

    def rates(self, like: Tensor) -> Tensor:
        """Return the logarithms of the decays of the heads, ``heads 1 1``."""
        return _rates(self.num_heads, self.first_decay, self.decay_range, like)

    def line(self, like: Tensor, x: Tensor, axis: int) -> Tensor:
        """Return the logarithms of the decays along an axis, ``heads n n``."""
        return _line(self.rates(like), x, axis)

    def decays(self, like: Tensor, x: Tensor) -> Tensor:
        """Return the logarithms of the decays of the whole image, ``heads n n``."""
        return _sum_of_lines(self.line(like, x, 0), self.line(like, x, 1))

    def with_decay(self, q: Tensor, k: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return queries and keys with the decays along both axes as further channels."""
        if self.decay == "weights":
            return q, k
        lines = [_for_each_query(self.line(q, x, axis), q, x, axis) for axis in (0, 1)]
        return relative.extended(q, k, lines, x.shape[2:])

    def weights(self, q: Tensor, k: Tensor, x: Tensor, axis: int) -> Tensor:
        """Return the map within the lines along an axis."""
        line = self.line(q, x, axis)
        bias = line.to(q.dtype) if self.decay == "scores" else None
        a = pairwise.attention_weights(_lines(q, x, axis), _lines(k, x, axis), mask=bias)
        return a if self.decay == "scores" else a * line.exp().to(a.dtype)

    def within(self, q: Tensor, k: Tensor, v: Tensor, x: Tensor, axis: int) -> Tensor:
        """Attend within the lines along an axis, for values ``b lines heads n d``."""
        q, k = _lines(q, x, axis), _lines(k, x, axis)
        bias = self.line(q, x, axis).to(q.dtype)[None]
        flat = (t.flatten(0, 1) for t in (q, k, v))
        return pairwise.scaled_dot_product(*flat, mask=bias).reshape(v.shape)

    def join(self, y: Tensor, local: Tensor, x: Tensor) -> Tensor:
        """Merge the heads ``b heads n d``, add the convolved values, and project."""
        return tokens.to_grid(self.out(pairwise.merge_heads(y) + local), x)


@leaf
def _turned(x: Tensor) -> Tensor:
    """Turn pairs of channels by angles that grow with the position."""
    n, width = x.shape[-2:]
    wide = torch.promote_types(x.dtype, torch.float32)
    speed = torch.linspace(0, 1, width // 2, device=x.device, dtype=wide)
    angle = torch.arange(n, device=x.device)[:, None] * 10000**-speed
    first, second = x.unflatten(-1, (-1, 2)).unbind(-1)
    cos, sin = angle.cos(), angle.sin()
    turned = first * cos - second * sin, second * cos + first * sin
    return torch.stack(turned, -1).flatten(-2).to(x.dtype)


@leaf
def _rates(heads: int, first: float, spread: float, like: Tensor) -> Tensor:
    wide = torch.promote_types(like.dtype, torch.float32)
    head = torch.arange(heads, device=like.device, dtype=wide)
    return (1 - 2 ** (-first - spread * head / heads)).log()[:, None, None]


@leaf
def _line(rates: Tensor, x: Tensor, axis: int) -> Tensor:
    place = torch.arange(x.shape[axis + 2], device=x.device)
    return rates * (place[:, None] - place).abs()


@leaf
def _sum_of_lines(rows: Tensor, columns: Tensor) -> Tensor:
    total = rows[:, :, None, :, None] + columns[:, None, :, None]
    return total.flatten(3).flatten(1, 2)


@leaf
def _for_each_query(line: Tensor, q: Tensor, x: Tensor, axis: int) -> Tensor:
    """Return the decays of an axis for each query, ``b heads n k``."""
    heads, _, k = line.shape
    line = line[:, :, None] if axis == 0 else line[:, None]
    line = line.expand(heads, *x.shape[2:], k).flatten(1, 2)
    return line.to(q.dtype).expand(q.shape[0], -1, -1, -1)


@leaf
def _lines(t: Tensor, x: Tensor, axis: int) -> Tensor:
    """Return heads ``b heads n d`` as the lines along an axis, ``b lines heads n d``."""
    t = t.unflatten(2, x.shape[2:])  # b heads h w d
    return t.permute(0, 3, 1, 2, 4) if axis == 0 else t.permute(0, 2, 1, 3, 4)


@leaf
def _from_lines(y: Tensor) -> Tensor:
    """Return columns ``b w heads h d`` as heads ``b heads n d``."""
    return y.permute(0, 2, 3, 1, 4).flatten(2, 3)
