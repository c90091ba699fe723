"""MobileViTv2: separable self-attention, with one score per token and one sum per sequence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm

from ..core import pairwise
from ..core.attention import Mechanism, SequenceAttention, names_itself
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import odd, one_of, per_axis, positive, probability
from ..core.conv_norm import conv_norm
from ..core.tracing import leaf
from . import _patches

Prepared = tuple[Tensor, Tensor, Tensor]  # gate b n d, scores b 1 m 1, values b 1 m d


class MobileViTv2(SequenceAttention):
    r"""Computes one weighted sum of all tokens, and gates it separately for each token.

    .. math::
        y_i = W_o \big(\delta(W_V x_i) \odot \textstyle\sum_j a_j W_K z_j\big), \quad
        a = \operatorname{softmax}_j (W_I z_j)

    with :math:`\delta` = ReLU and a single row in :math:`W_I`; section 3.2 of the paper. In
    self-attention x = z; otherwise x are the queries, and z the keys in the softmax and the values
    in the sum. `MobileViTv2Block` is the block of the paper's networks, for images.

    In half precision, rounding can change which entry the softmax selects where scores are in
    the hundreds.

    Args:
        embed_dim: Channels of queries, keys, values and output.
        activation: Activation of the gates: ``relu``, or None.
        dropout: Dropout rate of the attention weights.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        query ``b n d``, key ``b m d``, value ``b m d``, map ``b 1 1 m``, shared by all queries, y
        ``b n d``. A mask (True = may attend, or added to the scores) is broadcast to ``b 1 n m``
        and makes a separate map for each query.

    Raises:
        ValueError: ``embed_dim`` is not positive, or the dropout is not a rate.

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
            "The authors' code has one layer for the three projections, and takes patches as an "
            "image of positions by patches; here the input is a sequence, and MobileViTv2Block "
            "splits images into sequences.",
            "A well-known re-implementation leaves out the ReLU (activation=None).",
            "The authors round the hidden channels of their block down to a multiple of 16; here "
            "they are twice embed_dim, or as given.",
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
        self.key = nn.Linear(embed_dim, embed_dim, **factory)  # the paper's W_K, of the sum
        self.value = nn.Linear(embed_dim, embed_dim, **factory)  # the paper's W_V, of the gate
        self.drop = nn.Dropout(dropout)
        self.out = nn.Linear(embed_dim, embed_dim, **factory)

    def prepare(self, query: Tensor, key: Tensor, value: Tensor) -> Prepared:
        gate = self.value(query)
        scores = self.score(key).unsqueeze(1)
        return gate.relu() if self.activation else gate, scores, self.key(value).unsqueeze(1)

    def attention(self, z: Prepared, mask: Tensor | None) -> Tensor:
        _, scores, _ = z
        q = scores.new_ones(1, 1, 1, 1)  # shared by all queries, so that the scores are the keys
        return pairwise.attention_weights(q, scores, mask=mask)

    def combine(self, a: Tensor, z: Prepared) -> Tensor:
        gate, _, v = z
        return self.out(gate * (self.drop(a) @ v).squeeze(1))


class MobileViTv2Block(Mechanism):
    r"""Gates, at each pixel, a weighted sum of the pixels at the same position in all patches.

    .. math::
        y = P\, \mathrm{fold}(\mathrm{GN}(z_L)), \quad
        z_0 = \mathrm{unfold}(W (K * x)), \quad z_l = z'_l + \mathrm{MLP}(\mathrm{GN}(z'_l)), \quad
        z'_l = z_{l-1} + \mathrm{SSA}(\mathrm{GN}(z_{l-1}))

    where SSA is `MobileViTv2`, GN normalizes over all channels and positions of an image, K is
    depthwise, followed by batch norm and SiLU, P is followed by batch norm, and the MLP has two
    layers with a SiLU between them. Section 3.3 of the paper; unlike `MobileViT`, it does not fuse
    the result with x. Each layer has a tap: ``layers.0.attention.tap`` and so on.

    In bfloat16, the roundings of its layers add up to a little more than one percent.

    Args:
        channels: :math:`C`.
        embed_dim: Channels of a token; half of ``channels`` by default.
        num_layers: :math:`L`.
        hidden_dim: Hidden channels of the MLP; twice ``embed_dim`` by default.
        patch_size: Height and width of a patch, or one number for both. An image that they do not
            divide is upsampled first.
        kernel_size: Kernel size of K, odd.
        dilation: Dilation of K.
        dropout: Dropout rate of what attention and MLP add.
        attention_dropout: Dropout rate of the attention weights.
        hidden_dropout: Dropout rate of the hidden channels of the MLP.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, y ``b c h' w'``: the next multiples of the patch size. The map of each layer
        is ``b 1 1 m`` for the m patches; its batch axis has each position inside a patch of each
        image, image by image.

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
        sequences = self.patch_size[0] * self.patch_size[1]
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        options = {"dilation": dilation, "groups": channels, "activation": nn.SiLU(), **factory}
        self.local = conv_norm(channels, channels, kernel_size, **options)
        self.widen = nn.Conv2d(channels, embed_dim, 1, bias=False, **factory)

        def layer() -> _patches.Layer:
            attention = MobileViTv2(embed_dim, dropout=attention_dropout, **factory)
            norms = _Norm(embed_dim, sequences, **factory), _Norm(embed_dim, sequences, **factory)
            sizes = embed_dim, hidden_dim
            return _patches.Layer(attention, norms, *sizes, dropout, hidden_dropout, **factory)

        self.layers = nn.Sequential(*(layer() for _ in range(num_layers)))
        self.norm = _Norm(embed_dim, sequences, **factory)
        self.project = conv_norm(embed_dim, channels, **factory)

    @names_itself
    def forward(self, x: Tensor) -> Tensor:
        """Run the block."""
        self.check(x)
        x = _patches.stretch(x, self.patch_size, align_corners=True)
        x = self.widen(self.local(x))
        z = self.norm(self.layers(_patches.unfold(x, self.patch_size)))
        return self.project(_patches.fold(z, x, self.patch_size))


class _Norm(nn.GroupNorm):
    """Normalize over all channels and tokens of an image, which is ``sequences`` sequences."""

    def __init__(self, embed_dim: int, sequences: int, **factory: Any) -> None:
        super().__init__(1, embed_dim, **factory)
        self.sequences = sequences

    def forward(self, x: Tensor) -> Tensor:
        return _standardize(x, self.sequences, self.eps) * self.weight + self.bias


@leaf
def _standardize(x: Tensor, sequences: int, eps: float) -> Tensor:
    """Standardize each image, which is ``sequences`` consecutive entries of the batch."""
    x = x.unflatten(0, (-1, sequences))
    return layer_norm(x, x.shape[1:], eps=eps).flatten(0, 1)
