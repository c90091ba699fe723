"""Slot attention: a few slots compete for the tokens of the input, in several iterations."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..core import precision
from ..core.attention import SequenceAttention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import above_zero, positive
from ..core.tracing import leaf

Prepared = tuple[Tensor, Tensor, Tensor]  # slots b n d; k, v: b m d each


class SlotAttention(SequenceAttention):
    r"""Updates slots by what they read from tokens, each of which is divided between the slots.

    .. math::
        a = \operatorname{softmax}_i\big(D^{-1/2}\, q(\operatorname{LN} s)_i\, k^\top\big), \quad
        u_i = \frac{\sum_m (a_{im} + \epsilon)\, v_m}{\sum_m (a_{im} + \epsilon)}, \quad
        s \leftarrow g + \operatorname{MLP}(\operatorname{LN}(g)), \quad
        g = \operatorname{GRU}(u, s)

    for each slot i, from :math:`s = \mu + e^{\lambda} \odot` noise, T times, with k and v from
    :math:`\operatorname{LN}(x)`; algorithm 1 of the paper. The queries are the noise, one row for
    each slot: draw it with `torch.randn`.

    In half precision, rounding can change which entry the softmax selects where scores are in
    the hundreds, and it grows with each iteration.

    Args:
        embed_dim: :math:`D`, channels of a slot.
        kdim: Channels of the tokens; ``embed_dim`` by default.
        iterations: :math:`T`.
        hidden_dim: Hidden channels of the MLP; twice ``embed_dim`` by default.
        bias: Give the projections of queries, keys and values biases.
        eps: :math:`\epsilon`.
        norm_eps: Added to the variances of the layer norms.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        query (the noise) ``b n d`` for n slots, key (the tokens) ``b m e``, value ``b m e``, map
        ``b iterations n m``, y ``b n d``. The mask (True = may attend, or added to the scores) is
        broadcast to the map.

    Raises:
        ValueError: a size is not positive, or an eps is not above zero.

    >>> tokens, noise = torch.randn(2, 63, 64), torch.randn(2, 5, 64)
    >>> SlotAttention(64)(noise, tokens).shape
    torch.Size([2, 5, 64])
    """

    card = Card(
        title="Slot attention",
        paper="Object-Centric Learning with Slot Attention",
        authors=(
            "Francesco Locatello, Dirk Weissenborn, Thomas Unterthiner, Aravindh Mahendran, Georg "
            "Heigold, Jakob Uszkoreit, Alexey Dosovitskiy, Thomas Kipf"
        ),
        venue="NeurIPS",
        year=2020,
        url="https://arxiv.org/abs/2006.15055",
        code="https://github.com/google-research/google-research",
        license="Apache-2.0",
        domain="sequence",
        computes="fc+matmul",
        applies="matmul",
        kind="sequence",
        equivariant=("pixels",),
        cost=dict(time="n^2 c + n c^2", memory="n^2 + n c"),
        aliases=("slots", "slot_attn"),
        differs=(
            "The noise of the first slots is an input, so that the same input gives the same "
            "output; the authors' code draws it in each call.",
            "The layer norms have Keras' eps of 1e-3, as in the authors' code; the best-known "
            "re-implementation has 1e-5 and biases (norm_eps=1e-5, bias=True).",
        ),
    )
    axes = Axes(
        "query: b n d, key: b m e, value: b m e",
        "b iterations n m",
        output="b n d",
        range="softmax n",
    )
    may_be_empty = ("n",)

    def __init__(
        self,
        embed_dim: int,
        *,
        kdim: int | None = None,
        iterations: int = 3,
        hidden_dim: int | None = None,
        bias: bool = False,
        eps: float = 1e-8,
        norm_eps: float = 1e-3,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        kdim = embed_dim if kdim is None else kdim
        positive(embed_dim=embed_dim, kdim=kdim, iterations=iterations)
        hidden_dim = 2 * embed_dim if hidden_dim is None else hidden_dim
        positive(hidden_dim=hidden_dim)
        above_zero(eps=eps, norm_eps=norm_eps)
        super().__init__(d=embed_dim, e=kdim, iterations=iterations)
        self.iterations, self.eps, self.scale = iterations, eps, embed_dim**-0.5
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self.mean = nn.Parameter(torch.empty(embed_dim, **factory))
        self.log_spread = nn.Parameter(torch.empty(embed_dim, **factory))
        self.norm = nn.LayerNorm(kdim, norm_eps, **factory)
        self.key = nn.Linear(kdim, embed_dim, bias, **factory)
        self.value = nn.Linear(kdim, embed_dim, bias, **factory)
        self.slot_norm = nn.LayerNorm(embed_dim, norm_eps, **factory)
        self.query = nn.Linear(embed_dim, embed_dim, bias, **factory)
        self.input_gates = nn.Linear(
            embed_dim, 3 * embed_dim, **factory
        )  # gates r, z and the candidate
        self.slot_gates = nn.Linear(embed_dim, 3 * embed_dim, **factory)
        self.mlp_norm = nn.LayerNorm(embed_dim, norm_eps, **factory)
        self.expand = nn.Linear(embed_dim, hidden_dim, **factory)
        self.reduce = nn.Linear(hidden_dim, embed_dim, **factory)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weights by Glorot's rule; zero the biases."""
        super().reset_parameters()
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
        for parameter in (self.mean, self.log_spread):
            nn.init.xavier_uniform_(parameter[None, None])

    def prepare(self, query: Tensor, key: Tensor, value: Tensor) -> Prepared:
        slots = self.mean + self.log_spread.exp() * query
        return slots, self.key(self.norm(key)), self.value(self.norm(value))

    def attention(self, z: Prepared, mask: Tensor | None) -> Tensor:
        slots, k, v = z
        maps = []
        for i in range(self.iterations):
            q = self.query(self.slot_norm(slots))
            maps.append(_competing(q, k, self.scale, mask, i, v.dtype))
            if i + 1 < self.iterations:
                slots = self.updated(slots, maps[-1], v)
        return torch.stack(maps, 1)

    def combine(self, a: Tensor, z: Prepared) -> Tensor:
        slots, _, v = z
        for i in range(self.iterations):
            slots = self.updated(slots, a[:, i], v)
        return slots

    def fused(self, z: Prepared, mask: Tensor | None) -> Tensor:
        slots, k, v = z
        for i in range(self.iterations):
            q = self.query(self.slot_norm(slots))
            slots = self.updated(slots, _competing(q, k, self.scale, mask, i, v.dtype), v)
        return slots

    def updated(self, slots: Tensor, a: Tensor, v: Tensor) -> Tensor:
        """Return the slots after they have read the values by a map ``b n m``."""
        read = self.input_gates(_averaged(a, v, self.eps))
        reset, keep, candidate = read.chunk(3, 2)
        own_reset, own_keep, own = self.slot_gates(slots).chunk(3, 2)
        keep = (keep + own_keep).sigmoid()
        candidate = (candidate + (reset + own_reset).sigmoid() * own).tanh()
        slots = keep * slots + (1 - keep) * candidate
        return slots + self.reduce(self.expand(self.mlp_norm(slots)).relu())


@leaf
def _competing(
    q: Tensor, k: Tensor, scale: float, mask: Tensor | None, i: int, dtype: torch.dtype
) -> Tensor:
    """Return the map ``b n m`` of iteration i: a softmax over the slots that may read a token."""
    scores = precision.matmul(q * scale, k.transpose(-2, -1))
    if mask is None:
        return precision.softmax(scores, 1, dtype)
    given = mask if mask.dim() == 2 else mask[:, i if mask.shape[1] > 1 else 0]
    allowed = given if given.dtype == torch.bool else given > -torch.inf
    if given.dtype != torch.bool:
        scores = scores + given.masked_fill(~allowed, 0.0)
    # A finite fill keeps tokens that no slot may read, and their gradients, free of NaN.
    scores = scores.masked_fill(~allowed, torch.finfo(scores.dtype).min)
    return precision.softmax(scores, 1, dtype) * allowed


@leaf
def _averaged(a: Tensor, v: Tensor, eps: float) -> Tensor:
    """Return the averages of the values, in single precision at least: eps is zero in half."""
    weights = precision.widen(a) + eps
    return (precision.matmul(weights, v) / weights.sum(-1, keepdim=True)).to(v.dtype)
