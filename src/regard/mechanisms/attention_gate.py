"""Attention gate: a gate per position of a skip connection, computed with a coarser feature."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..core import grid, precision
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import one_of, per_axis, positive
from ..core.contracts import PairAttention
from ..core.conv_norm import CONV, NORM
from ..core.tracing import leaf, recording

ACTIVATIONS = {"relu": torch.relu, "softplus": functional.softplus, "none": lambda s: s}
NORMALIZATIONS = ("sigmoid", "softmax", "sum", "shifted_sum", "range")
MODES = {3: "linear", 4: "bilinear", 5: "trilinear"}
OTHER_GRIDS = {1: "i", 2: "i j", 3: "i j k"}


class AttentionGate(PairAttention):
    r"""Scales each position of x by a gate that reads x and a feature of a coarser scale, guide.

    .. math::
        a = \mathrm{up}\big(\sigma(w_\psi^\top\, \delta(W_x * x + \mathrm{up}(W_g\, g)) + b)\big),
        \quad y = \mathrm{BN}\big(W (a \odot x)\big)

    where :math:`W_x` has a kernel as large as its stride, :math:`\delta` is ReLU and up
    interpolates linearly, first to the size of :math:`W_x * x`, then to that of x; equations 1 and
    2 of the paper, without its last layer.

    In half precision, rounding can change a gate whose scores are in the hundreds, or close to one
    another.

    Args:
        channels: Channels of x.
        guide_channels: Channels of the guide; those of x by default.
        hidden_dim: Hidden channels; half of those of x by default.
        stride: By how much x is subsampled, for all axes or each.
        activation: What :math:`\delta` is: ``relu``, ``softplus`` or ``none``.
        normalization: What :math:`\sigma` is: a ``sigmoid``, or over all positions a ``softmax``,
            the scores divided by their ``sum``, the same after their minimum is subtracted
            (``shifted_sum``), or scores scaled to the ``range`` from 0 to 1.
        strided_guide: Subsample the guide with a kernel like that of x, and without a bias.
        norm: Apply batch norm to the three terms, each with a bias, as most other libraries do.
        out: What follows the gate: a convolution with a ``norm``, a ``conv`` alone, or ``none``.
        dims: Axes of space and time: 1, 2 or 3.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c *``, guide ``b g *`` of any size (``dims`` axes of space and time each), map
        ``b 1 *``, y as x.

    Raises:
        ValueError: a size is not positive, or a choice is unknown.

    >>> AttentionGate(32, 64)(torch.randn(2, 32, 9, 7), torch.randn(2, 64, 4, 3)).shape
    torch.Size([2, 32, 9, 7])
    """

    card = Card(
        title="Attention gate",
        paper="Attention U-Net: Learning Where to Look for the Pancreas",
        authors=(
            "Ozan Oktay, Jo Schlemper, Loic Le Folgoc, Matthew Lee, Mattias Heinrich, "
            "Kazunari Misawa, Kensaku Mori, Steven McDonagh, Nils Hammerla, Bernhard Kainz, "
            "Ben Glocker, Daniel Rueckert"
        ),
        venue="MIDL",
        year=2018,
        url="https://arxiv.org/abs/1804.03999",
        code="https://github.com/ozan-oktay/Attention-Gated-Networks",
        license="MIT",
        domain="spatial",
        computes="conv",
        applies="gate",
        kind="pair",
        train_differs=True,
        cost=dict(time="n c^2", memory="n c"),
        aliases=("grid_attention", "ag", "attention_unet", "attention_block", "attention_u_net"),
        differs=(
            "The authors' code, and the default here, has a convolution and a batch norm after the "
            "gate, which the paper's equations lack (out='none').",
            "Interpolation does not align corners, as in all versions of torch since 0.4; the "
            "paper's experiments ran on an older one, which aligned them.",
            "Other libraries take x and guide of the same size, normalize every term, and have "
            "nothing after the gate (stride=1, norm=True, out='none').",
        ),
    )
    axes = Axes("x: b c h w, guide: b g i j", "b 1 h w", output="b c h w", range="unit")

    def __init__(
        self,
        channels: int,
        guide_channels: int | None = None,
        hidden_dim: int | None = None,
        *,
        stride: int | Sequence[int] = 2,
        activation: Literal["relu", "softplus", "none"] = "relu",
        normalization: Literal["sigmoid", "softmax", "sum", "shifted_sum", "range"] = "sigmoid",
        strided_guide: bool = False,
        norm: bool = False,
        out: Literal["norm", "conv", "none"] = "norm",
        dims: Literal[1, 2, 3] = 2,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        positive(channels=channels)
        guide_channels = channels if guide_channels is None else guide_channels
        hidden_dim = max(channels // 2, 1) if hidden_dim is None else hidden_dim
        positive(guide_channels=guide_channels, hidden_dim=hidden_dim)
        super().__init__(c=channels, g=guide_channels)
        one_of(tuple(ACTIVATIONS), activation=activation)
        one_of(NORMALIZATIONS, normalization=normalization)
        one_of(("norm", "conv", "none"), out=out)
        one_of((1, 2, 3), dims=dims)
        self.stride = per_axis(dims, 1, stride=stride)
        self.activation, self.normalization = activation, normalization
        self.strided_guide = strided_guide
        self.axes = replace(
            Axes(f"x: b c *, guide: b g {OTHER_GRIDS[dims]}", "b 1 *", output="b c *").over(dims),
            range="real" if normalization == "sum" else "unit",
        )
        factory = {"device": device, "dtype": dtype}
        conv, normalize = CONV[dims], NORM[dims]

        def normed(width: int) -> nn.Module:
            return normalize(width, **factory) if norm else nn.Identity()

        kernel = {"kernel_size": self.stride, "stride": self.stride}
        guide_kernel = kernel if strided_guide else {"kernel_size": 1}
        self.theta = conv(channels, hidden_dim, **kernel, bias=norm, **factory)
        self.theta_norm = normed(hidden_dim)
        self.phi = conv(
            guide_channels, hidden_dim, **guide_kernel, bias=norm or not strided_guide, **factory
        )
        self.phi_norm = normed(hidden_dim)
        self.psi = conv(hidden_dim, 1, 1, **factory)
        self.psi_norm = normed(1)
        self.out = conv(channels, channels, 1, **factory) if out != "none" else nn.Identity()
        self.out_norm = normalize(channels, **factory) if out == "norm" else nn.Identity()
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new parameters; gates that read a subsampled guide start open."""
        super().reset_parameters()
        for layer in self.children():
            if isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
                nn.init.kaiming_normal_(layer.weight)
        start = {"sigmoid": 3.0, "softmax": 10.0}.get(self.normalization)
        if self.strided_guide and start is not None and self.psi.bias is not None:
            nn.init.constant_(self.psi.bias, start)

    def attention(self, z: tuple[Tensor, Tensor]) -> Tensor:
        x, guide = z
        f = self.theta_norm(self.theta(grid.fill_up(x, self.stride)))
        if self.strided_guide:
            guide = grid.fill_up(guide, self.stride)
        f = f + _resized(self.phi_norm(self.phi(guide)), f)
        scores = self.psi_norm(self.psi(ACTIVATIONS[self.activation](f)))
        return _resized(_normalized(scores, self.normalization), x)

    def combine(self, a: Tensor, z: tuple[Tensor, Tensor]) -> Tensor:
        x, _ = z
        return self.out_norm(self.out(a * x))


@leaf
def _resized(x: Tensor, like: Tensor) -> Tensor:
    """Interpolate linearly to the grid of another tensor."""
    if not recording() and x.shape[2:] == like.shape[2:]:
        return x
    return functional.interpolate(x, like.shape[2:], mode=MODES[x.dim()], align_corners=False)


@leaf
def _normalized(scores: Tensor, how: str) -> Tensor:
    """Turn scores ``b 1 *`` into weights of the positions."""
    if how == "sigmoid":
        return scores.sigmoid()
    s = scores.flatten(2)
    if how == "softmax":
        return precision.softmax(s, 2).reshape(scores.shape)
    s = precision.widen(s)
    if how != "sum":
        s = s - s.amin(2, keepdim=True)
    total = s.amax(2, keepdim=True) if how == "range" else s.sum(2, keepdim=True)
    # Equal scores, or a single one, give zeros.
    return (s / torch.where(total == 0, 1.0, total)).to(scores.dtype).reshape(scores.shape)
