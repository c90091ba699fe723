"""Disentangled non-local block: what pairs have in common, and what is salient for all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..core import grid, pairwise, precision, tokens
from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import above_zero, one_of, positive
from ..core.conv_norm import CONV, NORM

Prepared = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]  # x; q, k, v: b n d each; scores b 1 m

# The axes of ``b n d`` over which a mean is subtracted, in this order.
WHITENING = {"positions": (1,), "channels": (2,), "both": (1, 2)}


class DisentangledNonLocal(Attention):
    r"""Adds what a position reads by whitened similarity, and what all positions read alike.

    .. math::
        y = x + \gamma\, a v + m v, \quad
        a = \operatorname{softmax}\Big(\frac{(q - \bar q)(k - \bar k)^\top}{\sqrt d\, T}\Big),
        \quad m = \operatorname{softmax}(w^\top x)

    for queries q, keys k and values v that are linear in x, with means over the positions;
    equations 7 to 9 of the paper.

    In half precision, rounding can change which entry the softmax selects where scores are in
    the hundreds.

    Args:
        channels: Channels of x.
        hidden_dim: :math:`d`, channels of queries and keys; half of x's by default.
        temperature: :math:`T`.
        whiten: Which means are subtracted from queries and keys: those over ``positions``, over
            ``channels`` or over ``both``; several are subtracted in this order.
        unary: Add m v, which is the same for all positions.
        subsample: Pool x by two before keys and values.
        project: Have values of ``hidden_dim`` channels, and project what is read back.
        norm: Apply batch norm to what is read.
        gate: Multiply a v by the learned :math:`\gamma`, which starts at zero.
        dims: Axes of space and time: 1, 2 or 3.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c *`` (``dims`` axes of space and time), maps ``pairwise`` ``b n m`` and ``unary``
        ``b 1 m``, the first alone without ``unary``; y as x.

    Raises:
        ValueError: a size is not positive, the temperature is not above zero, or a mean or ``dims``
            is unknown.

    >>> DisentangledNonLocal(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = Card(
        title="Disentangled non-local block",
        paper="Disentangled Non-Local Neural Networks",
        authors=("Minghao Yin, Zhuliang Yao, Yue Cao, Xiu Li, Zheng Zhang, Stephen Lin, Han Hu"),
        venue="ECCV",
        year=2020,
        url="https://arxiv.org/abs/2006.06668",
        code="https://github.com/yinmh17/DNL-Semantic-Segmentation",
        license="Apache-2.0",
        domain="spatial",
        computes="conv+matmul",
        applies="matmul",
        kind="relation",
        equivariant=("pixels",),
        cost=dict(time="n^2 c + n c^2", memory="n c"),
        aliases=("dnl", "dnlnet", "disentangled_nonlocal"),
        differs=(
            "The authors' code, and this file, divides the scores by the root of d and by a "
            "temperature, and multiplies the pairwise part by a learned number that starts at "
            "zero; the paper's equations do neither (temperature=d**-0.5, gate=False).",
            "The default temperature is that of the published Cityscapes networks; their class has "
            "1, and subsamples.",
        ),
    )
    axes = Axes("b c *", "pairwise: b n m, unary: b 1 m", range="softmax")

    def __init__(
        self,
        channels: int,
        hidden_dim: int | None = None,
        *,
        temperature: float = 0.05,
        whiten: Sequence[str] = ("positions",),
        unary: bool = True,
        subsample: bool = False,
        project: bool = False,
        norm: bool = False,
        gate: bool = True,
        dims: Literal[1, 2, 3] = 2,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=channels)
        positive(channels=channels)
        hidden_dim = max(channels // 2, 1) if hidden_dim is None else hidden_dim
        positive(hidden_dim=hidden_dim)
        above_zero(temperature=temperature)
        one_of((1, 2, 3), dims=dims)
        if isinstance(whiten, str):
            raise ValueError(f"whiten must be a sequence of names, got {whiten!r}")
        for name in whiten:
            one_of(tuple(WHITENING), whiten=name)
        self.whiten = [axes for name, axes in WHITENING.items() if name in whiten]
        self.scale, self.subsample = hidden_dim**-0.5 / temperature, subsample
        self.axes = self.axes.over(dims)
        if not unary:
            self.axes = replace(self.axes, map="b n m")
            self.identity_at_init = gate
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        width = hidden_dim if project else channels
        self.query = CONV[dims](channels, hidden_dim, 1, **factory)
        self.key = CONV[dims](channels, hidden_dim, 1, **factory)
        self.value = CONV[dims](channels, width, 1, bias=project, **factory)
        self.score = CONV[dims](channels, 1, 1, **factory) if unary else None
        self.gamma = nn.Parameter(torch.empty(1, **factory)) if gate else None
        self.out = CONV[dims](width, channels, 1, bias=False, **factory) if project else None
        self.norm = NORM[dims](channels, **factory) if norm else nn.Identity()
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weights with a small spread; zero the biases, and the gate."""
        super().reset_parameters()
        for layer in (self.query, self.key, self.value, self.score, self.out):
            if layer is not None:
                nn.init.normal_(layer.weight, std=0.01)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
        if self.gamma is not None:
            nn.init.zeros_(self.gamma)

    def prepare(self, x: Tensor) -> Prepared:
        source = grid.max_pool(x) if self.subsample else x
        q, k = tokens.to_tokens(self.query(x)), tokens.to_tokens(self.key(source))
        for axes in self.whiten:
            q, k = (t - t.mean(axes, keepdim=True) for t in (q, k))
        scores = source[:, :1] if self.score is None else self.score(source)
        return x, q, k, tokens.to_tokens(self.value(source)), scores.flatten(2)

    def attention(self, z: Prepared) -> Tensor | tuple[Tensor, Tensor]:
        _, q, k, _, scores = z
        a = pairwise.attention_weights(q, k, scale=self.scale)
        return a if self.score is None else (a, precision.softmax(scores, -1))

    def combine(self, a: Tensor | tuple[Tensor, Tensor], z: Prepared) -> Tensor:
        x, _, _, v, _ = z
        if self.score is None:
            return self.join(a @ v, None, x)  # type: ignore[operator]  # it is one map
        a, m = a
        return self.join(a @ v, m @ v, x)

    def fused(self, z: Prepared) -> Tensor:
        x, q, k, v, scores = z
        y = pairwise.scaled_dot_product(q, k, v, scale=self.scale)
        m = None if self.score is None else precision.softmax(scores, -1) @ v
        return self.join(y, m, x)

    def join(self, y: Tensor, m: Tensor | None, x: Tensor) -> Tensor:
        """Add both parts ``b n c`` and ``b 1 c``, project, and add x."""
        y = y if self.gamma is None else self.gamma * y
        y = tokens.to_grid(y if m is None else y + m, x)
        return x + self.norm(y if self.out is None else self.out(y))
