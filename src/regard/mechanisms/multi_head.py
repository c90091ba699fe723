"""Multi-head attention: scaled dot-product attention in parallel subspaces."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from ..core import pairwise
from ..core.attention import SequenceAttention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import head_dims, positive, probability
from ..core.tracing import leaf

Prepared = tuple[Tensor, Tensor, Tensor]  # q, k, v: b heads n d


class MultiHead(SequenceAttention):
    r"""Computes a weighted sum of the values for each query, in each head.

    .. math::
        a_h = \operatorname{softmax}\Big(\frac{Q_h K_h^\top}{\sqrt{d_k}} + M\Big), \quad
        y = W_o [a_1 V_1; \dots; a_H V_H]

    with :math:`Q_h = W_h^q x` etc., and M from the mask; section 3.2 of the paper.

    In half precision, rounding can change which entry the softmax selects where scores are in
    the hundreds.

    Args:
        embed_dim: Channels of the queries and of the output.
        num_heads: :math:`H`.
        kdim: Channels of the keys; ``embed_dim`` by default.
        vdim: Channels of the values; ``embed_dim`` by default.
        head_dim: :math:`d_k`, channels of a head's queries and keys; ``embed_dim / num_heads`` by
            default.
        value_head_dim: :math:`d_v`, channels of a head's values; ``head_dim`` by default.
        bias: Add biases to the projections.
        out_bias: Add a bias to the output projection, :math:`W_o`; ``bias`` by default.
        dropout: Dropout rate of the attention weights.
        add_bias_kv: Append a learned key and value to the sequence.
        add_zero_attn: Append a key and a value of zeros to the sequence.
        causal: Mask the keys after each query's position; if the lengths differ, the last query and
            the last key have the same position.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        query ``b n d``, key ``b m e``, value ``b m f``, map ``b heads n m``, y ``b n d``. The mask
        (True = may attend, or added to the scores) is broadcast to the map.

    Raises:
        ValueError: a size is not positive, ``num_heads`` does not divide ``embed_dim``, the dropout
            is not a rate, or ``causal`` is combined with appended keys.

    >>> attention = MultiHead(64, num_heads=4)
    >>> attention(torch.randn(2, 9, 64), torch.randn(2, 5, 64)).shape
    torch.Size([2, 9, 64])

    With a mask it is the masked cross-attention of Mask2Former: each query attends to the pixels
    of the mask that it predicted before, or to all of them if it predicted none.

    >>> queries, pixels = torch.randn(2, 9, 64), torch.randn(2, 35, 64)
    >>> predicted = torch.randn(2, 1, 9, 35) > 0
    >>> free = ~predicted.any(-1, keepdim=True)
    >>> attention(queries, pixels, mask=predicted | free).shape
    torch.Size([2, 9, 64])
    """

    card = Card(
        title="Multi-head attention",
        paper="Attention Is All You Need",
        authors=(
            "Ashish Vaswani, Noam Shazeer, Niki Parmar, Jakob Uszkoreit, Llion Jones, Aidan N. "
            "Gomez, Lukasz Kaiser, Illia Polosukhin"
        ),
        venue="NeurIPS",
        year=2017,
        url="https://arxiv.org/abs/1706.03762",
        code="https://github.com/tensorflow/tensor2tensor",
        license="Apache-2.0",
        domain="sequence",
        computes="fc+matmul",
        applies="matmul",
        kind="sequence",
        equivariant=("pixels",),
        cost=dict(time="n^2 c + n c^2", memory="n c"),
        aliases=(
            "mha",
            "multi_head_attention",
            "multihead_attention",
            "masked_cross",
            "masked_cross_attention",
            "masked_attention",
            "mask2former",
        ),
        differs=(
            "The projections have biases, as in common implementations; the paper's equations have "
            "none (bias=False).",
        ),
    )
    axes = Axes(
        "query: b n d, key: b m e, value: b m f", "b heads n m", output="b n d", range="softmax"
    )

    def __init__(
        self,
        embed_dim: int,
        num_heads: int = 8,
        *,
        kdim: int | None = None,
        vdim: int | None = None,
        head_dim: int | None = None,
        value_head_dim: int | None = None,
        bias: bool = True,
        out_bias: bool | None = None,
        dropout: float = 0.0,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        causal: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        kdim = embed_dim if kdim is None else kdim
        vdim = embed_dim if vdim is None else vdim
        super().__init__(d=embed_dim, e=kdim, f=vdim, heads=num_heads)
        positive(embed_dim=embed_dim, kdim=kdim, vdim=vdim)
        head_dim, value_head_dim = head_dims(
            num_heads, head_dim, value_head_dim, embed_dim=embed_dim
        )
        probability(dropout=dropout)
        self.extra = add_bias_kv + add_zero_attn
        if causal and self.extra:
            raise ValueError(
                "causal must be False with add_bias_kv or add_zero_attn: they are after every query"
            )
        if self.extra:
            self.axes = replace(self.axes, map="b heads n k")
        self.num_heads, self.causal = num_heads, causal
        self.scale = head_dim**-0.5
        self.add_zero_attn = add_zero_attn
        factory = {"device": device, "dtype": dtype}
        self.query = nn.Linear(embed_dim, num_heads * head_dim, bias, **factory)
        self.key = nn.Linear(kdim, num_heads * head_dim, bias, **factory)
        self.value = nn.Linear(vdim, num_heads * value_head_dim, bias, **factory)
        self.extra_key = self.extra_value = None
        if add_bias_kv:
            self.extra_key = nn.Parameter(torch.empty(num_heads * head_dim, **factory))
            self.extra_value = nn.Parameter(torch.empty(num_heads * value_head_dim, **factory))
        self.drop = nn.Dropout(dropout)
        out_bias = bias if out_bias is None else out_bias
        self.out = nn.Linear(num_heads * value_head_dim, embed_dim, out_bias, **factory)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw projections by Glorot's rule, and set the biases to zero."""
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                nn.init.xavier_uniform_(parameter)
            elif name.startswith("extra"):
                nn.init.normal_(parameter, std=parameter.numel() ** -0.5)
            else:
                nn.init.zeros_(parameter)

    def prepare(self, query: Tensor, key: Tensor, value: Tensor) -> Prepared:
        k, v = self.key(key), self.value(value)
        if self.extra_key is not None and self.extra_value is not None:
            k = torch.cat([k, self.extra_key.expand(k.shape[0], 1, -1)], 1)
            v = torch.cat([v, self.extra_value.expand(v.shape[0], 1, -1)], 1)
        if self.add_zero_attn:
            k, v = pad(k, (0, 0, 0, 1)), pad(v, (0, 0, 0, 1))
        return self.divide(self.query(query)), self.divide(k), self.divide(v)

    def attention(self, z: Prepared, mask: Tensor | None) -> Tensor:
        q, k, _ = z
        mask = _extend_mask(mask, k.shape[2], self.extra)
        return pairwise.attention_weights(q, k, scale=self.scale, mask=mask, causal=self.causal)

    def combine(self, a: Tensor, z: Prepared) -> Tensor:
        _, _, v = z
        return self.join(self.drop(a) @ v)

    def fused(self, z: Prepared, mask: Tensor | None) -> Tensor | None:
        q, k, v = z
        mask = _extend_mask(mask, k.shape[2], self.extra)
        dropout = self.drop.p if self.training else 0.0
        y = pairwise.scaled_dot_product(
            q, k, v, scale=self.scale, mask=mask, causal=self.causal, dropout=dropout
        )
        return self.join(y)

    def divide(self, x: Tensor) -> Tensor:
        """Split projected queries, keys or values into heads."""
        return pairwise.split_heads(x, self.num_heads)

    def join(self, y: Tensor) -> Tensor:
        """Merge the heads, and project the result."""
        return self.out(pairwise.merge_heads(y))


@leaf
def _extend_mask(mask: Tensor | None, keys: int, extra: int) -> Tensor | None:
    """Extend a mask to all keys, of which every query may attend to the last ``extra``."""
    if mask is None or not extra:
        return mask
    open_value = float(mask.dtype == torch.bool)
    return pad(mask.expand(*mask.shape[:-1], keys - extra), (0, extra), value=open_value)
