"""Halo attention: each block of the image attends to itself and to a border around it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, unfold

from ..core import pairwise
from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import divides, positive
from ..core.tracing import leaf

Prepared = tuple[Tensor, Tensor, Tensor, Tensor]  # x; q, k, v (b g) heads n d


class Halo(Attention):
    r"""Lets each position attend to one window: its block and a halo around the block.

    .. math::
        y_{ij} = \textstyle\sum_{uv} \operatorname{softmax}_{uv}\big(
        d^{-1/2}\, q_{ij}^\top k_{uv} + q_{ij}^\top (r^h_{u-i} + r^w_{v-j})\big)\, v_{uv}

    for the :math:`(s + 2h)^2` positions :math:`uv` in the window of :math:`ij`, with linear q, k
    and v, and learned relative position embeddings r of rows and columns; section 2 and figure 1 of
    the paper. The image is padded with zeros.

    In half precision, rounding can change which entry the softmax selects where scores are in
    the hundreds.

    Args:
        channels: :math:`C`.
        num_heads: Number of heads, which share the position embeddings.
        block_size: :math:`s`, the side of a block; height and width must be multiples of it.
        halo_size: :math:`h`, the width of the halo on each side of a block.
        head_dim: :math:`d`, channels of a head's queries and keys; ``channels / num_heads`` by
            default.
        value_head_dim: Channels of a head's values; ``channels / num_heads`` by default.
        stride: Stride of the queries, with which the paper downsamples.
        bias: Add biases to queries, keys and values.
        scale_positions: Multiply the position scores by :math:`d^{-1/2}` too.
        mask_padding: Exclude the zero padding from the softmax.
        out_proj: Add an output projection to ``channels``, with a bias.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, map ``b g heads q k`` for g blocks row by row, q queries in a block and k
        keys in its window, y as x; a stride divides its height and width. Without ``out_proj``, y
        has the channels of all values.

    Raises:
        ValueError: a size is not positive, ``num_heads`` does not divide the channels where it has
            to, or the stride does not divide the block size.

    >>> Halo(64)(torch.randn(2, 64, 16, 8)).shape
    torch.Size([2, 64, 16, 8])
    """

    card = Card(
        title="Halo attention",
        paper="Scaling Local Self-Attention for Parameter Efficient Visual Backbones",
        authors=(
            "Ashish Vaswani, Prajit Ramachandran, Aravind Srinivas, Niki Parmar, Blake Hechtman, "
            "Jonathon Shlens"
        ),
        venue="CVPR",
        year=2021,
        url="https://arxiv.org/abs/2103.12731",
        code="https://github.com/huggingface/pytorch-image-models",
        license="Apache-2.0",
        domain="spatial",
        computes="conv+matmul",
        applies="matmul",
        kind="relation",
        cost=dict(time="n k c + n c^2", memory="n k + n c"),
        aliases=("halo", "halonet", "halo_attention", "haloattn", "blocked_local_attention"),
        differs=(
            "The authors have published no code; the default is timm's, the closest to the paper, "
            "with the products of queries and keys divided by the root of d.",
            "The best-known re-implementation scales the position scores as well, masks the "
            "padding and has an output projection (scale_positions=True, mask_padding=True, "
            "out_proj=True).",
            "As in all code, the embedding tables have a row for each distance within a window, "
            "some of which are never used, and with a stride the distance is from the index of the "
            "query to the index of the key.",
            "Height and width must be multiples of the block size, as in all code.",
        ),
    )
    axes = Axes("b c h w", "b g heads q k", range="softmax")

    def __init__(
        self,
        channels: int,
        num_heads: int = 8,
        *,
        block_size: int = 8,
        halo_size: int = 3,
        head_dim: int | None = None,
        value_head_dim: int | None = None,
        stride: int = 1,
        bias: bool = False,
        scale_positions: bool = False,
        mask_padding: bool = False,
        out_proj: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=channels, heads=num_heads)
        positive(channels=channels, num_heads=num_heads, halo_size=halo_size)
        divides(block_size=block_size, stride=stride)
        if head_dim is None or value_head_dim is None:
            divides(channels=channels, num_heads=num_heads)
        head_dim = channels // num_heads if head_dim is None else head_dim
        value_head_dim = channels // num_heads if value_head_dim is None else value_head_dim
        positive(head_dim=head_dim, value_head_dim=value_head_dim)
        self.divisors = {"h": block_size, "w": block_size}
        self.num_heads, self.stride = num_heads, stride
        self.block_size, self.halo_size = block_size, halo_size
        self.scale = head_dim**-0.5
        self.scale_positions, self.mask_padding = scale_positions, mask_padding
        key_dim, value_dim = num_heads * head_dim, num_heads * value_head_dim
        self.key_value_dims = [key_dim, value_dim]
        c = "c" if out_proj or value_dim == channels else "o"
        self.axes = replace(self.axes, output=f"b {c} h w" if stride == 1 else f"b {c} y x")
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self.query = nn.Conv2d(channels, key_dim, 1, stride, bias=bias, **factory)
        self.key_value = nn.Conv2d(channels, key_dim + value_dim, 1, bias=bias, **factory)
        distances = 2 * (block_size + 2 * halo_size) - 1
        self.rows = nn.Parameter(torch.empty(distances, head_dim, **factory))
        self.columns = nn.Parameter(torch.empty(distances, head_dim, **factory))
        self.out = nn.Conv2d(value_dim, channels, 1, **factory) if out_proj else nn.Identity()
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new parameters; the position embeddings have a norm of about one."""
        super().reset_parameters()
        nn.init.normal_(self.rows, std=self.scale)
        nn.init.normal_(self.columns, std=self.scale)

    def prepare(self, x: Tensor) -> Prepared:
        side = self.block_size // self.stride
        q = self.query(x).unflatten(3, (-1, side)).unflatten(2, (-1, side))
        q = self.split_heads(q.permute(0, 2, 4, 3, 5, 1))
        kv = _windows(self.key_value(x), self.block_size, self.halo_size)
        k, v = kv.permute(0, 2, 3, 4, 5, 1).split(self.key_value_dims, 5)  # b y x u v c
        return x, q, self.split_heads(k), self.split_heads(v)

    def attention(self, z: Prepared) -> Tensor:
        x, q, k, _ = z
        bias = self.position_scores(q, x)
        a = pairwise.attention_weights(q, k, scale=self.scale, mask=bias)
        rows, columns = self.blocks(x)
        return a.unflatten(0, (-1, rows * columns))

    def combine(self, a: Tensor, z: Prepared) -> Tensor:
        x, _, _, v = z
        return self.merge_blocks(a.flatten(0, 1) @ v, x)

    def fused(self, z: Prepared) -> Tensor:
        x, q, k, v = z
        bias = self.position_scores(q, x)
        y = pairwise.scaled_dot_product(q, k, v, scale=self.scale, mask=bias)
        return self.merge_blocks(y, x)

    def split_heads(self, x: Tensor) -> Tensor:
        """Split the channels of each window into heads: ``b y x i j c`` to ``(b g) heads n d``."""
        x = x.unflatten(5, (self.num_heads, -1)).permute(0, 1, 2, 5, 3, 4, 6)
        return x.flatten(4, 5).flatten(0, 2)

    def blocks(self, x: Tensor) -> tuple[int, int]:
        """Return the numbers of blocks down and across."""
        return x.shape[2] // self.block_size, x.shape[3] // self.block_size

    def position_scores(self, q: Tensor, x: Tensor) -> Tensor:
        """Return the scores of the relative positions in the window, ``(b g) heads q k``."""
        size, side = self.block_size + 2 * self.halo_size, self.block_size // self.stride
        window = torch.arange(size, device=x.device)
        distance = window - torch.arange(side, device=x.device)[:, None] + size - 1
        if self.scale_positions:
            q = q * self.scale
        q = q.unflatten(2, (side, side))
        rows = torch.einsum("ghijd,iud->ghiju", q, self.rows[distance])
        columns = torch.einsum("ghijd,jvd->ghijv", q, self.columns[distance])
        scores = (rows.unsqueeze(5) + columns.unsqueeze(4)).flatten(4).flatten(2, 3)
        if not self.mask_padding:
            return scores
        return _mask_padding(scores, x, window - self.halo_size, self.block_size)

    def merge_blocks(self, y: Tensor, x: Tensor) -> Tensor:
        """Put the blocks ``(b g) heads q d`` together into an image, and project it."""
        side = self.block_size // self.stride
        y = y.unflatten(2, (side, side)).unflatten(0, (-1, *self.blocks(x)))
        y = y.permute(0, 1, 4, 2, 5, 3, 6).flatten(5).flatten(3, 4).flatten(1, 2)  # b h w c
        return self.out(y.permute(0, 3, 1, 2))


@leaf
def _windows(x: Tensor, block: int, halo: int) -> Tensor:
    """Return each block with its halo, zeros outside the image: ``b c y x u v``."""
    side = block + 2 * halo
    if torch.jit.is_tracing():  # the older ONNX exporter cannot make the views below
        y = unfold(x, side, padding=halo, stride=block)  # b (c u v) (y x)
        y = y.unflatten(2, (-1, x.shape[3] // block)).unflatten(1, (-1, side, side))
        return y.permute(0, 1, 4, 5, 2, 3)
    return pad(x, [halo] * 4).unfold(2, side, block).unfold(3, side, block)


@leaf
def _mask_padding(scores: Tensor, x: Tensor, window: Tensor, block: int) -> Tensor:
    """Mask the keys outside the image; ``window`` is their positions relative to the block."""
    rows, columns = (
        torch.arange(0, n, block, device=x.device)[:, None] + window for n in x.shape[2:]
    )
    rows, columns = (rows >= 0) & (rows < x.shape[2]), (columns >= 0) & (columns < x.shape[3])
    inside = rows[:, None, :, None] & columns[None, :, None, :]  # y x u v
    inside = inside.flatten(2).flatten(0, 1)[:, None, None]  # g 1 1 k
    return scores.unflatten(0, (-1, inside.shape[0])).masked_fill(~inside, -torch.inf).flatten(0, 1)
