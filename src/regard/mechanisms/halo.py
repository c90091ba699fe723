"""Halo attention: each block of the image reads itself and a rim around it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from ..core import pairwise
from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import divides, positive
from ..core.tracing import leaf


class Halo(Attention):
    r"""Lets the positions of a block read one window: the block and the halo around it.

    .. math::
        y_{ij} = \textstyle\sum_{uv} \operatorname{softmax}_{uv}\big(
        d^{-1/2}\, q_{ij}^\top k_{uv} + q_{ij}^\top (r^h_{u-i} + r^w_{v-j})\big)\, v_{uv}

    for the :math:`(s + 2h)^2` positions :math:`uv` in the window of :math:`ij`, with linear q, k
    and v, and learned embeddings r of how many rows and columns lie between; section 2 and figure 1
    of the paper. Around the image stand zeros.

    Args:
        channels: :math:`C`.
        num_heads: Heads, which share the embeddings.
        block_size: :math:`s`, the side of a block; height and width are multiples of it.
        halo_size: :math:`h`, by how many positions a window is larger than its block on each side.
        head_dim: :math:`d`, channels of the queries and keys of a head; by default its share.
        value_head_dim: Channels of the values of a head; by default its share.
        stride: Ask only for every so many-th row and column: the paper's way to halve an image.
        bias: Give queries, keys and values biases.
        scale_positions: Multiply the scores of the positions by :math:`d^{-1/2}` too.
        mask_padding: Leave the zeros around the image out of the softmax.
        out_proj: Put a linear layer with a bias, of ``channels``, behind the heads.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, map ``b g heads q k`` for g blocks row by row, q positions in a block and k
        in its window, y as x; with a stride, y is smaller by it. Without ``out_proj``, y has the
        channels of all values.

    Raises:
        ValueError: a size is not positive, the heads do not divide the channels that they share, or
            the stride does not divide the block.

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
            "The best-known re-implementation divides the scores of the positions as well, leaves "
            "the zeros around the image out of the softmax and projects the heads "
            "(scale_positions=True, mask=True, project=True).",
            "As in all code, the embeddings have a row for each distance within a window, of which "
            "those that lie behind its block are never asked for, and with a stride the distance "
            "counts queries against positions.",
            "Height and width must be multiples of the block, as in all code.",
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
        keys = channels // num_heads if head_dim is None else head_dim
        values = channels // num_heads if value_head_dim is None else value_head_dim
        positive(head_dim=keys)
        positive(value_head_dim=values)
        self.divisors = {"h": block_size, "w": block_size}
        self.num_heads, self.stride = num_heads, stride
        self.block_size, self.halo_size = block_size, halo_size
        self.scale = keys**-0.5
        self.scale_positions, self.mask_padding = scale_positions, mask_padding
        self.widths = [num_heads * keys, num_heads * values]
        width = "c" if out_proj or num_heads * values == channels else "o"
        self.axes = replace(self.axes, output=f"b {width} h w" if stride == 1 else f"b {width} y x")
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self.query = nn.Conv2d(channels, num_heads * keys, 1, stride, bias=bias, **factory)
        self.key_value = nn.Conv2d(channels, sum(self.widths), 1, bias=bias, **factory)
        distances = 2 * (block_size + 2 * halo_size) - 1
        self.rows = nn.Parameter(torch.empty(distances, keys, **factory))
        self.columns = nn.Parameter(torch.empty(distances, keys, **factory))
        self.out = (
            nn.Conv2d(num_heads * values, channels, 1, **factory) if out_proj else nn.Identity()
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new parameters; an embedding has a norm of about one."""
        super().reset_parameters()
        nn.init.normal_(self.rows, std=self.scale)
        nn.init.normal_(self.columns, std=self.scale)

    def prepare(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        side = self.block_size // self.stride
        q = self.query(x).unflatten(3, (-1, side)).unflatten(2, (-1, side))
        q = self.by_head(q.permute(0, 2, 4, 3, 5, 1))
        win, halo = self.block_size + 2 * self.halo_size, [self.halo_size] * 4
        kv = pad(self.key_value(x), halo)
        kv = kv.unfold(2, win, self.block_size).unfold(3, win, self.block_size)
        k, v = kv.permute(0, 2, 3, 4, 5, 1).split(self.widths, 5)  # b y x u v c
        return x, q, self.by_head(k), self.by_head(v)

    def by_head(self, x: Tensor) -> Tensor:
        """The channels of each head in each window: ``b y x i j c`` to ``(b g) heads q d``."""
        x = x.unflatten(5, (self.num_heads, -1)).permute(0, 1, 2, 5, 3, 4, 6)
        return x.flatten(4, 5).flatten(0, 2)

    def attention(self, x: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor:
        image, q, k, _ = x
        a = pairwise.attention_weights(q, k, scale=self.scale, mask=self.positions(q, image))
        return a.unflatten(0, (image.shape[0], -1))

    def combine(self, a: Tensor, x: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor:
        return self.join(a.flatten(0, 1) @ x[3], x[0])

    def fused(self, x: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor:
        image, q, k, v = x
        y = pairwise.scaled_dot_product(q, k, v, scale=self.scale, mask=self.positions(q, image))
        return self.join(y, image)

    def positions(self, q: Tensor, x: Tensor) -> Tensor:
        """The scores of the positions of the window, ``(b g) heads q k``."""
        win, side = self.block_size + 2 * self.halo_size, self.block_size // self.stride
        window = torch.arange(win, device=x.device)
        apart = window - torch.arange(side, device=x.device)[:, None] + win - 1
        if self.scale_positions:
            q = q * self.scale
        q = q.unflatten(2, (side, side))
        down = torch.einsum("ghijd,iud->ghiju", q, self.rows[apart])
        right = torch.einsum("ghijd,jvd->ghijv", q, self.columns[apart])
        scores = (down.unsqueeze(5) + right.unsqueeze(4)).flatten(4).flatten(2, 3)
        if not self.mask_padding:
            return scores
        return _within(scores, x, window - self.halo_size, self.block_size)

    def join(self, y: Tensor, x: Tensor) -> Tensor:
        """The image of what the blocks have read."""
        side = self.block_size // self.stride
        across = x.shape[3] // self.block_size
        y = y.unflatten(2, (side, side)).unflatten(0, (x.shape[0], -1, across))
        y = y.permute(0, 1, 4, 2, 5, 3, 6).flatten(5).flatten(3, 4).flatten(1, 2)  # b h w c
        return self.out(y.permute(0, 3, 1, 2))


@leaf
def _within(scores: Tensor, x: Tensor, window: Tensor, block: int) -> Tensor:
    """Close what a window, here the places in it counted from its block, holds beside the image."""
    down, right = (
        torch.arange(0, n, block, device=x.device)[:, None] + window for n in x.shape[2:]
    )
    down, right = (down >= 0) & (down < x.shape[2]), (right >= 0) & (right < x.shape[3])
    inside = down[:, None, :, None] & right[None, :, None, :]  # y x u v
    inside = inside.flatten(2).flatten(0, 1)[:, None, None]  # g 1 1 k
    return scores.unflatten(0, (x.shape[0], -1)).masked_fill(~inside, -torch.inf).flatten(0, 1)
