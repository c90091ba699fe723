"""Parallel multi-scale attention: attention and convolutions share one projection of values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from ..core import pairwise, precision
from ..core.attention import SequenceAttention, Tap
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import divides, odd, one_of, positive, probability
from ..core.tracing import leaf


@leaf
def open_keys(mask: Tensor) -> Tensor:
    """The keys that some query may attend to, ``b m`` or ``1 m``."""
    allowed = mask if mask.dtype == torch.bool else mask > -torch.inf
    rows = allowed.any(-2)  # m, or b heads m
    return rows[None] if rows.dim() == 1 else rows.any(1)


class MUSE(SequenceAttention):
    r"""Reads each sequence by self-attention and by convolutions of several widths, side by side.

    .. math::
        y = W_o \Big[a V;\ \textstyle\sum_k g_k\, F_k * V\Big], \quad
        a = \operatorname{softmax}\Big(\frac{Q K^\top}{\sqrt{d_k}} + M\Big), \quad
        g = \operatorname{softmax}(\alpha)

    for each head, with a filter for each position, :math:`F_k = \operatorname{softmax}(W_k v)` over
    its k taps: equations 2 and 5 to 7 of the paper. ``static`` filters are weights of their own:
    :math:`y = W_o\, a V + \sum_k g_k P_k (F_k * V)` with :math:`F_k` depthwise and :math:`P_k`
    pointwise. `MUSELayer` is the whole layer, with its feed-forward branch.

    Args:
        embed_dim: Channels of queries, keys, values and output.
        num_heads: Heads of the attention; the channels of a head share a dynamic filter.
        kernel_sizes: The widths k.
        filters: Predict the filters from the values, as the authors do, or learn them once for all
            positions, as a well-known re-implementation does, where a width of 1 has none.
        padding: Center the filters, or let them look back only; then a causal mask goes with it.
        head_dim: :math:`d_k`, channels of a head's queries and keys; ``embed_dim / heads`` if none.
        value_head_dim: Channels of a head's values; ``head_dim`` by default.
        mask_values: The convolutions, too, read zeros at the keys that no query looks at.
        dropout: Rate of dropping weights of the map and of the dynamic filters in training.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        query, key and value ``b n d``, map ``b heads n n``, the gated sum of the dynamic filters
        ``b n heads k`` (``tap_filters``), y ``b n d``. The mask is broadcast to the map; True = may
        attend, or it is added to the scores.

    Raises:
        ValueError: a size is not positive, the heads do not divide the width, a centerd kernel is
            even, a choice is unknown, or the dropout is not a rate.

    >>> MUSE(64, num_heads=4)(torch.randn(2, 9, 64)).shape
    torch.Size([2, 9, 64])
    """

    card = Card(
        title="Parallel multi-scale attention",
        paper="MUSE: Parallel Multi-Scale Attention for Sequence to Sequence Learning",
        authors="Guangxiang Zhao, Xu Sun, Jingjing Xu, Zhiyuan Zhang, Liangchen Luo",
        venue="arXiv",
        year=2019,
        url="https://arxiv.org/abs/1911.09483",
        code="https://github.com/lancopku/MUSE",
        license="none stated",
        domain="sequence",
        computes="fc+conv+matmul",
        applies="matmul",
        kind="sequence",
        cost=dict(time="n^2 c + n c^2", memory="n c"),
        aliases=("muse", "parallel_multi_scale_attention", "prime"),
        differs=(
            "The channels of a head share a filter, as in the authors' code; the paper's equations "
            "have no heads there.",
            "One layer projects both branches, so they share its bias, as in the authors' code.",
            "A well-known re-implementation (filters='static') puts the weights of its kernels "
            "through a softmax again in every call, outside of the graph; here it is one softmax, "
            "which learns.",
        ),
    )
    axes = Axes(
        "query: b n d, key: b n d, value: b n d",
        "b heads n n",
        output="b n d",
        parts=dict(filters="b n heads k"),
        range="softmax",
    )

    def __init__(
        self,
        embed_dim: int,
        num_heads: int = 8,
        *,
        kernel_sizes: Sequence[int] = (3, 15),
        filters: Literal["dynamic", "static"] = "dynamic",
        padding: Literal["same", "causal"] = "same",
        head_dim: int | None = None,
        value_head_dim: int | None = None,
        mask_values: bool = False,
        dropout: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(d=embed_dim, heads=num_heads)
        one_of(("dynamic", "static"), filters=filters)
        one_of(("same", "causal"), padding=padding)
        if head_dim is None:
            divides(embed_dim=embed_dim, num_heads=num_heads)
            head_dim = embed_dim // num_heads
        value_head_dim = head_dim if value_head_dim is None else value_head_dim
        positive(
            embed_dim=embed_dim,
            num_heads=num_heads,
            head_dim=head_dim,
            value_head_dim=value_head_dim,
        )
        probability(dropout=dropout)
        if not kernel_sizes:
            raise ValueError("kernels must hold at least one width, got ()")
        for k in kernel_sizes:
            (positive if padding == "causal" else odd)(kernels=k)
        self.num_heads, self.scale = num_heads, head_dim**-0.5
        self.kernel_sizes, self.padding = tuple(kernel_sizes), padding
        self.dynamic, self.mask_values = filters == "dynamic", mask_values
        self.back = tuple(k - 1 if padding == "causal" else k // 2 for k in kernel_sizes)
        if not self.dynamic:
            self.axes = replace(self.axes, parts={})
        factory = {"device": device, "dtype": dtype}
        inner = num_heads * value_head_dim
        self.query = nn.Linear(embed_dim, num_heads * head_dim, **factory)
        self.key = nn.Linear(embed_dim, num_heads * head_dim, **factory)
        self.value = nn.Linear(embed_dim, inner, **factory)
        self.gate = nn.Parameter(torch.zeros(len(kernel_sizes), **factory))
        if self.dynamic:
            self.predict = nn.ModuleList(
                nn.Linear(inner, num_heads * k, bias=False, **factory) for k in kernel_sizes
            )
            self.tap_filters = Tap()
        else:
            self.depth = nn.ModuleList(
                nn.Conv1d(inner, inner, k, groups=inner, **factory) if k > 1 else nn.Identity()
                for k in kernel_sizes
            )
            self.point = nn.ModuleList(nn.Linear(inner, embed_dim, **factory) for _ in kernel_sizes)
        self.drop = nn.Dropout(dropout)
        self.out = nn.Linear(2 * inner if self.dynamic else inner, embed_dim, **factory)

    def reset_parameters(self) -> None:
        """Draw new layers; all kernels start with the same weight."""
        super().reset_parameters()
        nn.init.zeros_(self.gate)

    def prepare(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = self.query(query), self.key(key), self.value(value)
        q, k, v = (x.unflatten(2, (self.num_heads, -1)) for x in (q, k, v))
        return q.transpose(1, 2), k.transpose(1, 2), v  # b heads n d twice, b n heads d

    def attention(self, x: tuple[Tensor, Tensor, Tensor], mask: Tensor | None) -> Tensor:
        q, k, _ = x
        return pairwise.attention_weights(q, k, scale=self.scale, mask=mask)

    def combine(self, a: Tensor, x: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        v = x[2]
        y = self.drop(a) @ v.transpose(1, 2)
        return self.join(y, v, (a != 0).any(1).any(1) if self.mask_values else None)

    def fused(self, x: tuple[Tensor, Tensor, Tensor], mask: Tensor | None) -> Tensor | None:
        q, k, v = x
        dropout = self.drop.p if self.training else 0.0
        y = pairwise.scaled_dot_product(
            q, k, v.transpose(1, 2), scale=self.scale, mask=mask, dropout=dropout
        )
        return self.join(y, v, open_keys(mask) if self.mask_values and mask is not None else None)

    def join(self, y: Tensor, v: Tensor, seen: Tensor | None) -> Tensor:
        """Convolve the values, and project what both branches give."""
        y = pairwise.merge_heads(y)  # b n (heads d)
        if seen is not None:
            v = v * seen[..., None, None]
        g = precision.softmax(self.gate, 0)
        if self.dynamic:
            return self.out(torch.cat([y, self.slide(self.predicted(v, g), v).flatten(2)], 2))
        y, v = self.out(y), v.flatten(2)
        for i, (depth, point) in enumerate(zip(self.depth, self.point, strict=True)):
            k, back = self.kernel_sizes[i], self.back[i]
            z = depth(pad(v.mT, (back, k - 1 - back))).mT if k > 1 else v
            y = y + point(z) * g[i]
        return y

    def predicted(self, v: Tensor, g: Tensor) -> Tensor:
        """The gated sum of the filters, each at its place in the widest: ``b n heads k``."""
        total, flat = None, v.flatten(2)
        most, front = max(self.back), self.ahead
        for i, predict in enumerate(self.predict):
            k, back = self.kernel_sizes[i], self.back[i]
            f = precision.softmax(predict(flat).unflatten(2, (self.num_heads, k)), -1) * g[i]
            f = pad(f, (most - back, front - (k - 1 - back)))
            total = f if total is None else total + f
        return self.tap_filters(total)

    @property
    def ahead(self) -> int:
        """How far the widest filter looks forward."""
        return max(k - 1 - back for k, back in zip(self.kernel_sizes, self.back, strict=True))

    def slide(self, f: Tensor, v: Tensor) -> Tensor:
        """The filter of each position over the values around it, without copies of them."""
        f, n = self.drop(f), v.shape[1]
        back, front = max(self.back), self.ahead
        v = pad(v, (0, 0, 0, 0, back, front))
        y = f[..., :1] * v[:, :n]
        for i in range(1, back + 1 + front):
            y = torch.addcmul(y, f[..., i : i + 1], v[:, i : i + n])
        return y


class MUSELayer(SequenceAttention):
    r"""Adds self-attention, convolutions and a feed-forward branch to the input, all at once.

    .. math::
        y = \operatorname{LN}\big(x + \operatorname{MUSE}(x) + W_2\,\delta(W_1 x)\big)

    or, with ``norm_first``, :math:`y = x + \operatorname{MUSE}(z) + W_2\,\delta(W_1 z)` and
    :math:`z = \operatorname{LN}(x)`, where :math:`\delta` = ReLU; equation 2 of the paper.

    Args:
        embed_dim: Channels of queries, keys, values and output.
        num_heads: Heads of the attention.
        hidden_dim: Units of the feed-forward branch; four times the width if none.
        kernel_sizes: Widths of the filters.
        filters: Filters that are predicted from the values, or learned, as in `MUSE`.
        padding: Center the filters, or let them look back only.
        mask_values: The convolutions, too, read zeros at the keys that no query looks at.
        norm_first: Normalize what the branches read instead of the sum.
        dropout: Rate of dropping weights of the map and of the filters, and what the branches add,
            in training.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        query, key and value ``b n d``, map ``b heads n n``, y ``b n d``; the mask as in `MUSE`.

    Raises:
        ValueError: as `MUSE`.

    >>> MUSELayer(64, num_heads=4)(torch.randn(2, 9, 64)).shape
    torch.Size([2, 9, 64])
    """

    card = MUSE.card
    axes = Axes(
        "query: b n d, key: b n d, value: b n d", "b heads n n", output="b n d", range="softmax"
    )

    def __init__(
        self,
        embed_dim: int,
        num_heads: int = 8,
        hidden_dim: int | None = None,
        *,
        kernel_sizes: Sequence[int] = (3, 15),
        filters: Literal["dynamic", "static"] = "dynamic",
        padding: Literal["same", "causal"] = "same",
        mask_values: bool = False,
        norm_first: bool = False,
        dropout: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(d=embed_dim, heads=num_heads)
        hidden_dim = 4 * embed_dim if hidden_dim is None else hidden_dim
        factory = {"device": device, "dtype": dtype}
        self.branches = MUSE(
            embed_dim,
            num_heads,
            kernel_sizes=kernel_sizes,
            filters=filters,
            padding=padding,
            mask_values=mask_values,
            dropout=dropout,
            **factory,
        )
        positive(hidden_dim=hidden_dim)
        self.norm_first = norm_first
        self.norm = nn.LayerNorm(embed_dim, **factory)
        self.expand = nn.Linear(embed_dim, hidden_dim, **factory)
        self.contract = nn.Linear(hidden_dim, embed_dim, **factory)
        self.drop = nn.Dropout(dropout)

    def prepare(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Any]:
        q, k, v = query, key, value
        if self.norm_first:
            q = self.norm(query)
            k = q if key is query else self.norm(key)
            v = k if value is key else self.norm(value)
        return query, q, self.branches.prepare(q, k, v)

    def attention(self, x: tuple[Tensor, Tensor, Any], mask: Tensor | None) -> Tensor:
        return self.branches.attention(x[2], mask)

    def combine(self, a: Tensor, x: tuple[Tensor, Tensor, Any]) -> Tensor:
        return self.add(self.branches.combine(a, x[2]), x)

    def fused(self, x: tuple[Tensor, Tensor, Any], mask: Tensor | None) -> Tensor | None:
        y = self.branches.fused(x[2], mask)
        return None if y is None else self.add(y, x)

    def add(self, y: Tensor, x: tuple[Tensor, Tensor, Any]) -> Tensor:
        query, q, _ = x
        y = query + self.drop(y + self.contract(self.expand(q).relu()))
        return y if self.norm_first else self.norm(y)
