"""ACmix: the same three projections feed a self-attention and a convolution, and both are added."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

from ..core import neighbors, precision
from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import divides, odd, positive
from ..core.tracing import leaf


@leaf
def places(x: Tensor) -> Tensor:
    """Where each position of an image is, from -1 to 1: ``1 2 h w``, to the right, then down."""
    h, w = x.shape[2:]
    wide = torch.promote_types(x.dtype, torch.float32)
    across, down = (
        torch.arange(n, device=x.device, dtype=wide) * (2 / torch.sym_max(n - 1, 1)) - 1
        for n in (w, h)
    )
    return torch.stack([across.expand(h, w), down[:, None].expand(h, w)])[None].to(x.dtype)


def windows(x: Tensor, side: int, stride: int) -> list[Tensor]:
    """What stands at each place of the windows around the positions, the border mirrored.

    They are views of one copy: the windows side by side would fill ``side ** 2`` of them.
    """
    rows, columns = ([slice(i, i + n, stride) for i in range(side)] for n in x.shape[-2:])
    x = bordered(x, side)
    return [x[..., i, j] for i in rows for j in columns]


def bordered(x: Tensor, side: int) -> Tensor:
    """An image with its mirrored border, as wide as windows reach."""
    h, w = x.shape[-2:]
    x = x.index_select(-2, _mirrored(h, side // 2, x))
    return x.index_select(-1, _mirrored(w, side // 2, x))


def _mirrored(n: int, edge: int, x: Tensor) -> Tensor:
    """The positions of an axis and, beyond its ends, their mirror images, as often as it takes."""
    # A tensor, as ONNX has no remainder by a size.
    last = torch.full((), torch.sym_max(n - 1, 1), device=x.device, dtype=torch.int64)
    i = torch.arange(-edge, n + edge, device=x.device).abs() % (2 * last)
    return (last - (last - i).abs()).clamp(max=n - 1)


@leaf
def compare(q: Tensor, k: Tensor, side: int, stride: int) -> Tensor:
    """Scores of the keys in each window, ``b heads k y x``."""
    q = q[..., ::stride, ::stride]
    return torch.stack([(q * there).sum(2) for there in windows(k, side, stride)], 2)


@leaf
def gather(a: Tensor, v: Tensor, side: int, stride: int) -> Tensor:
    """The sum of the values in each window, ``b heads d y x``."""
    return neighbors.weighted_sum(a, bordered(v, side), side, stride)


@leaf
def grouped(x: tuple[Tensor, ...]) -> Tensor:
    """Put one channel of all projections and heads after another: ``b heads d h w`` each."""
    last = x[0].flatten(1, 2).is_contiguous(memory_format=torch.channels_last)
    z = torch.cat([part.transpose(1, 2) for part in x], 2).flatten(1, 2)
    return z.contiguous(memory_format=torch.channels_last) if last else z


class ACmix(Attention):
    r"""Adds a self-attention in a window and a convolution, both of the same three projections.

    .. math::
        a_{ij} = \operatorname{softmax}_{j \in N(i)} \frac{q_i^\top (k_j - r_j)}{\sqrt d}, \quad
        y_i = \alpha \textstyle\sum_j a_{ij} v_j + \beta \sum_t K_t * f_t, \quad
        f_t = \sum_m M_{tm} [q; k; v]_m

    for each head of d channels, where q, k and v are linear in x, r in the coordinates of a
    position, and :math:`N(i)` is a window around i. The :math:`f_t`, one for each tap of a
    convolution, mix the three projections of all heads, channel by channel; the kernels
    :math:`K_t` start by moving each :math:`f_t` to its place. Section 4 of the paper.

    Args:
        in_channels: Channels of x.
        out_channels: Channels of y; as many by default.
        kernel_size: Side of the kernels :math:`K_t`, odd; its square is their number.
        num_heads: Heads of the attention.
        window_size: Side of the window, odd.
        stride: Steps between the windows, and of the convolution.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, map ``b heads k y x`` over the k places of a window, row by row, y
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
            "The code encodes the place of a key relative to its query, as a difference; the "
            "query's part of it cancels in the softmax and is left out here.",
            "Mixing the projections and moving them are one convolution here, whose kernels are "
            "made of both layers' weights: the same numbers without the maps in between.",
            "Windows at the border see the image mirrored. An image smaller than the window is "
            "mirrored again and again here; the code needs more than half of a window.",
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
        self.kernel_size, self.num_heads, self.window_size, self.stride = (
            kernel_size,
            num_heads,
            window_size,
            stride,
        )
        width, taps = out_channels // num_heads, kernel_size**2
        factory = {"device": device, "dtype": dtype}
        self.query = nn.Conv2d(in_channels, out_channels, 1, **factory)
        self.key = nn.Conv2d(in_channels, out_channels, 1, **factory)
        self.value = nn.Conv2d(in_channels, out_channels, 1, **factory)
        self.position = nn.Conv2d(2, width, 1, **factory)
        self.mix = nn.Linear(3 * num_heads, taps, bias=False, **factory)
        self.shift = nn.Parameter(
            torch.empty(out_channels, taps, kernel_size, kernel_size, **factory)
        )
        self.alpha = nn.Parameter(torch.empty(1, **factory))
        self.beta = nn.Parameter(torch.empty(1, **factory))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new projections; the kernels start as shifts, and each path counts one half."""
        super().reset_parameters()
        taps = self.shift.shape[1]
        one = torch.eye(taps, device=self.shift.device).unflatten(1, self.shift.shape[2:])
        with torch.no_grad():
            self.shift.copy_(one)
        nn.init.constant_(self.alpha, 0.5)
        nn.init.constant_(self.beta, 0.5)

    def prepare(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = self.query(x), self.key(x), self.value(x)
        return self.divide(q), self.divide(k), self.divide(v)  # b heads d h w

    def divide(self, x: Tensor) -> Tensor:
        return x.unflatten(1, (self.num_heads, -1))

    def attention(self, x: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        q, k, _ = x
        k = k - self.position(places(k[:, 0]))
        q = q * self.position.out_channels**-0.5
        return precision.softmax(compare(q, k, self.window_size, self.stride), 2)

    def combine(self, a: Tensor, x: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        near = gather(a, x[2], self.window_size, self.stride).flatten(1, 2)
        return self.beta * self.convolve(x) + self.alpha * near

    def convolve(self, x: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        kernels = torch.einsum("tm,otrs->omrs", self.mix.weight, self.shift)
        edge, groups = self.kernel_size // 2, self.position.out_channels
        return conv2d(grouped(x), kernels, None, self.stride, edge, groups=groups)
