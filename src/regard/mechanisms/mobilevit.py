"""MobileViT: a convolution looks near, and patches, taken pixel by pixel, read one another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..core import grid
from ..core.attention import Mechanism
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import divides, odd, per_axis, positive, probability
from ..core.reference import Source, rename, unstack
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
        width: Channels of a token; one and a half times ``channels`` by default, in whole heads.
        heads: Heads of the attention.
        layers: :math:`L`.
        hidden: Channels between the two layers of the MLP; twice ``width`` by default.
        head_width: Channels of a head; ``width / heads`` by default.
        patch: Height and width of a patch, or one number for both. An image that they do not divide
            is enlarged between the convolutions, and what was read is shrunk again.
        kernel_size: Side of the kernels of K and F, odd.
        dilation: Steps between the taps of K.
        norm: Normalise behind the convolutions, with SiLU, and behind the last layer; if not, there
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
        authors=("Sachin Mehta", "Mohammad Rastegari"),
        venue="ICLR",
        year=2022,
        url="https://arxiv.org/abs/2110.02178",
        code="https://github.com/apple/ml-cvnets",
        licence="Apple licence",
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
            "qkv_bias=False, head_width=64); it needs sides that the patch divides.",
        ),
        references={
            "apple/ml-cvnets:MobileViTBlock": "",
            "xmu-xiaoma666/External-Attention-pytorch": "b p heads n m",
        },
        refuses={
            "chinhsuanwu/mobilevit-pytorch": "it has a norm and a SiLU behind the convolution in "
            "front of the layers, no norm behind the last layer, and joins x behind what was read",
        },
    )
    axes = Axes("b c h w", "b heads n m", range="softmax")

    def __init__(
        self,
        channels: int,
        width: int | None = None,
        heads: int = 4,
        *,
        layers: int = 2,
        hidden: int | None = None,
        head_width: int | None = None,
        patch: int | Sequence[int] = 2,
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
        positive(channels=channels, heads=heads, layers=layers, dilation=dilation)
        odd(kernel_size=kernel_size)
        if width is None:
            width = heads * max(3 * channels // (2 * heads), 1)
        if head_width is None:
            divides(width=width, heads=heads)
        hidden = 2 * width if hidden is None else hidden
        positive(width=width, hidden=hidden)
        probability(dropout=dropout, hidden_dropout=hidden_dropout)
        self.patch = per_axis(2, 1, patch=patch)
        self.fuse = fuse
        factory: dict[str, Any] = {"device": device, "dtype": dtype}

        def convolve(c: int, o: int, side: int, steps: int = 1) -> nn.Sequential:
            padding = steps * (side // 2)
            how = {"padding": padding, "dilation": steps, "bias": not norm, **factory}
            behind = [nn.BatchNorm2d(o, **factory), nn.SiLU()] if norm else []
            return nn.Sequential(nn.Conv2d(c, o, side, **how), *behind)

        def layer() -> _patches.Layer:
            attention = MultiHead(
                width,
                heads,
                head_width=head_width,
                bias=qkv_bias,
                out_bias=True,
                dropout=attention_dropout,
                **factory,
            )
            norms = nn.LayerNorm(width, **factory), nn.LayerNorm(width, **factory)
            rates = dropout, hidden_dropout
            return _patches.Layer(attention, norms, width, hidden, *rates, **factory)

        self.local = convolve(channels, channels, kernel_size, dilation)
        self.widen = nn.Conv2d(channels, width, 1, bias=not norm, **factory)
        self.layers = nn.Sequential(*(layer() for _ in range(layers)))
        self.norm = nn.LayerNorm(width, **factory) if norm else nn.Identity()
        self.project = convolve(width, channels, 1)
        self.fusion = convolve(2 * channels, channels, kernel_size) if fuse else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Run the block."""
        self.check(x)
        y = self.widen(self.local(grid.several(x, type(self).__name__, self.training)))
        z = _patches.stretch(y, self.patch)
        z = _patches.fold(self.norm(self.layers(_patches.unfold(z, self.patch))), z, self.patch)
        y = self.project(grid.enlarge(z, y, align_corners=False))
        return self.fusion(torch.cat([x, y], 1)) if self.fuse else y

    @classmethod
    def translate(
        cls, source: Source, kwargs: Mapping[str, Any], state: Mapping[str, Tensor]
    ) -> tuple[MobileViT, Mapping[str, Tensor]]:
        if source.repo != "apple/ml-cvnets":
            # Of its layers that class fixes all but the width.
            layers = kwargs.get("depth", 3)
            module = cls(
                kwargs.get("in_channel", 3),
                kwargs.get("dim", 512),
                kwargs.get("heads", 8),
                layers=layers,
                hidden=kwargs.get("mlp_dim", 1024),
                head_width=kwargs.get("head_dim", 64),
                patch=kwargs.get("patch_size", 7),
                kernel_size=kwargs.get("kernel_size", 3),
                norm=False,
                qkv_bias=False,
            )
            names = {"conv1": "local.0", "conv2": "widen", "conv3": "project.0"}
            names["conv4"] = "fusion.0"
            for i in range(layers):
                there, here = f"trans.layers.{i}", f"layers.{i}"
                names |= {f"{there}.{j}.ln": f"{here}.{n}_norm" for j, n in enumerate(PARTS)}
                names |= {f"{there}.1.fn.net.{j}": f"{here}.feed.{j}" for j in (0, 3)}
                names |= {f"{there}.0.fn": f"{here}.attention"}
                names |= {f"{there}.0.fn.to_out.0": f"{here}.attention.out"}
            return module, rename(unstack(state, "to_qkv.", ("query", "key", "value")), names)
        norm = kwargs.get("transformer_norm_layer", "layer_norm")
        if norm != "layer_norm":
            raise ValueError(f"MobileViT: transformer_norm_layer must be layer_norm, got {norm!r}")
        width, layers = kwargs["transformer_dim"], kwargs.get("n_transformer_blocks", 2)
        head_width = kwargs.get("head_dim", 32)
        divides(transformer_dim=width, head_dim=head_width)
        module = cls(
            kwargs["in_channels"],
            width,
            width // head_width,
            layers=layers,
            hidden=kwargs["ffn_dim"],
            patch=(kwargs.get("patch_h", 8), kwargs.get("patch_w", 8)),
            kernel_size=kwargs.get("conv_ksize", 3),
            dilation=kwargs.get("dilation", 1),
            fuse=not kwargs.get("no_fusion", False),
            dropout=kwargs.get("dropout", 0.0),
            attention_dropout=kwargs.get("attn_dropout", 0.0),
            hidden_dropout=kwargs.get("ffn_dropout", 0.0),
        )
        names = {"local_rep.conv_1x1.block.conv": "widen", f"global_rep.{layers}": "norm"}
        places = {"local_rep.conv_3x3": "local", "conv_proj": "project", "fusion": "fusion"}
        for there, here in places.items():
            names |= {f"{there}.block.conv": f"{here}.0", f"{there}.block.norm": f"{here}.1"}
        for i in range(layers):
            there, here = f"global_rep.{i}.pre_norm", f"layers.{i}"
            names |= {
                f"{there}_mha.0": f"{here}.attention_norm",
                f"{there}_mha.1": f"{here}.attention",
            }
            names |= {f"{there}_mha.1.out_proj": f"{here}.attention.out"}
            names |= {f"{there}_ffn.0": f"{here}.feed_norm"}
            names |= {f"{there}_ffn.1": f"{here}.feed.0", f"{there}_ffn.4": f"{here}.feed.3"}
        return module, rename(unstack(state, "qkv_proj.", ("query", "key", "value")), names)


PARTS = ("attention", "feed")
