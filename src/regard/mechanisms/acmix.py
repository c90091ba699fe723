"""ACmix: window self-attention plus a convolution, both computed from the same projections."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

from ..core import neighbors, precision
from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import divides, odd, positive
from ..core.tracing import at_least, leaf

Prepared = tuple[Tensor, Tensor, Tensor]  # q, k, v: b heads d h w each


class ACmix(Attention):
    r"""Adds window self-attention and a convolution that share query, key and value projections.

    .. math::
        a_{ij} = \operatorname{softmax}_{j \in N(i)} \frac{q_i^\top (k_j - r_j)}{\sqrt d}, \quad
        y_i = \alpha \textstyle\sum_j a_{ij} v_j + \beta \sum_t K_t * f_t, \quad
        f_t = \sum_m M_{tm} [q; k; v]_m

    for each head of d channels, where q, k and v are linear in x, r is linear in the coordinates
    of a position, and :math:`N(i)` is a window around i. The :math:`f_t`, one for each entry of a
    convolution kernel, mix the three projections of all heads, channel by channel; each kernel
    :math:`K_t` is initialized to shift :math:`f_t` by the offset of its entry. Section 4 of the
    paper.

    In half precision, rounding can change which entry the softmax selects where scores are in
    the hundreds.

    Args:
        in_channels: Channels of x.
        out_channels: Channels of y; those of x by default.
        kernel_size: Side of the kernels :math:`K_t`, odd; its square is their number.
        num_heads: Heads of the attention.
        window_size: Side of the window, odd.
        stride: Stride of the windows and of the convolution.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, map ``b heads k y x`` over the k positions of a window, row by row, y
        ``b o h' w'``, smaller by the stride.

    Raises:
        ValueError: a size is not positive, a side is even, or the heads do not divide the output's
            channels.

    >>> ACmix(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = Card(
        title="ACmix",
        paper="On the Integration of Self-Attention and Convolution",
        authors="Xuran Pan, Chunjiang Ge, Rui Lu, Shiji Song, Guanfu Chen, Zeyi Huang, Gao Huang",
        venue="CVPR",
        year=2022,
        url="https://arxiv.org/abs/2111.14556",
        code="https://github.com/LeapLabTHU/ACmix",
        license="none stated",
        domain="spatial",
        computes="conv+matmul",
        applies="matmul+add",
        kind="convolution",
        cost=dict(time="n c^2", memory="n c"),
        aliases=("ac_mix",),
        differs=(
            "The code encodes the position of a key relative to its query as a difference; the "
            "query's term cancels in the softmax and is left out here.",
            "Mixing and shifting the projections are one convolution here, whose kernels combine "
            "the weights of both layers: the same numbers without intermediate feature maps.",
            "Windows at the border are padded by reflection, here repeatedly if the image is "
            "smaller than the window; the code fails for images of half a window or less.",
        ),
    )
    axes = Axes("b c h w", "b heads k y x", output="b o y x", range="softmax k")

    def __init__(
        self,
        in_channels: int,
        out_channels: int | None = None,
        kernel_size: int = 3,
        *,
        num_heads: int = 4,
        window_size: int = 7,
        stride: int = 1,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=in_channels, heads=num_heads)
        out_channels = in_channels if out_channels is None else out_channels
        positive(in_channels=in_channels, out_channels=out_channels)
        odd(kernel_size=kernel_size, window_size=window_size)
        divides(out_channels=out_channels, num_heads=num_heads)
        positive(stride=stride)
        self.kernel_size, self.num_heads = kernel_size, num_heads
        self.window_size, self.stride = window_size, stride
        head_dim, kernels = out_channels // num_heads, kernel_size**2
        factory = {"device": device, "dtype": dtype}
        self.query = nn.Conv2d(in_channels, out_channels, 1, **factory)
        self.key = nn.Conv2d(in_channels, out_channels, 1, **factory)
        self.value = nn.Conv2d(in_channels, out_channels, 1, **factory)
        self.position = nn.Conv2d(2, head_dim, 1, **factory)
        self.mix = nn.Linear(3 * num_heads, kernels, bias=False, **factory)
        self.shift = nn.Parameter(
            torch.empty(out_channels, kernels, kernel_size, kernel_size, **factory)
        )
        self.alpha = nn.Parameter(torch.empty(1, **factory))
        self.beta = nn.Parameter(torch.empty(1, **factory))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new projections; kernels start as shifts, both paths with a weight of one half."""
        super().reset_parameters()
        _, kernels, *sides = self.shift.shape
        shifts = torch.eye(kernels, device=self.shift.device).unflatten(1, sides)
        with torch.no_grad():
            self.shift.copy_(shifts)
        nn.init.constant_(self.alpha, 0.5)
        nn.init.constant_(self.beta, 0.5)

    def prepare(self, x: Tensor) -> Prepared:
        q, k, v = self.query(x), self.key(x), self.value(x)
        return self.split_heads(q), self.split_heads(k), self.split_heads(v)

    def attention(self, z: Prepared) -> Tensor:
        q, k, _ = z
        k = k - self.position(_coordinates(k[:, 0]))
        q = q * self.position.out_channels**-0.5
        scores = _scores(precision.widen(q), precision.widen(k), self.window_size, self.stride)
        return precision.softmax(scores, 2, q.dtype)

    def combine(self, a: Tensor, z: Prepared) -> Tensor:
        _, _, v = z
        attended = _gather(a, v, self.window_size, self.stride).flatten(1, 2)
        return self.beta * self.convolve(z) + self.alpha * attended

    def split_heads(self, x: Tensor) -> Tensor:
        return x.unflatten(1, (self.num_heads, -1))

    def convolve(self, z: Prepared) -> Tensor:
        """Mix the projections and shift the mixtures, in one grouped convolution."""
        kernels = torch.einsum("tm,otrs->omrs", self.mix.weight, self.shift)
        padding, groups = self.kernel_size // 2, self.position.out_channels
        return conv2d(_group_by_channel(z), kernels, None, self.stride, padding, groups=groups)


@leaf
def _coordinates(x: Tensor) -> Tensor:
    """Return the column and the row of each position, from -1 to 1: ``1 2 h w``."""
    h, w = x.shape[2:]
    dtype = torch.promote_types(x.dtype, torch.float32)
    columns, rows = (
        torch.arange(n, device=x.device, dtype=dtype) * 2 / at_least(n - 1, 1) - 1 for n in (w, h)
    )
    return torch.stack([columns.expand(h, w), rows[:, None].expand(h, w)])[None].to(x.dtype)


@leaf
def _scores(q: Tensor, k: Tensor, side: int, stride: int) -> Tensor:
    """Return the scores of the keys in each window, ``b heads k y x``."""
    h, w = k.shape[-2:]
    q = q[..., ::stride, ::stride]
    k = _pad_by_reflection(k, side)
    # Shifted views of one copy: all windows together would take side² times its memory.
    return torch.stack(
        [
            (q * k[..., i : i + h : stride, j : j + w : stride]).sum(2)
            for i in range(side)
            for j in range(side)
        ],
        2,
    )


@leaf
def _gather(a: Tensor, v: Tensor, side: int, stride: int) -> Tensor:
    """Return the weighted sum of the values in each window, ``b heads d y x``."""
    return neighbors.weighted_sum(a, _pad_by_reflection(v, side), side, stride)


def _pad_by_reflection(x: Tensor, side: int) -> Tensor:
    """Pad height and width by half a window; unlike torch's, the padding may exceed the image."""
    h, w = x.shape[-2:]
    x = x.index_select(-2, _reflected_indices(h, side // 2, x))
    return x.index_select(-1, _reflected_indices(w, side // 2, x))


def _reflected_indices(n: int, padding: int, x: Tensor) -> Tensor:
    # A tensor: ONNX has no remainder by a size.
    last = torch.full((), at_least(n - 1, 1), device=x.device, dtype=torch.int64)
    i = torch.arange(-padding, n + padding, device=x.device).abs() % (2 * last)
    return (last - (last - i).abs()).clamp(max=n - 1)


@leaf
def _group_by_channel(z: tuple[Tensor, ...]) -> Tensor:
    """Concatenate projections ``b heads d h w`` so that all entries of one d are adjacent."""
    channels_last = z[0].flatten(1, 2).is_contiguous(memory_format=torch.channels_last)
    y = torch.cat([t.transpose(1, 2) for t in z], 2).flatten(1, 2)
    return y.contiguous(memory_format=torch.channels_last) if channels_last else y
