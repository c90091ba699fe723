"""MobileViTv2: separable self-attention, one score for a token and one sum for a sequence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm

from ..core import grid, pairwise
from ..core.attention import Mechanism, SequenceAttention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import odd, one_of, per_axis, positive, probability
from ..core.tracing import leaf
from . import _patches


class MobileViTv2(SequenceAttention):
    r"""Sums all tokens by one score for each, and has every token gate the sum.

    .. math::
        y_i = W_o \big(\delta(W_V x_i) \odot \textstyle\sum_j a_j W_K z_j\big), \quad
        a = \operatorname{softmax}_j (W_I z_j)

    with :math:`\delta` = ReLU and a single row in :math:`W_I`; section 3.2 of the paper. In
    self-attention x and z are the same; else x are the queries, and z the keys in the softmax and
    the values in the sum. `MobileViTv2Block` is the block of the paper's networks, for images.

    Args:
        embed_dim: Channels of queries, keys, values and output.
        activation: Of the gates: ``relu``, or None.
        dropout: Rate of dropping weights of the map in training.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        query ``b n d``, key ``b m d``, value ``b m d``, map ``b 1 1 m``, one for all queries, y
        ``b n d``. With a mask, which is broadcast to ``b 1 n m``, each query has a map of its own;
        True = may attend, or it is added to the scores.

    Raises:
        ValueError: the width is not positive, or the dropout is not a rate.

    >>> attention = MobileViTv2(64)
    >>> attention(torch.randn(2, 9, 64), torch.randn(2, 5, 64)).shape
    torch.Size([2, 9, 64])
    """

    card = Card(
        title="Separable self-attention (MobileViTv2)",
        paper="Separable Self-attention for Mobile Vision Transformers",
        authors="Sachin Mehta, Mohammad Rastegari",
        venue="TMLR",
        year=2023,
        url="https://arxiv.org/abs/2206.02680",
        code="https://github.com/apple/ml-cvnets",
        license="Apple license",
        domain="sequence",
        computes="fc",
        applies="matmul+gate",
        kind="sequence",
        equivariant=("pixels",),
        cost=dict(time="n c^2", memory="n c"),
        aliases=("mobilevitv2", "mobilevit_v2", "mobilevitv2_attention", "separable_attention"),
        differs=(
            "The authors' code stacks the three projections in one layer, and reads images of "
            "tokens, places in a patch by patches, of which each place is a sequence; here a "
            "sequence is a sequence, and MobileViTv2Block takes images apart.",
            "A well-known re-implementation leaves out the ReLU (activation=None).",
            "The authors round the hidden channels of their block down to a multiple of 16; here "
            "they are twice the width, or what is given.",
        ),
    )
    axes = Axes(
        "query: b n d, key: b m d, value: b m d", "b 1 1 m", output="b n d", range="softmax"
    )

    def __init__(
        self,
        embed_dim: int,
        *,
        activation: Literal["relu"] | None = "relu",
        dropout: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(d=embed_dim)
        positive(embed_dim=embed_dim)
        probability(dropout=dropout)
        one_of(("relu", None), activation=activation)
        self.activation = activation
        factory = {"device": device, "dtype": dtype}
        self.score = nn.Linear(embed_dim, 1, **factory)
        self.key = nn.Linear(embed_dim, embed_dim, **factory)  # the paper's W_K: of what is summed
        self.value = nn.Linear(embed_dim, embed_dim, **factory)  # its W_V: of what gates the sum
        self.drop = nn.Dropout(dropout)
        self.out = nn.Linear(embed_dim, embed_dim, **factory)

    def prepare(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        gate = self.value(query)
        scores = self.score(key).unsqueeze(1)  # b 1 m 1
        return gate.relu() if self.activation else gate, scores, self.key(value).unsqueeze(1)

    def attention(self, x: tuple[Tensor, Tensor, Tensor], mask: Tensor | None) -> Tensor:
        scores = x[1]
        query = scores.new_ones(1, 1, 1, 1)  # all share it
        return pairwise.attention_weights(query, scores, mask=mask)

    def combine(self, a: Tensor, x: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        gate, _, z = x
        return self.out(gate * (self.drop(a) @ z).squeeze(1))


class MobileViTv2Block(Mechanism):
    r"""Lets each pixel of a patch read a sum over the pixels at the same place in all patches.

    .. math::
        y = P\, \mathrm{fold}(\mathrm{GN}(z_L)), \quad
        z_0 = \mathrm{unfold}(W (K * x)), \quad z_l = z'_l + \mathrm{MLP}(\mathrm{GN}(z'_l)), \quad
        z'_l = z_{l-1} + \mathrm{SSA}(\mathrm{GN}(z_{l-1}))

    where SSA is `MobileViTv2`, GN normalizes an image as a whole, K is depthwise with a batch norm
    and a SiLU behind it, P has a batch norm, and a SiLU stands between the two layers of the MLP.
    Section 3.3 of the paper; nothing of x is added or joined, as in `MobileViT`. Each layer has a
    tap: ``layers.0.attention.tap`` and so on.

    Args:
        channels: :math:`C`.
        embed_dim: Channels of a token; half of ``channels`` by default.
        num_layers: :math:`L`.
        hidden_dim: Channels between the two layers of the MLP; twice ``embed_dim`` by default.
        patch_size: Height and width of a patch, or one number for both. An image that they do not
            divide is enlarged first.
        kernel_size: Side of the kernels of K, odd.
        dilation: Steps between the taps of K.
        dropout: Rate of dropping what attention and MLP add, in training.
        attention_dropout: Rate of dropping weights of the maps.
        hidden_dropout: Rate of dropping numbers inside the MLP.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, y ``b c h' w'``: the next multiples of the patch's sides. The map of each
        layer is ``b 1 1 m`` for the m patches, in a batch of all places in the patches of all
        images, those of the first image first.

    Raises:
        ValueError: a size is not positive, the kernel is even, or a dropout is not a rate.

    >>> MobileViTv2Block(64)(torch.randn(2, 64, 10, 8)).shape
    torch.Size([2, 64, 10, 8])
    """

    card = replace(
        MobileViTv2.card,
        domain="spatial",
        kind="relation",
        computes="conv+fc",
        equivariant=(),
        train_differs=True,
    )
    axes = Axes("b c h w", "b 1 1 m", output="b c y x", range="softmax")

    def __init__(
        self,
        channels: int,
        embed_dim: int | None = None,
        *,
        num_layers: int = 2,
        hidden_dim: int | None = None,
        patch_size: int | Sequence[int] = 2,
        kernel_size: int = 3,
        dilation: int = 1,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        hidden_dropout: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=channels)
        positive(channels=channels, num_layers=num_layers, dilation=dilation)
        odd(kernel_size=kernel_size)
        embed_dim = max(channels // 2, 1) if embed_dim is None else embed_dim
        hidden_dim = 2 * embed_dim if hidden_dim is None else hidden_dim
        positive(embed_dim=embed_dim, hidden_dim=hidden_dim)
        probability(dropout=dropout, hidden_dropout=hidden_dropout)
        self.patch_size = per_axis(2, 1, patch_size=patch_size)
        places = self.patch_size[0] * self.patch_size[1]
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        how = {"padding": dilation * (kernel_size // 2), "dilation": dilation, "bias": False}
        self.local = nn.Sequential(
            nn.Conv2d(channels, channels, kernel_size, groups=channels, **how, **factory),
            nn.BatchNorm2d(channels, **factory),
            nn.SiLU(),
        )
        self.widen = nn.Conv2d(channels, embed_dim, 1, bias=False, **factory)

        def layer() -> _patches.Layer:
            attention = MobileViTv2(embed_dim, dropout=attention_dropout, **factory)
            norms = _Norm(embed_dim, places, **factory), _Norm(embed_dim, places, **factory)
            rates = dropout, hidden_dropout
            return _patches.Layer(attention, norms, embed_dim, hidden_dim, *rates, **factory)

        self.layers = nn.Sequential(*(layer() for _ in range(num_layers)))
        self.norm = _Norm(embed_dim, places, **factory)
        self.project = nn.Sequential(
            nn.Conv2d(embed_dim, channels, 1, bias=False, **factory),
            nn.BatchNorm2d(channels, **factory),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Run the block."""
        self.check(x)
        x = _patches.stretch(x, self.patch_size, align_corners=True)
        x = self.widen(self.local(grid.check_norm_batch(x, type(self).__name__, self.training)))
        z = self.norm(self.layers(_patches.unfold(x, self.patch_size)))
        return self.project(_patches.fold(z, x, self.patch_size))


class _Norm(nn.GroupNorm):
    """Over all channels of all tokens of an image, whose sequences follow one another."""

    def __init__(self, embed_dim: int, places: int, **factory: Any) -> None:
        super().__init__(1, embed_dim, **factory)
        self.places = places

    def forward(self, x: Tensor) -> Tensor:
        return standardize(x, self.places, self.eps) * self.weight + self.bias


@leaf
def standardize(x: Tensor, places: int, eps: float) -> Tensor:
    """Mean 0 and variance 1 for each so many sequences, which are one image."""
    x = x.unflatten(0, (-1, places))
    return layer_norm(x, x.shape[1:], eps=eps).flatten(0, 1)
