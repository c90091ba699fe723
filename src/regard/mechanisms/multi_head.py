"""Multi-head attention: queries read keys and values, in several subspaces at once."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from ..core import pairwise
from ..core.attention import SequenceAttention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import divides, positive, probability
from ..core.tracing import leaf


@leaf
def extend_mask(mask: Tensor | None, keys: int, extra: int) -> Tensor | None:
    """Extend a mask to all keys, of which the last ``extra`` are open to every query."""
    if mask is None or not extra:
        return mask
    may = float(mask.dtype == torch.bool)
    return pad(mask.expand(*mask.shape[:-1], keys - extra), (0, extra), value=may)


class MultiHead(SequenceAttention):
    r"""Gives each query a weighted sum of the values, one for each head.

    .. math::
        a_h = \operatorname{softmax}\Big(\frac{Q_h K_h^\top}{\sqrt{d_k}} + M\Big), \quad
        y = W_o [a_1 V_1; \dots; a_H V_H]

    with :math:`Q_h = W_h^q x` and so on, and M from the mask; section 3.2 of the paper.

    Args:
        embed_dim: Channels of the queries and of the output.
        num_heads: :math:`H`.
        kdim: Channels of the keys; as the queries by default.
        vdim: Channels of the values; as the queries by default.
        head_dim: :math:`d_k`, channels of a head's queries and keys; ``embed_dim / heads`` if none.
        value_head_dim: :math:`d_v`, channels of a head's values; ``head_dim`` by default.
        bias: Give the projections biases.
        out_bias: Give the last projection, :math:`W_o`, a bias; as ``bias`` by default.
        dropout: Rate of dropping weights of the map in training.
        add_bias_kv: Append a learned key and value to all others.
        add_zero_attn: Append a key and a value of zeros.
        causal: Let no query read a key behind its own place; the last query has that of the last
            key.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        query ``b n d``, key ``b m e``, value ``b m f``, map ``b heads n m``, y ``b n d``. The mask
        is broadcast to the map; True = may attend, or it is added to the scores.

    Raises:
        ValueError: a size is not positive, the heads do not divide the width, or the dropout is not
            a rate, or keys are appended behind causal ones.

    >>> attention = MultiHead(64, num_heads=4)
    >>> attention(torch.randn(2, 9, 64), torch.randn(2, 5, 64)).shape
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
        aliases=("mha", "multi_head_attention", "multihead_attention"),
        differs=(
            "The projections have biases, as in the code of the field; the paper's equations have "
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
        positive(embed_dim=embed_dim, num_heads=num_heads, kdim=kdim, vdim=vdim)
        if head_dim is None:
            divides(embed_dim=embed_dim, num_heads=num_heads)
            head_dim = embed_dim // num_heads
        value_head_dim = head_dim if value_head_dim is None else value_head_dim
        positive(head_dim=head_dim, value_head_dim=value_head_dim)
        probability(dropout=dropout)
        self.extra = add_bias_kv + add_zero_attn
        if causal and self.extra:
            raise ValueError("causal must be False with bias_kv or zero_kv: they stand at the end")
        if self.extra:  # they have no bias, which keeps that of the other keys from cancelling
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
        """Draw projections by Glorot's rule, and put the biases to zero."""
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                nn.init.xavier_uniform_(parameter)
            elif name.startswith("extra"):
                nn.init.normal_(parameter, std=parameter.numel() ** -0.5)
            else:
                nn.init.zeros_(parameter)

    def prepare(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        k, v = self.key(key), self.value(value)
        if self.extra_key is not None and self.extra_value is not None:
            k = torch.cat([k, self.extra_key.expand(k.shape[0], 1, -1)], 1)
            v = torch.cat([v, self.extra_value.expand(v.shape[0], 1, -1)], 1)
        if self.add_zero_attn:
            k, v = pad(k, (0, 0, 0, 1)), pad(v, (0, 0, 0, 1))
        return self.divide(self.query(query)), self.divide(k), self.divide(v)

    def divide(self, x: Tensor) -> Tensor:
        return pairwise.split_heads(x, self.num_heads)

    def attention(self, x: tuple[Tensor, Tensor, Tensor], mask: Tensor | None) -> Tensor:
        q, k, _ = x
        mask = extend_mask(mask, k.shape[2], self.extra)
        return pairwise.attention_weights(q, k, scale=self.scale, mask=mask, causal=self.causal)

    def combine(self, a: Tensor, x: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        return self.join(self.drop(a) @ x[2])

    def join(self, y: Tensor) -> Tensor:
        return self.out(pairwise.merge_heads(y))

    def fused(self, x: tuple[Tensor, Tensor, Tensor], mask: Tensor | None) -> Tensor | None:
        q, k, v = x
        mask = extend_mask(mask, k.shape[2], self.extra)
        dropout = self.drop.p if self.training else 0.0
        how = {"mask": mask, "causal": self.causal, "dropout": dropout}
        return self.join(pairwise.scaled_dot_product(q, k, v, scale=self.scale, **how))
