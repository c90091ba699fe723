"""Squeeze-and-attention: a low-resolution branch gates the result of the main convolutions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from ..core import grid
from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import odd, one_of, positive
from ..core.conv_norm import conv_norm


class SqueezeAttention(Attention):
    r"""Scales convolved features by a gate from a pooled branch, and adds the gate to the result.

    .. math::
        y = a \odot R(x) + a, \quad
        a = \operatorname{Up}\big(\sigma(F(\operatorname{AvgPool}_p(x)))\big)

    where R and F are two convolutions each, with a batch norm after each and a ReLU between them; R
    ends with a ReLU too. Equations 3 and 4 of the paper.

    In half precision, rounding can change on which side of its step the sigmoid is where scores
    are in the hundreds.

    Args:
        in_channels: Channels of x.
        out_channels: Channels of y; ``in_channels`` by default.
        kernel_size: Side of every kernel, odd.
        pool_size: p, the side and the stride of the pooling windows.
        gate_activation: Activation of the gate: ``sigmoid``, ``relu``, or both (``relu-sigmoid``).
        interpolation: Upsampling of the gate: ``nearest``, ``bilinear``, or ``aligned``: bilinear
            with ``align_corners=True``.
        bias: Give the convolutions biases, although batch norms follow them.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, map ``b o h w``, y ``b o h w``.

    Raises:
        ValueError: a size is not positive, the kernel is even, or an option is unknown.

    >>> SqueezeAttention(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = Card(
        title="Squeeze-and-Attention",
        paper="Squeeze-and-Attention Networks for Semantic Segmentation",
        authors=(
            "Zilong Zhong, Zhong Qiu Lin, Rene Bidart, Xiaodan Hu, Ibrahim Ben Daya, Zhifeng Li, "
            "Wei-Shi Zheng, Jonathan Li, Alexander Wong"
        ),
        venue="CVPR",
        year=2020,
        url="https://arxiv.org/abs/1909.03402",
        domain="channel+spatial",
        computes="pool+conv",
        applies="gate",
        kind="convolution",
        train_differs=True,
        cost=dict(time="n c^2", memory="n c"),
        aliases=("sanet", "sa", "squeeze_and_attention"),
        differs=(
            "The authors have released no code. The paper leaves the upsampling open (aligned "
            "here), and does not mention biases (none here).",
            "The most-copied re-implementation has no sigmoid (gate_activation='relu'), upsamples "
            "to the nearest value (interpolation='nearest'), for even sides only, and has biases "
            "(bias=True); a variant of it has gate_activation='relu-sigmoid', whose gate is never "
            "below one half.",
            "A side shorter than the pooling window is averaged whole.",
        ),
    )
    axes = Axes("b c h w", "b o h w", output="b o h w", range="unit")

    def __init__(
        self,
        in_channels: int,
        out_channels: int | None = None,
        kernel_size: int = 3,
        *,
        pool_size: int = 2,
        gate_activation: Literal["sigmoid", "relu", "relu-sigmoid"] = "sigmoid",
        interpolation: Literal["nearest", "bilinear", "aligned"] = "aligned",
        bias: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=in_channels)
        out_channels = in_channels if out_channels is None else out_channels
        positive(in_channels=in_channels, out_channels=out_channels, pool_size=pool_size)
        odd(kernel_size=kernel_size)
        one_of(("sigmoid", "relu", "relu-sigmoid"), gate_activation=gate_activation)
        one_of(("nearest", "bilinear", "aligned"), interpolation=interpolation)
        self.pool_size, self.interpolation = pool_size, interpolation
        self.gate_activation = gate_activation
        self.axes = replace(self.axes, range="real" if gate_activation == "relu" else "unit")
        factory: dict[str, Any] = {"device": device, "dtype": dtype}

        def conv(channels: int) -> nn.Sequential:
            return conv_norm(channels, out_channels, kernel_size, bias=bias, **factory)

        def branch() -> nn.Sequential:
            return nn.Sequential(*conv(in_channels), nn.ReLU(), *conv(out_channels))

        self.main, self.look = branch(), branch()

    def attention(self, x: Tensor) -> Tensor:
        pooled = grid.avg_pool(x, self.pool_size)
        a = self.look(pooled)
        if self.gate_activation != "sigmoid":
            a = a.relu()
        if self.gate_activation != "relu":
            a = a.sigmoid()
        if self.interpolation == "nearest":
            return interpolate(a, x.shape[2:], mode="nearest")
        return interpolate(
            a, x.shape[2:], mode="bilinear", align_corners=self.interpolation == "aligned"
        )

    def combine(self, a: Tensor, x: Tensor) -> Tensor:
        return torch.addcmul(a, a, self.main(x).relu())
