"""MobileViT: a convolution looks near, and patches, taken pixel by pixel, read one another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..core import grid
from ..core.attention import Mechanism
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import divides, odd, per_axis, positive, probability
from . import _patches
from .multi_head import MultiHead


class MobileViT(Mechanism):
    r"""Lets each pixel of a patch read the pixels at the same place in all other patches.

    .. math::
        y = F * [x; \hat x], \quad \hat x = P\, \mathrm{fold}(\mathrm{LN}(z_L)), \quad
        z_0 = \mathrm{unfold}(W (K * x)), \quad z_l = z'_l + \mathrm{MLP}(\mathrm{LN}(z'_l)), \quad
        z'_l = z_{l-1} + \mathrm{MSA}(\mathrm{LN}(z_{l-1}))

    with K and F of :math:`k \times k` and P and W of :math:`1 \times 1`, a batch norm and a SiLU
    behind K, P and F. Unfolding makes a sequence over the patches of each of the places in a patch;
    MSA is the attention of `MultiHead` along it, and MLP two layers with a SiLU between them.
    Section 3.1 and figure 1 of the paper. Each layer has a tap: ``layers.0.attention.tap`` and so
    on.

    Args:
        channels: :math:`C`.
        embed_dim: Channels of a token; one and a half times ``channels`` by default, in whole
            heads.
        num_heads: Heads of the attention.
        num_layers: :math:`L`.
        hidden_dim: Channels between the two layers of the MLP; twice ``embed_dim`` by default.
        head_dim: Channels of a head; ``embed_dim / heads`` by default.
        patch_size: Height and width of a patch, or one number for both. An image that they do not
            divide is enlarged between the convolutions, and what was read is shrunk again.
        kernel_size: Side of the kernels of K and F, odd.
        dilation: Steps between the taps of K.
        norm: Normalize behind the convolutions, with SiLU, and behind the last layer; if not, there
            are the layers alone, and each convolution has a bias.
        qkv_bias: Give queries, keys and values biases.
        fuse: Convolve what was read together with x; if not, :math:`\hat x` is the output.
        dropout: Rate of dropping what attention and MLP add, in training.
        attention_dropout: Rate of dropping weights of the maps.
        hidden_dropout: Rate of dropping numbers inside the MLP.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, y as x. The map of each layer is ``b heads n m`` for the n patches, in a
        batch of all places in the patches of all images, those of the first image first.

    Raises:
        ValueError: a size is not positive, the kernel is even, the heads do not divide the width,
            or a dropout is not a rate.

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
            "Ratios of width, heads and two layers are those of the first of three such blocks in "
            "the authors' largest network; the other two have four and three layers.",
            "The convolution in front of the layers has neither norm nor SiLU, in the paper and "
            "in the authors' code.",
            "A well-known re-implementation has no norm and no SiLU anywhere but in its layers, no "
            "biases of queries, keys and values, and heads of any width (norm=False, "
            "qkv_bias=False, head_dim=64); it needs sides that the patch divides.",
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

        def convolve(c: int, o: int, side: int, steps: int = 1) -> nn.Sequential:
            padding = steps * (side // 2)
            how = {"padding": padding, "dilation": steps, "bias": not norm, **factory}
            behind = [nn.BatchNorm2d(o, **factory), nn.SiLU()] if norm else []
            return nn.Sequential(nn.Conv2d(c, o, side, **how), *behind)

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
            rates = dropout, hidden_dropout
            return _patches.Layer(attention, norms, embed_dim, hidden_dim, *rates, **factory)

        self.local = convolve(channels, channels, kernel_size, dilation)
        self.widen = nn.Conv2d(channels, embed_dim, 1, bias=not norm, **factory)
        self.layers = nn.Sequential(*(layer() for _ in range(num_layers)))
        self.norm = nn.LayerNorm(embed_dim, **factory) if norm else nn.Identity()
        self.project = convolve(embed_dim, channels, 1)
        self.fusion = convolve(2 * channels, channels, kernel_size) if fuse else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Run the block."""
        self.check(x)
        y = self.widen(self.local(grid.check_norm_batch(x, type(self).__name__, self.training)))
        z = _patches.stretch(y, self.patch_size)
        z = _patches.fold(
            self.norm(self.layers(_patches.unfold(z, self.patch_size))), z, self.patch_size
        )
        y = self.project(grid.upsample_like(z, y, align_corners=False))
        return self.fusion(torch.cat([x, y], 1)) if self.fuse else y
