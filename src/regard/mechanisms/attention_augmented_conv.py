"""Attention augmented convolution: some output channels are convolved, the others attend."""

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


@leaf
def place(q: Tensor, k: Tensor, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    """Let the product of queries and keys see how far, in rows and columns, each key is away.

    A query gets what it makes of every row and column, a key the row and column where it stands, as
    ones among zeros. So no bias of the size of the map is needed.

    Args:
        q: Queries ``b heads n d``.
        k: Keys ``b heads n d``.
        rows: Vectors of the distances in rows, ``2h-1 d``, the farthest above first.
        columns: Vectors of the distances in columns, ``2w-1 d``.
    """
    h, w = (len(rows) + 1) // 2, (len(columns) + 1) // 2
    grid = q.unflatten(2, (h, w))
    seen = [
        torch.einsum("bnhwd,hid->bnhwi", grid, rows[_distances(h, q.device)]),
        torch.einsum("bnhwd,wid->bnhwi", grid, columns[_distances(w, q.device)]),
    ]
    how = {"device": k.device, "dtype": k.dtype}
    row = torch.eye(h, **how).repeat_interleave(w, 0)
    column = torch.eye(w, **how).repeat(h, 1)
    here = torch.cat([row, column], 1).expand(*k.shape[:2], -1, -1)  # b heads n h+w
    return torch.cat([q, *(t.flatten(2, 3) for t in seen)], -1), torch.cat([k, here], -1)


def _distances(n: int, device: torch.device) -> Tensor:
    """The places in a table of distances: of each query to each key, ``n n``."""
    i = torch.arange(n, device=device)
    return i - i[:, None] + n - 1


class AttentionAugmentedConv(Attention):
    r"""Convolves x for some of the output channels, and lets all positions attend for the others.

    .. math::
        y = [W * x;\; W_o [a_1 V_1; \dots; a_H V_H]], \quad
        a_h = \operatorname{softmax}_j \frac{q_i^\top k_j + q_i^\top r^W_{j_x - i_x}
        + q_i^\top r^H_{j_y - i_y}}{\sqrt d}

    with vectors :math:`r` of the distances in columns and rows, which the heads share; equations 1
    to 6 of the paper.

    Args:
        in_channels: Channels of x.
        out_channels: Channels of y; as many by default.
        kernel_size: Side of the kernel, odd.
        num_heads: :math:`H`.
        key_channels: :math:`d_k`, channels of the queries and keys of all heads; by default a fifth
            of ``out_channels``, as far as it can be shared by the heads.
        value_channels: :math:`d_v`, output channels that attend; by default a tenth. With all of
            them there is no convolution.
        input_size: Height and width of x, for the vectors of distances; without it there are none,
            and the attention does not see where anything is.
        bias: Give every layer a bias.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, map ``b heads n m`` for n positions that read m positions, y ``b o h w``.

    Raises:
        ValueError: a size is not positive, the kernel is even, the heads do not divide a width, or
            more channels attend than there are.

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
            "The paper's networks have relative positions wherever they attend, and at least 20 "
            "channels for the keys of each head; here the positions need size, and the widths are "
            "a fifth and a tenth of the output's, as in the paper, whatever is left to a head.",
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
        key_channels = (
            num_heads * max(out_channels // (5 * num_heads), 1)
            if key_channels is None
            else key_channels
        )
        if value_channels is None:
            value_channels = num_heads * max(out_channels // (10 * num_heads), 1)
        divides(key_channels=key_channels, num_heads=num_heads)
        divides(value_channels=value_channels, num_heads=num_heads)
        if value_channels > out_channels:
            raise ValueError(
                f"value_channels ({value_channels}) must not be larger than out_channels "
                f"({out_channels})"
            )
        h, w = (None, None) if input_size is None else per_axis(2, 1, input_size=input_size)
        fixed = {} if h is None or w is None else {"h": h, "w": w}
        super().__init__(c=in_channels, heads=num_heads, **fixed)
        self.num_heads, self.widths = num_heads, (key_channels, key_channels, value_channels)
        self.scale = (key_channels // num_heads) ** -0.5
        convolved = out_channels - value_channels
        factory = {"device": device, "dtype": dtype}
        self.qkv = nn.Conv2d(in_channels, sum(self.widths), 1, bias=bias, **factory)
        self.rows = self.columns = self.conv = None
        if h is not None and w is not None:
            self.rows = nn.Parameter(torch.empty(2 * h - 1, key_channels // num_heads, **factory))
            self.columns = nn.Parameter(
                torch.empty(2 * w - 1, key_channels // num_heads, **factory)
            )
        if convolved:
            how = {"padding": kernel_size // 2, "bias": bias, **factory}
            self.conv = nn.Conv2d(in_channels, convolved, kernel_size, **how)
        self.out = nn.Conv2d(value_channels, value_channels, 1, bias=bias, **factory)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new parameters; the vectors of distances have a length of about one."""
        super().reset_parameters()
        if self.rows is not None and self.columns is not None:
            nn.init.normal_(self.rows, std=self.scale)
            nn.init.normal_(self.columns, std=self.scale)

    def prepare(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        parts = self.qkv(x).flatten(2).mT.split(self.widths, -1)  # b n c
        q, k, v = (pairwise.split_heads(parts[i], self.num_heads) for i in range(3))
        if self.rows is not None and self.columns is not None:
            q, k = place(q, k, self.rows, self.columns)
        return x, q, k, v

    def attention(self, x: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor:
        return pairwise.attention_weights(x[1], x[2], scale=self.scale)

    def combine(self, a: Tensor, x: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor:
        return self.join(a @ x[3], x[0])

    def fused(self, x: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor:
        x, q, k, v = x
        return self.join(pairwise.scaled_dot_product(q, k, v, scale=self.scale), x)

    def join(self, y: Tensor, x: Tensor) -> Tensor:
        y = self.out(pairwise.merge_heads(y).mT.unflatten(2, x.shape[2:]))
        return y if self.conv is None else torch.cat([self.conv(x), y], 1)
