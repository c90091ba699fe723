"""YOLO's partial self-attention: all positions attend to each other, on half of the channels."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from ..core import pairwise, tokens
from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import above_zero, divides, one_of, positive
from ..core.conv_norm import conv_norm

Prepared = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]
# kept channels; attended channels; q, k, v: b heads n d each


class PositionSensitiveYOLO(Attention):
    r"""Applies multi-head attention with convolved values, and a feed-forward network.

    .. math::
        [u, v] = \delta(\operatorname{BN}(W_1 x)), \quad
        y = \delta\big(\operatorname{BN}(W_2 [u, \operatorname{block}(v)])\big), \quad
        \operatorname{block}(v) = w + \operatorname{FFN}(w), \quad
        w = v + \operatorname{att}(v)

    .. math::
        \operatorname{att}(v) =
        \operatorname{BN}\big(W_o (o + \operatorname{BN}(\operatorname{DWConv}_3(V)))\big), \quad
        o_h = \operatorname{softmax}\big(e^{-1/2}\, Q_h K_h^\top\big) V_h

    where :math:`\delta` is SiLU and a head has e channels of queries and keys; section 3.2 and
    figure 3 of the paper. The block and the attention can be used alone.

    In half precision, rounding can change which entry the softmax selects where scores are in
    the hundreds.

    Args:
        channels: Channels of x.
        num_heads: Number of heads; by default one for 64 channels, at least one.
        key_ratio: Channels of a head's queries and keys, as a part of those of its values.
        form: The whole module, which attends on a ``split`` of the channels, the ``block`` of
            attention and feed-forward network, or the ``attention``.
        expansion: Channels that are attended to, as a part of all; with ``form="split"`` only.
        shortcut: Add the inputs of attention and network to their outputs; not with
            ``form="attention"``, which has none.
        norm_eps: Added to the variances of the batch norms.
        dims: Axes of space and time: 1, 2 or 3.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c *`` (``dims`` axes of space and time), map ``b heads n n``, y as x.

    Raises:
        ValueError: a size is not positive, the heads do not divide the attended channels, a ratio
            leaves no channel, ``norm_eps`` is not above zero, or ``form`` or ``dims`` is unknown.

    >>> PositionSensitiveYOLO(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = Card(
        title="Partial self-attention of YOLO",
        paper="YOLOv10: Real-Time End-to-End Object Detection",
        authors="Ao Wang, Hui Chen, Lihao Liu, Kai Chen, Zijia Lin, Jungong Han, Guiguang Ding",
        venue="NeurIPS",
        year=2024,
        url="https://arxiv.org/abs/2405.14458",
        code="https://github.com/THU-MIG/yolov10",
        license="AGPL-3.0",
        domain="spatial",
        computes="conv+matmul",
        applies="matmul",
        kind="relation",
        train_differs=True,
        cost=dict(time="n^2 c + n c^2", memory="n c"),
        aliases=("psa_yolo", "yolo_psa", "c2psa", "c2psa_attention", "yolov10_psa", "psa"),
        differs=(
            "The depthwise convolution of the values, which knows positions, is in the code; the "
            "paper's figure has none.",
            "The authors' code fails with fewer than 64 attended channels; here, as in later "
            "versions, there is at least one head.",
            "A built YOLO has batch norms with an eps of 1e-3 (norm_eps); the class, and the "
            "default here, has torch's.",
        ),
    )
    axes = Axes("b c *", "b heads n n", range="softmax")

    def __init__(
        self,
        channels: int,
        num_heads: int | None = None,
        *,
        key_ratio: float = 0.5,
        form: Literal["split", "block", "attention"] = "split",
        expansion: float = 0.5,
        shortcut: bool = True,
        norm_eps: float = 1e-5,
        dims: Literal[1, 2, 3] = 2,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        positive(channels=channels)
        one_of(("split", "block", "attention"), form=form)
        one_of((1, 2, 3), dims=dims)
        above_zero(norm_eps=norm_eps, key_ratio=key_ratio, expansion=expansion)
        width = int(channels * expansion) if form == "split" else channels
        if width < 1:
            raise ValueError(f"expansion leaves none of {channels} channels, got {expansion}")
        num_heads = max(width // 64, 1) if num_heads is None else num_heads
        divides(
            **{"channels" if form != "split" else "attended channels": width}, num_heads=num_heads
        )
        super().__init__(c=channels, heads=num_heads)
        head_dim = width // num_heads
        key_dim = int(head_dim * key_ratio)
        if key_dim < 1:
            raise ValueError(f"key_ratio leaves none of {head_dim} channels, got {key_ratio}")
        self.num_heads, self.form, self.shortcut = num_heads, form, shortcut
        self.sizes = [key_dim, key_dim, head_dim]
        self.scale = key_dim**-0.5
        self.axes = self.axes.over(dims)
        options: dict[str, Any] = {"dims": dims, "device": device, "dtype": dtype}
        if form == "split":
            self.divide = conv_norm(channels, 2 * width, **options)
        self.qkv = conv_norm(width, num_heads * sum(self.sizes), **options)
        self.local = conv_norm(width, width, 3, groups=width, **options)
        self.out = conv_norm(width, width, **options)
        if form != "attention":
            self.expand = conv_norm(width, 2 * width, **options)
            self.reduce = conv_norm(2 * width, width, **options)
        if form == "split":
            self.unite = conv_norm(2 * width, channels, **options)
        for layer in self.modules():
            if isinstance(layer, nn.modules.batchnorm._BatchNorm):
                layer.eps = norm_eps

    def prepare(self, x: Tensor) -> Prepared:
        kept = attended = x
        if self.form == "split":
            kept, attended = silu(self.divide(x)).chunk(2, 1)
        heads = self.qkv(attended).flatten(2).unflatten(1, (self.num_heads, -1)).transpose(-2, -1)
        q, k, v = heads.split(self.sizes, -1)
        return kept, attended, q, k, v

    def attention(self, z: Prepared) -> Tensor:
        _, _, q, k, _ = z
        return pairwise.attention_weights(q, k, scale=self.scale)

    def combine(self, a: Tensor, z: Prepared) -> Tensor:
        *_, v = z
        return self.join(a @ v, z)

    def fused(self, z: Prepared) -> Tensor:
        _, _, q, k, v = z
        return self.join(pairwise.scaled_dot_product(q, k, v, scale=self.scale), z)

    def join(self, y: Tensor, z: Prepared) -> Tensor:
        """Add the convolved values to the heads ``b heads n d``, and run what follows."""
        kept, attended, _, _, v = z
        y = self.out(
            tokens.heads_to_grid(y, attended) + self.local(tokens.heads_to_grid(v, attended))
        )
        if self.form == "attention":
            return y
        y = attended + y if self.shortcut else y
        network = self.reduce(silu(self.expand(y)))
        y = y + network if self.shortcut else network
        return silu(self.unite(torch.cat([kept, y], 1))) if self.form == "split" else y
