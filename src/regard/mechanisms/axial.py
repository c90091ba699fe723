"""Axial attention: every position reads those that differ from it along a single axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..core import grid, pairwise, precision
from ..core.attention import Attention, Mechanism
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import divides, one_of, per_axis, positive
from ..core.shapes import GRIDS
from ..core.tracing import leaf


class Axial(Attention):
    r"""Gives each axis of space and time a multi-head attention of its own.

    .. math::
        y = \textstyle\sum_a \mathrm{MHA}_a(x), \quad \mathrm{MHA}_a(x)_i = W_a
        \textstyle\sum_{j \in a(i)} \operatorname{softmax}_j\big(d^{-1/2} q_i^\top k_j\big)\, v_j

    where :math:`a(i)` are the positions that differ from i along the axis a alone, with linear
    queries, keys and values; section 3 of the paper. Or one after the other:
    :math:`y = \mathrm{MHA}_w(\mathrm{MHA}_h(x))`. `PositionSensitiveAxial` is the layer of
    Axial-DeepLab, along one axis; `AxialTransformer` is a network for images.

    Args:
        channels: :math:`C`.
        num_heads: Heads of each attention.
        dims: Axes of space and time: 1, 2 or 3.
        head_dim: :math:`d`; by default a head's share of the channels.
        compose: Take the ``sum`` of what the axes have read, or let them read in a ``chain``, the
            first axis first.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c l``, ``b c h w`` or ``b c t h w``, y as x; a map for each axis: ``b heads l l``,
        ``b w heads h h`` and ``b h heads w w``, or ``b w h heads t t``, ``b t w heads h h`` and
        ``b t h heads w w``.

    Raises:
        ValueError: a size is not positive, the heads do not divide the channels that they share, or
            a choice is unknown.

    >>> Axial(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = Card(
        title="Axial attention",
        paper="Axial Attention in Multidimensional Transformers",
        authors="Jonathan Ho, Nal Kalchbrenner, Dirk Weissenborn, Tim Salimans",
        venue="arXiv",
        year=2019,
        url="https://arxiv.org/abs/1912.12180",
        code="https://github.com/lucidrains/axial-attention",
        license="MIT",
        domain="spatial",
        computes="fc+matmul",
        applies="matmul",
        kind="relation",
        cost=dict(time="n h c + n w c + n c^2", memory="n c"),
        aliases=("axial", "axial_attention", "axial_transformer", "axial_deeplab"),
        differs=(
            "The paper alternates layers along the rows and the columns, each with a norm and a "
            "residual connection, as `AxialTransformer` does; the code that the field takes for "
            "the layer adds up all axes, and that is the default.",
            "Channels are the second axis; the code in PyTorch is told where they are (dim_index) "
            "and takes the last by default.",
        ),
    )
    axes = Axes("b c h w", "h: b w heads h h, w: b h heads w w", range="softmax")

    def __init__(
        self,
        channels: int,
        num_heads: int = 8,
        *,
        dims: Literal[1, 2, 3] = 2,
        head_dim: int | None = None,
        compose: Literal["sum", "chain"] = "sum",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=channels, heads=num_heads)
        one_of((1, 2, 3), dims=dims)
        one_of(("sum", "chain"), compose=compose)
        if head_dim is None:
            divides(channels=channels, num_heads=num_heads)
            head_dim = channels // num_heads
        positive(channels=channels, num_heads=num_heads, head_dim=head_dim)
        self.chained = compose == "chain"
        axes = GRIDS[dims].split()
        self.axes = replace(
            self.axes,
            input=f"b c {GRIDS[dims]}",
            map=", ".join(_axes_of_the_map(axes, axis) for axis in axes),
            output=f"b c {GRIDS[dims]}",
        )
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self.along = nn.ModuleList(
            _Along(1 + i, channels, num_heads, head_dim, **factory) for i in range(dims)
        )

    def prepare(self, x: Tensor) -> Tensor:
        return x.movedim(1, -1)  # b * c

    def attention(self, x: Tensor) -> tuple[Tensor, ...]:
        maps = []
        for i, along in enumerate(self.along):
            maps.append(along.weigh(x))
            if self.chained and i + 1 < len(self.along):
                x = along.read(x, maps[-1])
        return tuple(maps)

    def combine(self, a: Sequence[Tensor], x: Tensor) -> Tensor:
        return self.read(a, x)

    def fused(self, x: Tensor) -> Tensor:
        return self.read([None] * len(self.along), x)

    def read(self, a: Sequence[Tensor | None], x: Tensor) -> Tensor:
        """What the axes have read, through their maps or without."""
        y = x
        for i, along in enumerate(self.along):
            y = along.read(y, a[i]) if self.chained or i == 0 else y + along.read(x, a[i])
        return y.movedim(-1, 1)


class PositionSensitiveAxial(Attention):
    r"""Lets each position read its column, or its row, and where in it the others stand.

    .. math::
        y_i = \textstyle\sum_j a_{ij}\,(v_j + r^v_{i-j}), \quad a_{ij} = \operatorname{softmax}_j
        \big(q_i^\top k_j + q_i^\top r^q_{i-j} + k_j^\top r^k_{j-i}\big)

    with linear q, k and v, and learned embeddings r of the distance, which all heads share;
    equations 3 and 4 of Axial-DeepLab. Behind the linear layer, behind each of the three products
    and behind each of the two sums stands a batch norm, as in the authors' code.

    Args:
        channels: Channels of the input.
        num_heads: Heads; queries and keys of a head have half as many channels as its values.
        axis_size: Length of the axis.
        axis: Read along the height, ``h``, or the width, ``w``.
        out_channels: Channels of the output; by default those of the input.
        stride: Average windows of that side, side by side, of what was read.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, map ``b w heads h h`` or ``b h heads w w``, y ``b c h w``, ``b o h w`` with
        other channels, ``b c y x`` with a stride.

    Raises:
        ValueError: a size is not positive, twice the heads do not divide the channels of the
            output, or the axis is unknown.

    >>> PositionSensitiveAxial(64, axis_size=9)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = replace(
        Axial.card,
        title="Position-sensitive axial attention (Axial-DeepLab)",
        paper="Axial-DeepLab: Stand-Alone Axial-Attention for Panoptic Segmentation",
        authors="Huiyu Wang, Yukun Zhu, Bradley Green, Hartwig Adam, Alan Yuille, Liang-Chieh Chen",
        venue="ECCV",
        year=2020,
        url="https://arxiv.org/abs/2003.07853",
        code="https://github.com/csrhddlam/axial-deeplab",
        license="Apache-2.0",
        computes="conv+matmul",
        train_differs=True,
        cost=dict(time="n h c + n c^2", memory="n h + n c"),
        differs=(
            "The paper's equations have no norms; the authors' code, and this class, has three.",
        ),
    )
    axes = Axes("b c h w", "b w heads h h", range="softmax")

    def __init__(
        self,
        channels: int,
        num_heads: int = 8,
        *,
        axis_size: int = 56,
        axis: Literal["h", "w"] = "h",
        out_channels: int | None = None,
        stride: int = 1,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        one_of(("h", "w"), axis=axis)
        super().__init__(c=channels, heads=num_heads, **{axis: axis_size})
        out_channels = channels if out_channels is None else out_channels
        positive(channels=channels, num_heads=num_heads, axis_size=axis_size, stride=stride)
        divides(out_channels=out_channels, twice_the_heads=2 * num_heads)
        self.num_heads, self.axis_size, self.axis, self.stride = num_heads, axis_size, axis, stride
        self.axes = replace(
            self.axes,
            map=_axes_of_the_map(["h", "w"], axis).partition(": ")[2],
            output=" ".join(
                ("b", "c" if out_channels == channels else "o", "h w" if stride == 1 else "y x")
            ),
        )
        width = out_channels // num_heads
        self.widths = [width // 2, width // 2, width]
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self.qkv = nn.Conv2d(channels, 2 * out_channels, 1, bias=False, **factory)
        self.norm_qkv = nn.BatchNorm2d(2 * out_channels, **factory)
        self.positions = nn.Parameter(torch.empty(2 * width, 2 * axis_size - 1, **factory))
        self.norm_scores = nn.BatchNorm2d(3 * num_heads, **factory)
        self.norm_sums = nn.BatchNorm2d(2 * out_channels, **factory)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new parameters as the authors do, whose deviations are those of a unit sum."""
        super().reset_parameters()
        nn.init.normal_(self.qkv.weight, std=self.qkv.in_channels**-0.5)
        nn.init.normal_(self.positions, std=self.widths[2] ** -0.5)

    def prepare(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = self.norm_qkv(self.qkv(x)).unflatten(1, (self.num_heads, -1))  # b heads 2d h w
        x = x.permute(0, 4, 1, 3, 2) if self.axis == "h" else x.permute(0, 3, 1, 4, 2)
        q, k, v = x.split(self.widths, 4)
        return q, k, v  # b p heads n d

    def attention(self, x: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        q, k, _ = x
        to_q, to_k, _ = self.embeddings()
        products = [
            q @ k.mT,
            torch.einsum("bphid,dij->bphij", q, to_q),
            torch.einsum("bphjd,dji->bphij", k, to_k),
        ]
        scores = self.norm_scores(torch.cat(products, 2).flatten(0, 1))  # (b p) (3 heads) n n
        a = precision.softmax(scores.unflatten(1, (3, self.num_heads)).sum(1), -1)
        return a.unflatten(0, (q.shape[0], -1))

    def combine(self, a: Tensor, x: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        sums = [a @ x[2], torch.einsum("bphij,dij->bphid", a, self.embeddings()[2])]
        y = torch.stack(sums, -1)  # b p heads n d 2
        y = y.permute(0, 3, 1, 2, 4, 5) if self.axis == "h" else y.permute(0, 1, 3, 2, 4, 5)
        y = self.norm_sums(y.flatten(3).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)  # b h w (o 2)
        y = y.unflatten(3, (-1, 2)).sum(4).permute(0, 3, 1, 2)
        return grid.avg_pool(y, self.stride) if self.stride > 1 else y

    def embeddings(self) -> tuple[Tensor, Tensor, Tensor]:
        """For each two places on the axis those of queries, of keys and of values, ``d n n``."""
        i = torch.arange(self.axis_size, device=self.positions.device)
        q, k, v = self.positions[:, i[:, None] - i + self.axis_size - 1].split(self.widths)
        return q, k, v


class AxialTransformer(Mechanism):
    r"""Alternates attention along the columns and the rows with convolutions, reversibly.

    .. math::
        u \leftarrow u + f(w), \quad w \leftarrow w + g(u)

    beginning with :math:`u = w = x + p_h + p_w` and ending with :math:`y = (u + w) / 2`; f and g
    are `Axial` along the height and along the width, and in the next layer two stacks of two
    convolutions, each of the four behind a norm. The form of the layers follows section 3 of the
    paper, the two streams those of reversible networks.

    Args:
        channels: :math:`C`.
        depth: How often there are two attentions and two stacks.
        num_heads: Heads of each attention.
        head_dim: Channels of a head; by default its share.
        input_size: Height and width, to give each row and each column a learned embedding.
        reversible: Keep two streams; if not, f and g are added to a single one in turn.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, y as x; each attention has a tap of its own.

    Raises:
        ValueError: a size is not positive, or the heads do not divide the channels that they share.

    >>> AxialTransformer(64, 2)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = replace(
        Axial.card,
        title="Axial transformer for images",
        computes="conv+fc+matmul",
        kind="network",
        differs=(
            "The code whose weights can be loaded computes activations again on the way back, and "
            "gives the parameters no gradients where the input needs none; here they are kept.",
            "The norm of the convolutions divides by the deviation plus 1e-5, as in that code.",
        ),
        plug=False,
    )
    axes = Axes("b c h w", "", range="softmax")

    def __init__(
        self,
        channels: int,
        depth: int,
        num_heads: int = 8,
        *,
        head_dim: int | None = None,
        input_size: tuple[int, int] | None = None,
        reversible: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        sizes = {}
        if input_size is not None:
            sizes = dict(zip("hw", per_axis(2, 1, input_size=input_size), strict=True))
        super().__init__(c=channels, **sizes)
        positive(channels=channels, depth=depth)
        self.reversible = reversible
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self.rows = self.columns = None
        if input_size is not None:
            self.rows = nn.Parameter(torch.empty(channels, sizes["h"], 1, **factory))
            self.columns = nn.Parameter(torch.empty(channels, 1, sizes["w"], **factory))

        def convolve() -> nn.Sequential:
            return nn.Sequential(
                _ChannelNorm(channels, **factory),
                nn.Conv2d(channels, 4 * channels, 3, padding=1, **factory),
                nn.LeakyReLU(),
                nn.Conv2d(4 * channels, channels, 3, padding=1, **factory),
            )

        self.layers = nn.ModuleList()
        for _ in range(depth):
            attend = [_Attend(a, channels, num_heads, head_dim, **factory) for a in (2, 3)]
            self.layers.extend([*attend, convolve(), convolve()])
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new parameters; the embeddings of rows and columns are normal."""
        super().reset_parameters()
        if self.rows is not None and self.columns is not None:
            nn.init.normal_(self.rows)
            nn.init.normal_(self.columns)

    def forward(self, x: Tensor) -> Tensor:
        """Run the network."""
        self.check(x)
        if self.rows is not None:
            x = x + self.rows + self.columns
        other = x
        for layer in self.layers:
            if self.reversible:  # the streams take turns, the one that was read is next
                x, other = other, x + layer(other)
            else:
                x = x + layer(x)
        return (x + other) / 2 if self.reversible else x


class _Along(nn.Module):
    """Multi-head attention along one axis of ``b * c``."""

    def __init__(
        self, axis: int, channels: int, num_heads: int, width: int, **factory: Any
    ) -> None:
        super().__init__()
        self.axis, self.num_heads = axis, num_heads
        self.scale = width**-0.5
        self.qkv = nn.Linear(channels, 3 * num_heads * width, bias=False, **factory)
        self.out = nn.Linear(num_heads * width, channels, **factory)

    def heads_of(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, ``b … heads n d`` each."""
        x = self.qkv(x.transpose(self.axis, -2)).unflatten(-1, (3, self.num_heads, -1))
        q, k, v = x.transpose(-4, -2).unbind(-3)
        return q, k, v

    def weigh(self, x: Tensor) -> Tensor:
        """The map, ``b … heads n n``."""
        q, k, _ = self.heads_of(x)
        return pairwise.attention_weights(q, k, scale=self.scale)

    def read(self, x: Tensor, a: Tensor | None) -> Tensor:
        """What is read through the map, or without it."""
        q, k, v = self.heads_of(x)
        y = _attend(q, k, v, self.scale) if a is None else a @ v
        return self.out(y.transpose(-3, -2).transpose(self.axis, -3).flatten(-2))


class _Attend(nn.Module):
    """`Axial` along one axis of an image, behind a norm."""

    def __init__(
        self, axis: int, channels: int, num_heads: int, width: int | None, **factory: Any
    ) -> None:
        super().__init__()
        self.axis = axis
        self.norm = nn.LayerNorm(channels, **factory)
        self.axial = Axial(channels, num_heads, dims=1, head_dim=width, **factory)

    def forward(self, x: Tensor) -> Tensor:
        z = self.norm(x.permute(0, 2, 3, 1) if self.axis == 3 else x.permute(0, 3, 2, 1))
        y = self.axial(z.flatten(0, 1).mT).mT.unflatten(0, (x.shape[0], -1))  # b p n c
        return y.permute(0, 3, 1, 2) if self.axis == 3 else y.permute(0, 3, 2, 1)


class _ChannelNorm(nn.Module):
    """Norm of the channels at each position, with the eps beside the deviation."""

    def __init__(self, channels: int, **factory: Any) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels, 1, 1, **factory))
        self.bias = nn.Parameter(torch.zeros(channels, 1, 1, **factory))

    def reset_parameters(self) -> None:
        """Start as a plain norm."""
        nn.init.ones_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        variance, mean = torch.var_mean(x, 1, correction=0, keepdim=True)
        return (x - mean) / (variance.sqrt() + 1e-5) * self.weight + self.bias


@leaf
def _attend(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """The sum over the values; the fused kernels want a single axis before the heads."""
    y = pairwise.scaled_dot_product(*(t.flatten(0, -4) for t in (q, k, v)), scale=scale)
    return y.reshape(q.shape[:-1] + y.shape[-1:])


def _axes_of_the_map(axes: Sequence[str], axis: str) -> str:
    """The axes of the map of one axis, which changes places with the last, behind its name."""
    others = [axes[-1] if name == axis else name for name in axes[:-1]]
    return " ".join([f"{axis}:", "b", *others, "heads", axis, axis])
