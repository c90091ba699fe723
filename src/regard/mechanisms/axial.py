"""Axial attention: multi-head attention along one axis of an image or video at a time."""

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
from ..core.check import divides, head_dims, one_of, per_axis, positive
from ..core.shapes import GRIDS
from ..core.tracing import leaf


class Axial(Attention):
    r"""Applies multi-head attention along each axis of the input, and adds or chains the results.

    .. math::
        y = \textstyle\sum_a \mathrm{MHA}_a(x), \quad \mathrm{MHA}_a(x)_i = W_a
        \textstyle\sum_{j \in a(i)} \operatorname{softmax}_j\big(d^{-1/2} q_i^\top k_j\big)\, v_j

    where :math:`a(i)` are the positions that differ from i only along the axis a, with linear
    queries, keys and values; section 3 of the paper. A chain is
    :math:`y = \mathrm{MHA}_w(\mathrm{MHA}_h(x))`. `PositionSensitiveAxial` is the layer of
    Axial-DeepLab, along one axis; `AxialTransformer` is a network for images.

    In half precision, rounding can change which entry the softmax selects where scores are in
    the hundreds.

    Args:
        channels: :math:`C`.
        num_heads: Heads of each attention.
        dims: Axes of space and time: 1, 2 or 3.
        head_dim: :math:`d`; ``channels / num_heads`` by default.
        compose: Take the ``sum`` of the attentions along all axes, or a ``chain`` of them, from the
            first axis to the last.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c l``, ``b c h w`` or ``b c t h w``, y as x; a map for each axis: ``b heads l l``,
        ``b w heads h h`` and ``b h heads w w``, or ``b w h heads t t``, ``b t w heads h h`` and
        ``b t h heads w w``.

    Raises:
        ValueError: a size is not positive, the heads do not divide the channels and no ``head_dim``
            is given, or a choice is unknown.

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
            "Channels are axis 1; the PyTorch code has an argument for their axis (dim_index), the "
            "last by default.",
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
        head_dim, _ = head_dims(num_heads, head_dim, None, channels=channels)
        self.chained = compose == "chain"
        axes = GRIDS[dims].split()
        self.axes = replace(
            self.axes,
            input=f"b c {GRIDS[dims]}",
            map=", ".join(_map_axes(axes, axis) for axis in axes),
            output=f"b c {GRIDS[dims]}",
        )
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self.along = nn.ModuleList(
            _Along(1 + i, channels, num_heads, head_dim, **factory) for i in range(dims)
        )

    def prepare(self, x: Tensor) -> Tensor:
        return x.movedim(1, x.dim() - 1)  # b * c; the older ONNX exporter misreads an axis of -1

    def attention(self, z: Tensor) -> tuple[Tensor, ...]:
        maps = []
        for i, along in enumerate(self.along):
            maps.append(along.attention(z))
            if self.chained and i + 1 < len(self.along):
                z = along(z, maps[-1])
        return tuple(maps)

    def combine(self, a: Sequence[Tensor], z: Tensor) -> Tensor:
        return self.run(a, z)

    def fused(self, z: Tensor) -> Tensor:
        return self.run([None] * len(self.along), z)

    def run(self, a: Sequence[Tensor | None], z: Tensor) -> Tensor:
        """Add or chain the attentions along all axes, computed from their maps if given."""
        y = z
        for i, along in enumerate(self.along):
            y = along(y, a[i]) if self.chained or i == 0 else y + along(z, a[i])
        return y.movedim(y.dim() - 1, 1)


Prepared = tuple[Tensor, Tensor, Tensor]  # q, k, v: b p heads n d each


class PositionSensitiveAxial(Attention):
    r"""Applies multi-head attention along one image axis, with learned relative positions.

    .. math::
        y_i = \textstyle\sum_j a_{ij}\,(v_j + r^v_{i-j}), \quad a_{ij} = \operatorname{softmax}_j
        \big(q_i^\top k_j + q_i^\top r^q_{i-j} + k_j^\top r^k_{j-i}\big)

    with linear q, k and v, and learned embeddings r of the offset, shared by all heads; equations 3
    and 4 of Axial-DeepLab. As in the authors' code, batch norm follows the linear layer, each of
    the three products and each of the two sums.

    In half precision, rounding can change which entry the softmax selects where scores are in
    the hundreds.

    Args:
        channels: Channels of the input.
        num_heads: Heads; the queries and keys of a head have half as many channels as its values.
        axis_size: Length of the axis.
        axis: Attend along the height, ``h``, or the width, ``w``.
        out_channels: Channels of the output; by default those of the input.
        stride: Side of the windows, without overlap, over which the result is averaged.
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
            "The paper's equations have no norms; the authors' code, and this class, have three.",
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
            map=_map_axes(["h", "w"], axis).partition(": ")[2],
            output=" ".join(
                ("b", "c" if out_channels == channels else "o", "h w" if stride == 1 else "y x")
            ),
        )
        head_dim = out_channels // num_heads
        self.qkv_dims = [head_dim // 2, head_dim // 2, head_dim]
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self.qkv = nn.Conv2d(channels, 2 * out_channels, 1, bias=False, **factory)
        self.norm_qkv = nn.BatchNorm2d(2 * out_channels, **factory)
        self.positions = nn.Parameter(torch.empty(2 * head_dim, 2 * axis_size - 1, **factory))
        self.norm_scores = nn.BatchNorm2d(3 * num_heads, **factory)
        self.norm_sums = nn.BatchNorm2d(2 * out_channels, **factory)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new parameters as the authors do, with standard deviations of 1 / √(fan-in)."""
        super().reset_parameters()
        nn.init.normal_(self.qkv.weight, std=self.qkv.in_channels**-0.5)
        nn.init.normal_(self.positions, std=self.qkv_dims[2] ** -0.5)

    def prepare(self, x: Tensor) -> Prepared:
        x = self.norm_qkv(self.qkv(x)).unflatten(1, (self.num_heads, -1))  # b heads 2d h w
        x = x.permute(0, 4, 1, 3, 2) if self.axis == "h" else x.permute(0, 3, 1, 4, 2)
        q, k, v = x.split(self.qkv_dims, 4)
        return q, k, v

    def attention(self, z: Prepared) -> Tensor:
        q, k, _ = z
        r_q, r_k, _ = self.embeddings()
        products = [
            q @ k.transpose(-2, -1),
            torch.einsum("bphid,dij->bphij", q, r_q),
            torch.einsum("bphjd,dji->bphij", k, r_k),
        ]
        scores = self.norm_scores(torch.cat(products, 2).flatten(0, 1))  # (b p) (3 heads) n n
        a = precision.softmax(scores.unflatten(1, (3, self.num_heads)).sum(1), -1)
        return a.unflatten(0, q.shape[:2])

    def combine(self, a: Tensor, z: Prepared) -> Tensor:
        _, _, v = z
        _, _, r_v = self.embeddings()
        sums = [a @ v, torch.einsum("bphij,dij->bphid", a, r_v)]
        y = torch.stack(sums, -1)  # b p heads n d 2
        y = y.permute(0, 3, 1, 2, 4, 5) if self.axis == "h" else y.permute(0, 1, 3, 2, 4, 5)
        y = self.norm_sums(y.flatten(3).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)  # b h w (o 2)
        y = y.unflatten(3, (-1, 2)).sum(4).permute(0, 3, 1, 2)
        return grid.avg_pool(y, self.stride) if self.stride > 1 else y

    def embeddings(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the embeddings for queries, keys and values of each two positions, ``d n n``."""
        i = torch.arange(self.axis_size, device=self.positions.device)
        q, k, v = self.positions[:, i[:, None] - i + self.axis_size - 1].split(self.qkv_dims)
        return q, k, v


class AxialTransformer(Mechanism):
    r"""Alternates axial attention and convolutions in a network of reversible layers.

    .. math::
        u \leftarrow u + f(w), \quad w \leftarrow w + g(u)

    beginning with :math:`u = w = x + p_h + p_w` and ending with :math:`y = (u + w) / 2`; f and g
    are `Axial` along the height and along the width, and in the next layer two stacks of two
    convolutions, each of the four after a norm. The form of the layers follows section 3 of the
    paper, the two streams follow reversible networks.

    Args:
        channels: :math:`C`.
        depth: Number of repetitions of two attentions and two convolution stacks.
        num_heads: Heads of each attention.
        head_dim: Channels of a head; ``channels / num_heads`` by default.
        input_size: Height and width of x, for learned row and column embeddings; None for none.
        reversible: Use two streams; if False, a single one with f and g as residual branches.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, y as x; each attention has a tap of its own.

    Raises:
        ValueError: a size is not positive, or the heads do not divide the channels and no
            ``head_dim`` is given.

    >>> AxialTransformer(64, 2)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = replace(
        Axial.card,
        title="Axial transformer for images",
        computes="conv+fc+matmul",
        kind="network",
        differs=(
            "The code whose weights can be loaded recomputes activations in the backward pass, and "
            "its parameters get no gradients if the input needs none; here activations are stored.",
            "The norm of the convolutions divides by the standard deviation plus 1e-5, as in that "
            "code.",
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

        def conv_stack() -> nn.Sequential:
            return nn.Sequential(
                _ChannelNorm(channels, **factory),
                nn.Conv2d(channels, 4 * channels, 3, padding=1, **factory),
                nn.LeakyReLU(),
                nn.Conv2d(4 * channels, channels, 3, padding=1, **factory),
            )

        self.layers = nn.ModuleList()
        for _ in range(depth):
            axial = [_NormedAxial(a, channels, num_heads, head_dim, **factory) for a in (2, 3)]
            self.layers.extend([*axial, conv_stack(), conv_stack()])
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new parameters; row and column embeddings from a standard normal distribution."""
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
            if self.reversible:  # swap the streams: the one just read is updated next
                x, other = other, x + layer(other)
            else:
                x = x + layer(x)
        return (x + other) / 2 if self.reversible else x


class _Along(nn.Module):
    """Multi-head attention along one axis of ``b * c``."""

    def __init__(
        self, axis: int, channels: int, num_heads: int, head_dim: int, **factory: Any
    ) -> None:
        super().__init__()
        self.axis, self.num_heads = axis, num_heads
        self.scale = head_dim**-0.5
        self.qkv = nn.Linear(channels, 3 * num_heads * head_dim, bias=False, **factory)
        self.out = nn.Linear(num_heads * head_dim, channels, **factory)

    def attention(self, x: Tensor) -> Tensor:
        """Return the map, ``b … heads n n``."""
        q, k, _ = self.project(x)
        return pairwise.attention_weights(q, k, scale=self.scale)

    def forward(self, x: Tensor, a: Tensor | None) -> Tensor:
        """Apply the map ``a``; if None, compute the same output without building it."""
        q, k, v = self.project(x)
        y = _scaled_dot_product(q, k, v, self.scale) if a is None else a @ v
        return self.out(y.transpose(-3, -2).transpose(self.axis, -3).flatten(-2))

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values, ``b … heads n d`` each."""
        x = self.qkv(x.transpose(self.axis, -2)).unflatten(-1, (3, self.num_heads, -1))
        q, k, v = x.transpose(-4, -2).unbind(-3)
        return q, k, v


class _NormedAxial(nn.Module):
    """Layer norm, then `Axial` along one axis of an image."""

    def __init__(
        self, axis: int, channels: int, num_heads: int, head_dim: int | None, **factory: Any
    ) -> None:
        super().__init__()
        self.axis = axis
        self.norm = nn.LayerNorm(channels, **factory)
        self.axial = Axial(channels, num_heads, dims=1, head_dim=head_dim, **factory)

    def forward(self, x: Tensor) -> Tensor:
        z = self.norm(x.permute(0, 2, 3, 1) if self.axis == 3 else x.permute(0, 3, 2, 1))
        y = self.axial(z.flatten(0, 1).transpose(1, 2)).transpose(1, 2)
        y = y.unflatten(0, z.shape[:2])  # b p n c
        return y.permute(0, 3, 1, 2) if self.axis == 3 else y.permute(0, 3, 2, 1)


class _ChannelNorm(nn.Module):
    """Layer norm over the channels of each position, with eps added to the standard deviation."""

    def __init__(self, channels: int, **factory: Any) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels, 1, 1, **factory))
        self.bias = nn.Parameter(torch.zeros(channels, 1, 1, **factory))

    def reset_parameters(self) -> None:
        """Set the weight to one and the bias to zero."""
        nn.init.ones_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = x - x.mean(1, keepdim=True)
        variance = x.square().mean(1, keepdim=True)  # not torch.var, which warns of an empty batch
        return x / (variance.sqrt() + 1e-5) * self.weight + self.bias


@leaf
def _scaled_dot_product(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """Return the weighted sum of the values, ``b … heads n d``."""
    # The fused kernels take a single axis before the heads.
    y = pairwise.scaled_dot_product(*(t.flatten(0, -4) for t in (q, k, v)), scale=scale)
    return y.reshape(q.shape[:-1] + y.shape[-1:])


def _map_axes(axes: Sequence[str], axis: str) -> str:
    """Return the named axes of the map of one axis, which is swapped with the last one."""
    others = [axes[-1] if name == axis else name for name in axes[:-1]]
    return " ".join([f"{axis}:", "b", *others, "heads", axis, axis])
