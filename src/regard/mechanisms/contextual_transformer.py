"""Contextual Transformer: local attention with weights computed by convolutions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, silu

from ..core import neighbors, precision
from ..core.attention import Attention, Tap
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import divides, odd, positive
from ..core.conv_norm import conv_norm
from ..core.tracing import leaf

# The contexts κ and k¹ of the paper, which it calls dynamic and static: b c h w each.
Prepared = tuple[Tensor, Tensor]


class ContextualTransformer(Attention):
    r"""Fuses a convolution of x with local attention whose kernels are computed from it.

    .. math::
        k^1 = \delta(\mathrm{BN}(K * x)), \quad
        k^2_{c,p} = \textstyle\sum_j w_{g(c),\,j,\,p}\, v_{c,\,p+j}, \quad
        w = \mathrm{GN}\big(W_\delta\, \delta(\mathrm{BN}(W_\theta [x; k^1]))\big), \quad
        y = a_1 \odot \kappa + a_2 \odot k^1

    where :math:`v = \mathrm{BN}(W_v x)`, j runs over the neighbors of position p, s channels share
    the kernel g(c) = c mod C/s, :math:`\kappa = \mathrm{SiLU}(\mathrm{BN}(k^2))`, :math:`\delta` is
    ReLU, and
    :math:`a = \operatorname{softmax}(U_2\,\delta(\mathrm{BN}(U_1\, \overline{\kappa + k^1})))` is
    over these two for each channel; section 3.2 of the paper.

    Args:
        channels: :math:`C`.
        kernel_size: Side of the neighborhoods, odd.
        hidden_dim: Rows of :math:`U_1`; by default half of the channels, but at least 32.
        groups: Groups of the convolution by K.
        group_width: s, the number of channels that share a kernel: every :math:`C/s`-th channel.
        projection_groups: Groups of :math:`W_\theta`, :math:`W_\delta` and :math:`W_v`, each of
            which reads its share of the channels of x and of :math:`k^1`; the authors' CoTNeXt has
            2 (and ``groups=8``).
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, map ``b k c 1 1`` over :math:`\kappa` and :math:`k^1`, y as x; the part
        ``tap_local`` ``b g j h w``: g kernels of j neighbors for each position.

    Raises:
        ValueError: a size is not positive, the kernel is even, the channels are odd, or ``groups``
            or ``group_width`` does not divide them; or a single image in training, for which the
            batch norm after the average has no variance.

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
            "The norms, the SiLU, the sharing of kernels among channels and the form of the final "
            "fusion are those of the authors' code; the paper mentions only the fusion.",
            "The kernels are not normalized by a softmax, in the paper as in the code.",
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
        projection_groups: int = 1,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=channels)
        odd(kernel_size=kernel_size)
        divides(channels=channels, groups=groups)
        divides(channels=channels, group_width=group_width)
        divides(channels=channels, half=2)
        divides(channels=channels // group_width, projection_groups=projection_groups)
        divides(channels=channels // 2, projection_groups=projection_groups)
        hidden_dim = max(channels // 2, 32) if hidden_dim is None else hidden_dim
        positive(hidden_dim=hidden_dim)
        self.kernel_size, self.groups, self.group_width = kernel_size, groups, group_width
        self.projection_groups = projection_groups
        kernels, half = channels // group_width, channels // 2
        weights = kernels * kernel_size**2
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        options = {"groups": groups, **factory}
        self.near = conv_norm(channels, channels, kernel_size, activation=nn.ReLU(), **options)
        options = {"groups": projection_groups, **factory}
        self.look = nn.Sequential(
            *conv_norm(2 * channels, half, activation=nn.ReLU(), **options),
            nn.Conv2d(half, weights, 1, **options),
            nn.GroupNorm(kernels, weights, **factory),
        )
        self.value = conv_norm(channels, channels, **options)
        self.norm = nn.BatchNorm2d(channels, **factory)
        self.squeeze = nn.Conv2d(channels, hidden_dim, 1, **factory)
        self.squeeze_norm = nn.BatchNorm2d(hidden_dim, **factory)
        self.select = nn.Conv2d(hidden_dim, 2 * channels, 1, **factory)
        self.tap_local = Tap()

    def prepare(self, x: Tensor) -> Prepared:
        static = self.near(x)
        both = torch.cat([x, static], 1)
        if self.projection_groups > 1:  # interleaved: each group reads the same channels of both
            both = _in_format_of(x, torch.stack([x, static], 2).flatten(1, 2))
        w = self.look(both).unflatten(1, (-1, self.kernel_size**2))
        dynamic = self.local_attention(self.tap_local(w), self.value(x))
        return silu(self.norm(dynamic)), static

    def attention(self, z: Prepared) -> Tensor:
        dynamic, static = z
        s = (dynamic + static).mean((2, 3), keepdim=True)  # b c 1 1
        s = self.squeeze(s)
        scores = self.select(self.squeeze_norm(s).relu())
        # In the authors' weights, the two scores of a channel are adjacent.
        return precision.softmax(scores.unflatten(1, (-1, 2)).transpose(1, 2), 1)

    def combine(self, a: Tensor, z: Prepared) -> Tensor:
        dynamic, static = z
        return a[:, 0] * dynamic + a[:, 1] * static

    def local_attention(self, w: Tensor, x: Tensor) -> Tensor:
        """Return the sum over each position's neighbors in ``x``, weighted by ``w``."""
        parts = (self.projection_groups, self.group_width, -1)
        v = pad(x, [self.kernel_size // 2] * 4).unflatten(1, parts).transpose(2, 3).flatten(1, 2)
        y = neighbors.weighted_sum(w, v, self.kernel_size)
        y = y.unflatten(1, (self.projection_groups, -1)).transpose(2, 3).flatten(1, 3)
        return _in_format_of(x, y)


@leaf
def _in_format_of(x: Tensor, y: Tensor) -> Tensor:
    """Return y, channels last if x is."""
    channels_last = x.is_contiguous(memory_format=torch.channels_last)
    return y.contiguous(memory_format=torch.channels_last) if channels_last else y
