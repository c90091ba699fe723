"""MobileViT: a convolution, then self-attention among the same pixel of all patches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..core import grid
from ..core.attention import Mechanism, names_itself
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import divides, odd, per_axis, positive, probability
from ..core.conv_norm import conv_norm
from . import _patches
from .multi_head import MultiHead


class MobileViT(Mechanism):
    r"""Lets each pixel attend to the pixels at the same position in all patches.

    .. math::
        y = F * [x; \hat x], \quad \hat x = P\, \mathrm{fold}(\mathrm{LN}(z_L)), \quad
        z_0 = \mathrm{unfold}(W (K * x)), \quad z_l = z'_l + \mathrm{MLP}(\mathrm{LN}(z'_l)), \quad
        z'_l = z_{l-1} + \mathrm{MSA}(\mathrm{LN}(z_{l-1}))

    with K and F of :math:`k \times k` and P and W of :math:`1 \times 1`, a batch norm and a SiLU
    after K, P and F. Unfolding makes one sequence of patches for each position inside a patch; MSA
    is the attention of `MultiHead` along it, and MLP has two layers with a SiLU between them.
    Section 3.1 and figure 1 of the paper. Each layer has a tap: ``layers.0.attention.tap`` and so
    on.

    Args:
        channels: :math:`C`.
        embed_dim: Channels of a token; by default 1.5 times ``channels``, rounded down to a
            multiple of ``num_heads``.
        num_heads: Number of heads.
        num_layers: :math:`L`.
        hidden_dim: Hidden channels of the MLP; twice ``embed_dim`` by default.
        head_dim: Channels of a head; ``embed_dim / num_heads`` by default.
        patch_size: Height and width of a patch, or one number for both. An image that they do not
            divide is upsampled for the layers, and resized back after them.
        kernel_size: Kernel size of K and F, odd.
        dilation: Dilation of K.
        norm: Apply batch norm and SiLU after the convolutions and layer norm after the last layer;
            if not, the convolutions have biases instead.
        qkv_bias: Add biases to queries, keys and values.
        fuse: Convolve :math:`\hat x` together with x; if not, :math:`\hat x` is the output.
        dropout: Dropout rate of what attention and MLP add.
        attention_dropout: Dropout rate of the attention weights.
        hidden_dropout: Dropout rate of the hidden channels of the MLP.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, y as x. The map of each layer is ``b heads n m`` for the n patches; its batch
        axis has each position inside a patch of each image, image by image.

    Raises:
        ValueError: a size is not positive, the kernel is even, ``num_heads`` does not divide
            ``embed_dim``, or a dropout is not a rate.

    >>> MobileViT(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = Card(
        title="MobileViT block",
        paper="MobileViT: Light-weight, General-purpose, and Mobile-friendly Vision Transformer",
        authors="Sachin Mehta, Mohammad Rastegari",
        venue="ICLR",
        year=2022,
        url="https://arxiv.org/abs/2110.02178",
        code="https://github.com/apple/ml-cvnets",
        license="Apple license",
        domain="spatial",
        computes="conv+fc+matmul",
        applies="matmul",
        kind="relation",
        train_differs=True,
        cost=dict(time="n^2 c + n c^2", memory="n c"),
        aliases=("mobilevit", "mobile_vit", "mobilevit_block", "mobilevit_attention"),
        differs=(
            "The default dimensions, heads and layers are those of the first of three blocks in "
            "the authors' largest network; the other two have four and three layers.",
            "The 1 x 1 convolution before the layers has neither norm nor SiLU, as in the paper "
            "and the authors' code.",
            "A well-known re-implementation has norms and SiLUs in its layers only, no biases of "
            "queries, keys and values, and a free head dimension (norm=False, qkv_bias=False, "
            "head_dim=64); height and width must be multiples of its patch.",
        ),
    )
    axes = Axes("b c h w", "b heads n m", range="softmax")

    def __init__(
        self,
        channels: int,
        embed_dim: int | None = None,
        num_heads: int = 4,
        *,
        num_layers: int = 2,
        hidden_dim: int | None = None,
        head_dim: int | None = None,
        patch_size: int | Sequence[int] = 2,
        kernel_size: int = 3,
        dilation: int = 1,
        norm: bool = True,
        qkv_bias: bool = True,
        fuse: bool = True,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        hidden_dropout: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=channels)
        positive(channels=channels, num_heads=num_heads, num_layers=num_layers, dilation=dilation)
        odd(kernel_size=kernel_size)
        if embed_dim is None:
            embed_dim = num_heads * max(3 * channels // (2 * num_heads), 1)
        if head_dim is None:
            divides(embed_dim=embed_dim, num_heads=num_heads)
        hidden_dim = 2 * embed_dim if hidden_dim is None else hidden_dim
        positive(embed_dim=embed_dim, hidden_dim=hidden_dim)
        probability(dropout=dropout, hidden_dropout=hidden_dropout)
        self.patch_size = per_axis(2, 1, patch_size=patch_size)
        self.fuse = fuse
        factory: dict[str, Any] = {"device": device, "dtype": dtype}

        def convolution(i: int, o: int, kernel: int, dilation: int = 1) -> nn.Sequential:
            if norm:
                activation = nn.SiLU()
                return conv_norm(i, o, kernel, dilation=dilation, activation=activation, **factory)
            padding = dilation * (kernel // 2)
            return nn.Sequential(
                nn.Conv2d(i, o, kernel, padding=padding, dilation=dilation, **factory)
            )

        def layer() -> _patches.Layer:
            attention = MultiHead(
                embed_dim,
                num_heads,
                head_dim=head_dim,
                bias=qkv_bias,
                out_bias=True,
                dropout=attention_dropout,
                **factory,
            )
            norms = nn.LayerNorm(embed_dim, **factory), nn.LayerNorm(embed_dim, **factory)
            sizes = embed_dim, hidden_dim
            return _patches.Layer(attention, norms, *sizes, dropout, hidden_dropout, **factory)

        self.local = convolution(channels, channels, kernel_size, dilation)
        self.widen = nn.Conv2d(channels, embed_dim, 1, bias=not norm, **factory)
        self.layers = nn.Sequential(*(layer() for _ in range(num_layers)))
        self.norm = nn.LayerNorm(embed_dim, **factory) if norm else nn.Identity()
        self.project = convolution(embed_dim, channels, 1)
        self.fusion = convolution(2 * channels, channels, kernel_size) if fuse else nn.Identity()

    @names_itself
    def forward(self, x: Tensor) -> Tensor:
        """Run the block."""
        self.check(x)
        y = self.widen(self.local(x))
        image = _patches.stretch(y, self.patch_size)
        z = self.norm(self.layers(_patches.unfold(image, self.patch_size)))
        z = _patches.fold(z, image, self.patch_size)
        y = self.project(grid.upsample_like(z, y, align_corners=False))
        return self.fusion(torch.cat([x, y], 1)) if self.fuse else y
