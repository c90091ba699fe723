"""Gated attention pooling: the average of a bag of instances, weighted by learned scores."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from ..core import precision
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import positive
from ..core.contracts import PoolAttention
from ..core.tracing import leaf


class GatedAttentionPooling(PoolAttention):
    r"""Averages the instances of a bag, weighted by a softmax of scores from a small network.

    .. math::
        a = \operatorname{softmax}_k\big(w^\top (\tanh(V h_k) \odot \sigma(U h_k))\big), \quad
        y = \textstyle\sum_k a_k h_k

    equations 7 and 9 of the paper, and equation 8 without the gate :math:`\sigma(U h_k)`.

    In half precision, rounding can change which entry the softmax selects where scores are in
    the hundreds.

    Args:
        embed_dim: Entries of an instance.
        hidden_dim: Entries of the hidden layers.
        gated: Multiply by the gate.
        bias: Add biases to all layers, as in the authors' code.
        num_classes: Also return the probabilities of this number of classes, independent of one
            another, from a linear layer; None for none.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b n d``, mask ``b n`` (True = counts), map ``b n``, y ``b d``; with ``num_classes`` a
        tuple of y and the probabilities ``b k``.

    Raises:
        ValueError: a size is not positive.

    >>> GatedAttentionPooling(64)(torch.randn(2, 9, 64)).shape
    torch.Size([2, 64])
    """

    card = Card(
        title="Gated attention pooling",
        paper="Attention-based Deep Multiple Instance Learning",
        authors="Maximilian Ilse, Jakub M. Tomczak, Max Welling",
        venue="ICML",
        year=2018,
        url="https://arxiv.org/abs/1802.04712",
        code="https://github.com/AMLab-Amsterdam/AttentionDeepMIL",
        license="MIT",
        domain="sequence",
        computes="fc",
        applies="matmul",
        kind="pool",
        equivariant=("pixels",),
        cost=dict(time="n c^2", memory="n c"),
        aliases=("abmil", "attention_mil", "mil_pooling", "gated_attention", "attention_deep_mil"),
        differs=(
            "The paper's equations have no biases (bias=False); the authors' code has them, even "
            "in the last layer, where the softmax ignores it.",
        ),
    )
    axes = Axes("b n d", "b n", output="b d", range="softmax")

    def __init__(
        self,
        embed_dim: int,
        hidden_dim: int = 128,
        *,
        gated: bool = True,
        bias: bool = True,
        num_classes: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(d=embed_dim)
        positive(embed_dim=embed_dim, hidden_dim=hidden_dim)
        if num_classes is not None:
            positive(num_classes=num_classes)
            self.axes = replace(self.axes, output="b d, b k")
        factory = {"device": device, "dtype": dtype}
        self.look = nn.Linear(embed_dim, hidden_dim, bias, **factory)
        self.gate = nn.Linear(embed_dim, hidden_dim, bias, **factory) if gated else None
        self.score = nn.Linear(hidden_dim, 1, bias, **factory)
        self.classify = (
            None if num_classes is None else nn.Linear(embed_dim, num_classes, bias, **factory)
        )

    def attention(self, z: Tensor, mask: Tensor | None) -> Tensor:
        hidden = self.look(z).tanh()
        if self.gate is not None:
            hidden = hidden * self.gate(z).sigmoid()
        return _softmax(self.score(hidden).squeeze(2), mask)

    def combine(self, a: Tensor, z: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        y = (a.unsqueeze(1) @ z).squeeze(1)
        if self.classify is None:
            return y
        # Copies, since the backward pass reads what may be written to.
        return y, self.classify(y.clone()).sigmoid().clone()


@leaf
def _softmax(scores: Tensor, mask: Tensor | None) -> Tensor:
    """Return the softmax over the instances that count; zeros if none does."""
    if mask is None:
        return precision.softmax(scores, 1)
    # A finite fill keeps empty bags, and their gradients, free of NaN.
    scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    return precision.softmax(scores, 1) * mask.any(1, keepdim=True)
