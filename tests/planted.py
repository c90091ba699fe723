"""Two healthy mechanisms, and what goes wrong in practice, planted in them one by one."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from claims import SHARP, Claims, Rounding, Variant
from regard.core import precision
from regard.core.attention import Attention
from regard.core.axes import Axes
from regard.core.card import Card
from regard.core.check import one_of, positive

FACTS: dict[str, Any] = {
    "paper": "A Paper",
    "authors": "A Nother",
    "venue": "arXiv",
    "year": 2020,
    "url": "https://example.org",
    "aliases": (),
}


class Gate(Attention):
    r"""Weighs each channel by its average.

    .. math::
        a = \sigma(W \bar x + b), \quad y = a \odot x

    which is equation 1 of the paper.

    Args:
        channels: Of x.
        shape: Of the gate: ``sigmoid`` or ``tanh``.
        bias: Whether b is there.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, map ``b c 1 1``, y as x.

    Raises:
        ValueError: ``channels`` is not positive, or the shape is unknown.

    >>> Gate(3)(torch.zeros(1, 3, 2, 2)).shape
    torch.Size([1, 3, 2, 2])
    """

    card = Card(
        title="Gate",
        domain="channel",
        computes="pool+fc",
        applies="gate",
        kind="gate",
        equivariant=("pixels",),
        map_invariant=("pixels",),
        cost={"time": "n c + c^2", "memory": "n c"},
        **FACTS,
    )
    axes = Axes("b c h w", "b c 1 1")

    def __init__(
        self,
        channels: int,
        *,
        shape: Literal["sigmoid", "tanh"] = "sigmoid",
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=channels)
        positive(channels=channels)
        one_of(("sigmoid", "tanh"), shape=shape)
        self.shape = shape
        self.weigh = nn.Linear(channels, channels, bias, device, dtype)

    def attention(self, x: Tensor) -> Tensor:
        scores = self.weigh(x.mean((2, 3)))[..., None, None]
        return scores.sigmoid() if self.shape == "sigmoid" else scores.tanh()

    def combine(self, a: Tensor, x: Tensor) -> Tensor:
        return a * x


class Relation(Attention):
    r"""Adds to each position a weighted sum over all.

    .. math::
        y = x + W \operatorname{softmax}(s\, x^\top Q x)\, x

    which is equation 2 of the paper. In half precision, rounding can change which entry the
    softmax selects where scores are in the hundreds.

    Args:
        channels: Of x.
        scale: Whether s is the inverse root of the channels.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, map ``b n n``, y as x.

    Raises:
        ValueError: ``channels`` is not positive.

    >>> Relation(3)(torch.zeros(1, 3, 2, 2)).shape
    torch.Size([1, 3, 2, 2])
    """

    card = Card(
        title="Relation",
        domain="spatial",
        computes="matmul",
        applies="matmul",
        kind="relation",
        equivariant=("pixels",),
        identity_at_init=True,
        cost={"time": "n^2 c + n c^2", "memory": "n c"},
        **FACTS,
    )
    axes = Axes("b c h w", "b n n", range="softmax")

    def __init__(
        self,
        channels: int,
        *,
        scale: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=channels)
        positive(channels=channels)
        self.scale = channels**-0.5 if scale else 1.0
        self.query = nn.Linear(channels, channels, False, device, dtype)
        self.out = nn.Parameter(torch.empty(channels, channels, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        super().reset_parameters()
        nn.init.zeros_(self.out)

    def attention(self, x: Tensor) -> Tensor:
        rows = x.flatten(2).mT  # b n c
        scores = precision.matmul(self.query(rows), rows.mT) * self.scale
        return precision.softmax(scores, -1, x.dtype)

    def combine(self, a: Tensor, x: Tensor) -> Tensor:
        return self.add(a @ x.flatten(2).mT, x)

    def add(self, y: Tensor, x: Tensor) -> Tensor:
        return x + (y @ self.out).mT.reshape(x.shape)

    def fused(self, x: Tensor) -> Tensor:
        rows = x.flatten(2).mT.contiguous().unsqueeze(1)
        q = self.query(rows)
        return self.add(scaled_dot_product_attention(q, rows, rows, scale=self.scale).squeeze(1), x)


CLAIMS = {
    Gate: Claims({"channels": 6}, (Variant({"shape": "tanh"}), Variant({"bias": False}))),
    Relation: Claims(
        {"channels": 6},
        (Variant({"scale": False}),),
        rounding=Rounding(SHARP, bfloat16=(0.02, 0.5, 1), float16=(0.01, 0.1, 1)),
    ),
}
