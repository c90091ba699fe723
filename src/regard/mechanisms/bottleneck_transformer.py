"""Attention of the bottleneck transformer: all positions, with scores by row and by column."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..core import grid, pairwise, relative, tokens
from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import divides, one_of, per_axis, positive
from ..core.tracing import leaf

Prepared = tuple[Tensor, Tensor, Tensor, Tensor]  # x, and q, k, v: b heads n d each


class BottleneckTransformer(Attention):
    r"""Applies multi-head attention with learned embeddings of the distances along each axis.

    .. math::
        y_i = \sum_j \operatorname{softmax}_j\big(d^{-1/2}\, q_i^\top k_j
        + q_i^\top (r^h_{u_j - u_i} + r^w_{v_j - v_i})\big)\, v_j

    in each head, for rows u and columns v, with embeddings r that the heads share; section 3 and
    figure 4 of the paper. For an image of another size than they are made for, the embeddings are
    interpolated. There is no output projection.

    In half precision, rounding can change which entry the softmax selects where scores are in
    the hundreds.

    Args:
        channels: Channels of x.
        out_channels: Channels of y; ``channels`` by default.
        num_heads: Number of heads.
        size: Height and width that the embeddings are made for.
        head_dim: :math:`d`, channels of a head's queries and keys; ``out_channels / num_heads`` by
            default.
        positions: Embeddings of distances, ``relative``, or of the keys' positions, ``absolute``.
        scale_positions: Multiply the position scores by :math:`d^{-1/2}` too.
        bias: Give the projections biases.
        stride: Average the output over windows of that side.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, map ``b heads n n``, y as x, or with ``out_channels``, and with height and
        width divided by the stride.

    Raises:
        ValueError: a size is not positive, ``num_heads`` does not divide the channels, or
            ``positions`` is unknown.

    >>> BottleneckTransformer(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = Card(
        title="Bottleneck transformer attention",
        paper="Bottleneck Transformers for Visual Recognition",
        authors=(
            "Aravind Srinivas, Tsung-Yi Lin, Niki Parmar, Jonathon Shlens, Pieter Abbeel, Ashish "
            "Vaswani"
        ),
        venue="CVPR",
        year=2021,
        url="https://arxiv.org/abs/2101.11605",
        code="https://github.com/huggingface/pytorch-image-models",
        license="Apache-2.0",
        domain="spatial",
        computes="conv+matmul",
        applies="matmul",
        kind="relation",
        cost=dict(time="n^2 c + n^2 h + n^2 w + n c^2", memory="n c + n h + n w"),
        aliases=("bot", "botnet", "bottleneck_attention", "bottleneck_attn"),
        differs=(
            "The authors' code scales the position scores, as known from translations of it "
            "(scale_positions=True); timm's default, and the one here, does not.",
            "The embeddings are for one size in all code; here they are interpolated for others.",
        ),
    )
    axes = Axes("b c h w", "b heads n n", range="softmax")

    def __init__(
        self,
        channels: int,
        out_channels: int | None = None,
        *,
        num_heads: int = 4,
        size: int | Sequence[int] = 14,
        head_dim: int | None = None,
        positions: Literal["relative", "absolute"] = "relative",
        scale_positions: bool = False,
        bias: bool = False,
        stride: int = 1,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        positive(channels=channels, stride=stride)
        out_channels = channels if out_channels is None else out_channels
        divides(out_channels=out_channels, num_heads=num_heads)
        super().__init__(c=channels, heads=num_heads)
        one_of(("relative", "absolute"), positions=positions)
        head_dim = out_channels // num_heads if head_dim is None else head_dim
        positive(head_dim=head_dim)
        sizes = per_axis(2, 1, size=size)
        output = "b c" if out_channels == channels else "b o"
        output += " h w" if stride == 1 else " y x"
        self.axes = replace(self.axes, output=output)
        self.num_heads, self.stride, self.scale = num_heads, stride, head_dim**-0.5
        self.relative, self.scale_positions = positions == "relative", scale_positions
        key_dim = num_heads * head_dim
        self.widths = [key_dim, key_dim, out_channels]
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self.qkv = nn.Conv2d(channels, sum(self.widths), 1, bias=bias, **factory)
        rows, columns = (2 * n - 1 if self.relative else n for n in sizes)
        self.rows = nn.Parameter(torch.empty(rows, head_dim, **factory))
        self.columns = nn.Parameter(torch.empty(columns, head_dim, **factory))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new parameters; the embeddings have a norm of about one."""
        nn.init.trunc_normal_(self.qkv.weight, std=self.qkv.in_channels**-0.5)
        if self.qkv.bias is not None:
            nn.init.zeros_(self.qkv.bias)
        nn.init.trunc_normal_(self.rows, std=self.scale)
        nn.init.trunc_normal_(self.columns, std=self.scale)

    def prepare(self, x: Tensor) -> Prepared:
        q, k, v = tokens.to_tokens(self.qkv(x)).split(self.widths, 2)
        q, k, v = (pairwise.split_heads(t, self.num_heads) for t in (q, k, v))
        scaled = q * self.scale
        asking = scaled if self.scale_positions else q
        scores = [
            relative.along(asking, x, axis, self.embeddings(table, x, axis))
            for axis, table in enumerate((self.rows, self.columns))
        ]
        q, k = relative.extended(scaled, k, scores, x.shape[2:])
        return x, q, k, v

    def attention(self, z: Prepared) -> Tensor:
        _, q, k, _ = z
        return pairwise.attention_weights(q, k)

    def combine(self, a: Tensor, z: Prepared) -> Tensor:
        x, _, _, v = z
        return self.join(a @ v, x)

    def fused(self, z: Prepared) -> Tensor:
        x, q, k, v = z
        return self.join(pairwise.scaled_dot_product(q, k, v), x)

    def embeddings(self, table: Tensor, x: Tensor, axis: int) -> Tensor:
        """Return the embeddings of an axis for each place of queries and keys, ``q k d``."""
        return _by_distance(table, x, axis) if self.relative else _by_place(table, x, axis)

    def join(self, y: Tensor, x: Tensor) -> Tensor:
        """Merge the heads to a grid, and average it."""
        y = tokens.heads_to_grid(y, x)
        return y if self.stride == 1 else grid.avg_pool(y, self.stride)


@leaf
def _by_distance(table: Tensor, x: Tensor, axis: int) -> Tensor:
    n = x.shape[axis + 2]
    place = torch.arange(n, device=x.device)
    return relative.resampled(table, 2 * n - 1)[place - place[:, None] + n - 1]


@leaf
def _by_place(table: Tensor, x: Tensor, axis: int) -> Tensor:
    return relative.resampled(table, x.shape[axis + 2])[None]
