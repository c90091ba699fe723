"""Parallel multi-scale attention: attention and convolutions share one projection of values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from ..core import pairwise, precision
from ..core.attention import SequenceAttention, Tap
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import head_dims, odd, one_of, positive, probability
from ..core.tracing import leaf

Prepared = tuple[Tensor, Tensor, Tensor]  # q, k b heads n d; v b n heads d
LayerPrepared = tuple[Tensor, Tensor, Prepared]  # the query, before and after the norm


class MUSE(SequenceAttention):
    r"""Applies self-attention and convolutions with multiple kernel sizes in parallel.

    .. math::
        y = W_o \Big[a V;\ \textstyle\sum_k g_k\, F_k * V\Big], \quad
        a = \operatorname{softmax}\Big(\frac{Q K^\top}{\sqrt{d_k}} + M\Big), \quad
        g = \operatorname{softmax}(\alpha)

    for each head, with a filter for each position, :math:`F_k = \operatorname{softmax}(W_k v)` over
    its k entries: equations 2 and 5 to 7 of the paper. ``static`` filters are parameters:
    :math:`y = W_o\, a V + \sum_k g_k P_k (F_k * V)` with :math:`F_k` depthwise and :math:`P_k`
    pointwise. `MUSELayer` is the whole layer, with its feed-forward branch.

    In half precision, rounding can change which entry the softmax selects where scores are in
    the hundreds.

    Args:
        embed_dim: Channels of queries, keys, values and output.
        num_heads: Number of heads; the channels of a head share a dynamic filter.
        kernel_sizes: The kernel sizes k.
        filters: Predict the filters from the values (``dynamic``), as the authors do, or learn one
            for all positions (``static``), as a well-known re-implementation does; there a kernel
            size of 1 has no filter.
        padding: Center the filters (``same``), or let them read earlier positions only
            (``causal``); combine the latter with a causal mask.
        head_dim: :math:`d_k`, channels of a head's queries and keys; ``embed_dim / num_heads`` by
            default.
        value_head_dim: Channels of a head's values; ``head_dim`` by default.
        mask_values: Set to zero, for the convolutions, the values that no query may attend to.
        dropout: Dropout rate of the attention weights and of the dynamic filters.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        query, key and value ``b n d``, map ``b heads n n``, the gated sum of the dynamic filters
        ``b n heads k`` (``tap_filters``), y ``b n d``. The mask (True = may attend, or added to the
        scores) is broadcast to the map.

    Raises:
        ValueError: a size is not positive, ``num_heads`` does not divide ``embed_dim``, a centered
            kernel is even, a choice is unknown, or the dropout is not a rate.

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
            "Both branches share the output projection and its bias, as in the authors' code.",
            "A well-known re-implementation (filters='static') overwrites the weights of its "
            "kernels by their softmax in every call, without gradients; here it is one softmax, "
            "with gradients.",
        ),
    )
    axes = Axes(
        "query: b n d, key: b n d, value: b n d",
        "b heads n n",
        output="b n d",
        parts=dict(filters="b n heads k"),
        range="softmax",
    )
    may_be_empty = ()  # a convolution takes no empty sequence

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
        head_dim, value_head_dim = head_dims(
            num_heads, head_dim, value_head_dim, embed_dim=embed_dim
        )
        probability(dropout=dropout)
        if not kernel_sizes:
            raise ValueError("kernel_sizes must have one size at least, got ()")
        for k in kernel_sizes:
            check = positive if padding == "causal" else odd
            check(kernel_sizes=k)
        self.num_heads, self.scale = num_heads, head_dim**-0.5
        self.kernel_sizes, self.padding = tuple(kernel_sizes), padding
        self.dynamic, self.mask_values = filters == "dynamic", mask_values
        # Entries of each filter before and after its position.
        self.before = tuple(k - 1 if padding == "causal" else k // 2 for k in kernel_sizes)
        self.after = tuple(k - 1 - n for k, n in zip(kernel_sizes, self.before, strict=True))
        if not self.dynamic:
            self.axes = replace(self.axes, parts={})
        factory = {"device": device, "dtype": dtype}
        value_dim = num_heads * value_head_dim
        self.query = nn.Linear(embed_dim, num_heads * head_dim, **factory)
        self.key = nn.Linear(embed_dim, num_heads * head_dim, **factory)
        self.value = nn.Linear(embed_dim, value_dim, **factory)
        self.gate = nn.Parameter(torch.zeros(len(kernel_sizes), **factory))
        if self.dynamic:
            self.predict = nn.ModuleList(
                nn.Linear(value_dim, num_heads * k, bias=False, **factory) for k in kernel_sizes
            )
            self.tap_filters = Tap()
        else:
            self.depth = nn.ModuleList(
                nn.Conv1d(value_dim, value_dim, k, groups=value_dim, **factory)
                if k > 1
                else nn.Identity()
                for k in kernel_sizes
            )
            self.point = nn.ModuleList(
                nn.Linear(value_dim, embed_dim, **factory) for _ in kernel_sizes
            )
        self.drop = nn.Dropout(dropout)
        branches = 2 if self.dynamic else 1
        self.out = nn.Linear(branches * value_dim, embed_dim, **factory)

    def reset_parameters(self) -> None:
        """Draw new layers; all kernel sizes start with the same weight."""
        super().reset_parameters()
        nn.init.zeros_(self.gate)

    def prepare(self, query: Tensor, key: Tensor, value: Tensor) -> Prepared:
        q, k = self.query(query), self.key(key)
        v = self.value(value).unflatten(2, (self.num_heads, -1))
        return pairwise.split_heads(q, self.num_heads), pairwise.split_heads(k, self.num_heads), v

    def attention(self, z: Prepared, mask: Tensor | None) -> Tensor:
        q, k, _ = z
        a = pairwise.attention_weights(q, k, scale=self.scale, mask=mask)
        return _above_zero(a, mask) if self.mask_values else a

    def combine(self, a: Tensor, z: Prepared) -> Tensor:
        _, _, v = z
        y = self.drop(a) @ v.transpose(1, 2)
        return self.join(y, v, (a != 0).any(1).any(1) if self.mask_values else None)

    def fused(self, z: Prepared, mask: Tensor | None) -> Tensor | None:
        q, k, v = z
        dropout = self.drop.p if self.training else 0.0
        y = pairwise.scaled_dot_product(
            q, k, v.transpose(1, 2), scale=self.scale, mask=mask, dropout=dropout
        )
        return self.join(y, v, _open_keys(mask) if self.mask_values and mask is not None else None)

    def join(self, y: Tensor, v: Tensor, open_keys: Tensor | None) -> Tensor:
        """Convolve the values, and project the outputs of both branches."""
        y = pairwise.merge_heads(y)  # b n (heads d)
        if open_keys is not None:
            v = v * open_keys[..., None, None]
        g = precision.softmax(self.gate, 0)
        if self.dynamic:
            f = self.tap_filters(self.predict_filters(v, g))
            return self.out(torch.cat([y, self.convolve(self.drop(f), v).flatten(2)], 2))
        y, v = self.out(y), v.flatten(2)
        for i, (depth, point) in enumerate(zip(self.depth, self.point, strict=True)):
            padding = self.before[i], self.after[i]
            z = v
            if self.kernel_sizes[i] > 1:
                z = depth(pad(v.transpose(1, 2), padding)).transpose(1, 2)
            y = y + point(z) * g[i]
        return y

    def predict_filters(self, v: Tensor, g: Tensor) -> Tensor:
        """Return the sum of the gated filters, padded to the largest: ``b n heads k``."""
        total, v = None, v.flatten(2)
        before, after = max(self.before), max(self.after)
        for i, predict in enumerate(self.predict):
            f = predict(v).unflatten(2, (self.num_heads, self.kernel_sizes[i]))
            f = precision.softmax(f, -1) * g[i]
            f = pad(f, (before - self.before[i], after - self.after[i]))
            total = f if total is None else total + f
        return total

    def convolve(self, f: Tensor, v: Tensor) -> Tensor:
        """Apply the filter of each position to the values around it, without copying them."""
        n = v.shape[1]
        before, after = max(self.before), max(self.after)
        v = pad(v, (0, 0, 0, 0, before, after))
        y = f[..., :1] * v[:, :n]
        for i in range(1, before + 1 + after):
            y = torch.addcmul(y, f[..., i : i + 1], v[:, i : i + n])
        return y


class MUSELayer(SequenceAttention):
    r"""Adds self-attention, convolutions and a feed-forward network to the input, in parallel.

    .. math::
        y = \operatorname{LN}\big(x + \operatorname{MUSE}(x) + W_2\,\delta(W_1 x)\big)

    or, with ``norm_first``, :math:`y = x + \operatorname{MUSE}(z) + W_2\,\delta(W_1 z)` and
    :math:`z = \operatorname{LN}(x)`, where :math:`\delta` = ReLU; equation 2 of the paper.

    In half precision, rounding can change which entry the softmax selects where scores are in
    the hundreds.

    Args:
        embed_dim: Channels of queries, keys, values and output.
        num_heads: Number of heads.
        hidden_dim: Hidden units of the feed-forward network; four times ``embed_dim`` by default.
        kernel_sizes: The kernel sizes, as in `MUSE`.
        filters: ``dynamic`` or ``static`` filters, as in `MUSE`.
        padding: ``same`` or ``causal``, as in `MUSE`.
        mask_values: Set to zero, for the convolutions, the values that no query may attend to.
        norm_first: Normalize the input of the branches instead of the sum.
        dropout: Dropout rate of the attention weights, the filters and what the branches add.
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
    may_be_empty = ()  # a convolution takes no empty sequence

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

    def prepare(self, query: Tensor, key: Tensor, value: Tensor) -> LayerPrepared:
        q, k, v = query, key, value
        if self.norm_first:
            q = self.norm(query)
            k = q if key is query else self.norm(key)
            v = k if value is key else self.norm(value)
        return query, q, self.branches.prepare(q, k, v)

    def attention(self, z: LayerPrepared, mask: Tensor | None) -> Tensor:
        _, _, branches = z
        return self.branches.tap(self.branches.attention(branches, mask))

    def combine(self, a: Tensor, z: LayerPrepared) -> Tensor:
        query, q, branches = z
        return self.add(self.branches.combine(a, branches), query, q)

    def fused(self, z: LayerPrepared, mask: Tensor | None) -> Tensor | None:
        query, q, branches = z
        return self.add(self.branches.read(branches, mask), query, q)

    def add(self, y: Tensor, query: Tensor, q: Tensor) -> Tensor:
        """Add the branches' output y and the feed-forward network of q to the query."""
        y = query + self.drop(y + self.contract(self.expand(q).relu()))
        return y if self.norm_first else self.norm(y)


@leaf
def _above_zero(a: Tensor, mask: Tensor | None) -> Tensor:
    """Raise the weights of open keys that were rounded to zero: zero means that a key is masked."""
    rounded = a == 0
    if mask is not None:
        rounded = rounded & (mask if mask.dtype == torch.bool else mask > -torch.inf)
    # Almost the smallest number of float16, whose smallest normal one would add up to something.
    return a.masked_fill(rounded, min(torch.finfo(a.dtype).tiny, 6e-8))


@leaf
def _open_keys(mask: Tensor) -> Tensor:
    """Return which keys any query may attend to, ``b m`` or ``1 m``."""
    allowed = mask if mask.dtype == torch.bool else mask > -torch.inf
    keys = allowed.any(-2)  # m, or b heads m
    return keys[None] if keys.dim() == 1 else keys.any(1)
