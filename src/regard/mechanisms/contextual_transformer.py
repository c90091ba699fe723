"""Contextual transformer: kernels made from a convolved neighborhood weigh the neighbors."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, silu

from ..core import grid, neighbors, precision
from ..core.attention import Attention, Tap
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import divides, odd, positive


class ContextualTransformer(Attention):
    r"""Convolves, weighs each position's neighbors by what that says, and chooses among both.

    .. math::
        k^1 = \delta(\mathrm{BN}(K * x)), \quad
        k^2_{c,p} = \textstyle\sum_j w_{g(c),\,j,\,p}\, v_{c,\,p+j}, \quad
        w = \mathrm{GN}\big(W_\delta\, \delta(\mathrm{BN}(W_\theta [x; k^1]))\big), \quad
        y = a_1 \odot \kappa + a_2 \odot k^1

    where :math:`v = \mathrm{BN}(W_v x)`, j runs over the neighbors of position p, s channels share
    the kernel g(c) = c mod C/s, :math:`\kappa = \mathrm{SiLU}(\mathrm{BN}(k^2))`, :math:`\delta` is
    ReLU, and
    :math:`a = \operatorname{softmax}(U_2\,\delta(\mathrm{BN}(U_1\, \overline{\kappa + k^1})))` is
    over the two for each channel; section 3.2 of the paper.

    Args:
        channels: :math:`C`.
        kernel_size: Side of the neighborhoods, odd.
        hidden_dim: Rows of :math:`U_1`; by default half of the channels, and 32 at least.
        groups: Groups of the convolution by K.
        group_width: s, the channels that share a kernel; every :math:`C/s`-th channel has the same.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, map ``b k c 1 1`` over :math:`\kappa` and :math:`k^1`, y as x; the part
        ``tap_local`` ``b g j h w``: g kernels of j neighbors for each position.

    Raises:
        ValueError: a size is not positive, the kernel is even, the channels are odd, or groups or
            share do not divide them; or a single image in training, whose norm behind the average
            has no variance.

    >>> ContextualTransformer(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = Card(
        title="Contextual Transformer",
        paper="Contextual Transformer Networks for Visual Recognition",
        authors="Yehao Li, Ting Yao, Yingwei Pan, Tao Mei",
        venue="TPAMI",
        year=2022,
        url="https://arxiv.org/abs/2107.12292",
        code="https://github.com/JDAI-CV/CoTNet",
        license="Apache-2.0",
        domain="spatial",
        computes="conv+pool+fc",
        applies="matmul+select",
        kind="relation",
        train_differs=True,
        cost=dict(time="n c^2", memory="n c"),
        aliases=("cot", "cotnet", "cot_attention"),
        differs=(
            "The norms, the SiLU, the sharing of kernels among channels and the form of the last "
            "choice are those of the authors' code; the paper names none of them but the choice.",
            "No softmax is taken of the kernels, in the paper as in the code.",
        ),
    )
    axes = Axes("b c h w", "b k c 1 1", parts=dict(local="b g j h w"), range="softmax k")

    def __init__(
        self,
        channels: int,
        kernel_size: int = 3,
        *,
        hidden_dim: int | None = None,
        groups: int = 4,
        group_width: int = 8,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=channels)
        odd(kernel_size=kernel_size)
        divides(channels=channels, groups=groups)
        divides(channels=channels, group_width=group_width)
        divides(channels=channels, half=2)
        hidden_dim = max(channels // 2, 32) if hidden_dim is None else hidden_dim
        positive(hidden_dim=hidden_dim)
        self.kernel_size, self.groups, self.group_width = kernel_size, groups, group_width
        kernels, half = channels // group_width, channels // 2
        area = kernel_size**2
        factory = {"device": device, "dtype": dtype}
        around = {"padding": kernel_size // 2, "groups": groups, "bias": False}
        self.near = nn.Sequential(
            nn.Conv2d(channels, channels, kernel_size, **around, **factory),
            nn.BatchNorm2d(channels, **factory),
            nn.ReLU(),
        )
        self.look = nn.Sequential(
            nn.Conv2d(2 * channels, half, 1, bias=False, **factory),
            nn.BatchNorm2d(half, **factory),
            nn.ReLU(),
            nn.Conv2d(half, kernels * area, 1, **factory),
            nn.GroupNorm(kernels, kernels * area, **factory),
        )
        self.value = nn.Sequential(
            nn.Conv2d(channels, channels, 1, bias=False, **factory),
            nn.BatchNorm2d(channels, **factory),
        )
        self.norm = nn.BatchNorm2d(channels, **factory)
        self.squeeze = nn.Conv2d(channels, hidden_dim, 1, **factory)
        self.squeeze_norm = nn.BatchNorm2d(hidden_dim, **factory)
        self.select = nn.Conv2d(hidden_dim, 2 * channels, 1, **factory)
        self.tap_local = Tap()

    def prepare(self, x: Tensor) -> tuple[Tensor, Tensor]:
        near = self.near(x)
        w = self.look(torch.cat([x, near], 1)).unflatten(1, (-1, self.kernel_size**2))
        far = self.gather(self.tap_local(w), self.value(x))
        return silu(self.norm(far)), near  # b c h w, twice

    def gather(self, w: Tensor, v: Tensor) -> Tensor:
        """Sum over each position's neighbors, in ``v``, as ``w`` (``b g j h w``) weighs them."""
        v = pad(v, [self.kernel_size // 2] * 4).unflatten(1, (self.group_width, -1)).transpose(1, 2)
        return neighbors.weighted_sum(w, v, self.kernel_size).transpose(1, 2).flatten(1, 2)

    def attention(self, x: tuple[Tensor, Tensor]) -> Tensor:
        z = (x[0] + x[1]).mean((2, 3), keepdim=True)  # b c 1 1
        z = grid.check_norm_batch(self.squeeze(z), type(self).__name__, self.training)
        z = self.select(self.squeeze_norm(z).relu())
        # There, the scores of a channel stand side by side.
        return precision.softmax(z.unflatten(1, (-1, 2)).transpose(1, 2), 1)

    def combine(self, a: Tensor, x: tuple[Tensor, Tensor]) -> Tensor:
        return a[:, 0] * x[0] + a[:, 1] * x[1]
