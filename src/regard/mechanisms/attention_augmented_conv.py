"""Attention augmented convolution: a convolution and self-attention, concatenated by channel."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..core import pairwise
from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import divides, odd, per_axis, positive
from ..core.tracing import leaf

Prepared = tuple[Tensor, Tensor, Tensor, Tensor]  # x, and q, k, v: b heads n d each


class AttentionAugmentedConv(Attention):
    r"""Concatenates a convolution of x and multi-head self-attention over all positions.

    .. math::
        y = [W * x;\; W_o [a_1 V_1; \dots; a_H V_H]], \quad
        a_h = \operatorname{softmax}_j \frac{q_i^\top k_j + q_i^\top r^W_{j_x - i_x}
        + q_i^\top r^H_{j_y - i_y}}{\sqrt d}

    with embeddings :math:`r` of the column and row offsets, shared by the heads; equations 1 to 6
    of the paper.

    In half precision, rounding can change which entry the softmax selects where scores are in
    the hundreds.

    Args:
        in_channels: Channels of x.
        out_channels: Channels of y; those of x by default.
        kernel_size: Side of the kernel, odd.
        num_heads: :math:`H`.
        key_channels: :math:`d_k`, channels of the queries and keys of all heads; by default a fifth
            of ``out_channels``, rounded down to a multiple of the heads, but at least one each.
        value_channels: :math:`d_v`, output channels from attention; by default a tenth. If it is
            ``out_channels``, there is no convolution.
        input_size: Height and width of x, for the embeddings of the offsets; without it there are
            none, and the attention ignores positions.
        bias: Give every layer a bias.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, map ``b heads n m`` for n queries and m keys, all positions, y ``b o h w``.

    Raises:
        ValueError: a size is not positive, the kernel is even, the heads do not divide the key or
            value channels, or ``value_channels`` exceeds ``out_channels``.

    >>> AttentionAugmentedConv(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = Card(
        title="Attention augmented convolution",
        paper="Attention Augmented Convolutional Networks",
        authors="Irwan Bello, Barret Zoph, Ashish Vaswani, Jonathon Shlens, Quoc V. Le",
        venue="ICCV",
        year=2019,
        url="https://arxiv.org/abs/1904.09925",
        domain="spatial",
        computes="conv+matmul",
        applies="matmul",
        kind="convolution",
        cost=dict(time="n^2 c + n c^2", memory="n c"),
        aliases=("aa_conv", "aaconv", "attention_augmented"),
        differs=(
            "The paper's networks use relative positions in every layer and at least 20 key "
            "channels per head; here relative positions need input_size, and key and value "
            "channels are a fifth and a tenth of the output's, as in the paper, however few that "
            "leaves per head.",
        ),
    )
    axes = Axes("b c h w", "b heads n m", output="b o h w", range="softmax")

    def __init__(
        self,
        in_channels: int,
        out_channels: int | None = None,
        kernel_size: int = 3,
        *,
        num_heads: int = 8,
        key_channels: int | None = None,
        value_channels: int | None = None,
        input_size: int | Sequence[int] | None = None,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        out_channels = in_channels if out_channels is None else out_channels
        positive(in_channels=in_channels, out_channels=out_channels, num_heads=num_heads)
        odd(kernel_size=kernel_size)
        if key_channels is None:
            key_channels = num_heads * max(out_channels // (5 * num_heads), 1)
        if value_channels is None:
            value_channels = num_heads * max(out_channels // (10 * num_heads), 1)
        divides(key_channels=key_channels, num_heads=num_heads)
        divides(value_channels=value_channels, num_heads=num_heads)
        if value_channels > out_channels:
            raise ValueError(
                f"value_channels ({value_channels}) must not be larger than out_channels "
                f"({out_channels})"
            )
        sizes = () if input_size is None else per_axis(2, 1, input_size=input_size)
        fixed = dict(zip("hw", sizes, strict=False))
        super().__init__(c=in_channels, heads=num_heads, **fixed)
        self.num_heads, self.qkv_channels = num_heads, (key_channels, key_channels, value_channels)
        head_dim = key_channels // num_heads
        self.scale = head_dim**-0.5
        factory = {"device": device, "dtype": dtype}
        self.qkv = nn.Conv2d(in_channels, sum(self.qkv_channels), 1, bias=bias, **factory)
        self.rows = self.columns = self.conv = None
        if sizes:
            h, w = sizes
            self.rows = nn.Parameter(torch.empty(2 * h - 1, head_dim, **factory))
            self.columns = nn.Parameter(torch.empty(2 * w - 1, head_dim, **factory))
        if conv_channels := out_channels - value_channels:
            options = {"padding": kernel_size // 2, "bias": bias, **factory}
            self.conv = nn.Conv2d(in_channels, conv_channels, kernel_size, **options)
        self.out = nn.Conv2d(value_channels, value_channels, 1, bias=bias, **factory)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new parameters; the embeddings of the offsets have a norm of about one."""
        super().reset_parameters()
        if self.rows is not None and self.columns is not None:
            nn.init.normal_(self.rows, std=self.scale)
            nn.init.normal_(self.columns, std=self.scale)

    def prepare(self, x: Tensor) -> Prepared:
        parts = self.qkv(x).flatten(2).transpose(1, 2).split(self.qkv_channels, -1)  # b n c
        q, k, v = (pairwise.split_heads(parts[i], self.num_heads) for i in range(3))
        if self.rows is not None and self.columns is not None:
            q, k = _append_positions(q, k, self.rows, self.columns)
        return x, q, k, v

    def attention(self, z: Prepared) -> Tensor:
        _, q, k, _ = z
        return pairwise.attention_weights(q, k, scale=self.scale)

    def combine(self, a: Tensor, z: Prepared) -> Tensor:
        x, _, _, v = z
        return self.concatenate(a @ v, x)

    def fused(self, z: Prepared) -> Tensor:
        x, q, k, v = z
        return self.concatenate(pairwise.scaled_dot_product(q, k, v, scale=self.scale), x)

    def concatenate(self, y: Tensor, x: Tensor) -> Tensor:
        """Project the output y of the heads and append it to the convolution of x."""
        y = self.out(pairwise.merge_heads(y).transpose(-2, -1).unflatten(2, x.shape[2:]))
        return y if self.conv is None else torch.cat([self.conv(x), y], 1)


@leaf
def _append_positions(q: Tensor, k: Tensor, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    """Extend queries and keys so that their product includes the relative position scores.

    Each query is extended by its scores with every row and column, each key by the one-hot codes of
    its own row and column. This avoids a bias of the size of the map.

    Args:
        q: Queries ``b heads n d``.
        k: Keys ``b heads n d``.
        rows: Embeddings of the row offsets, ``2h-1 d``, the farthest above first.
        columns: Embeddings of the column offsets, ``2w-1 d``, the farthest left first.
    """
    h, w = (len(rows) + 1) // 2, (len(columns) + 1) // 2
    grid = q.unflatten(2, (h, w))
    scores = [
        torch.einsum("bnhwd,hid->bnhwi", grid, rows[_offsets(h, q.device)]),
        torch.einsum("bnhwd,wid->bnhwi", grid, columns[_offsets(w, q.device)]),
    ]
    factory = {"device": k.device, "dtype": k.dtype}
    row = torch.eye(h, **factory).repeat_interleave(w, 0)
    column = torch.eye(w, **factory).repeat(h, 1)
    one_hot = torch.cat([row, column], 1).expand(*k.shape[:2], -1, -1)  # b heads n h+w
    return torch.cat([q, *(t.flatten(2, 3) for t in scores)], -1), torch.cat([k, one_hot], -1)


def _offsets(n: int, device: torch.device) -> Tensor:
    """Return the index of the offset of each key from each query, ``n n``."""
    i = torch.arange(n, device=device)
    return i - i[:, None] + n - 1
