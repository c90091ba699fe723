"""Squeeze-and-attention: a coarser convolution beside the main one weighs its result."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate

from ..core import grid
from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import odd, one_of, positive
from ..core.tracing import leaf


@leaf
def squeeze(x: Tensor, pool_size: int) -> Tensor:
    """Average windows of ``pool_size`` by ``pool_size``, or the whole side where it is shorter."""
    return avg_pool2d(x, [pool_size if n >= pool_size else n for n in x.shape[2:]])


class SqueezeAttention(Attention):
    r"""Convolves, and weighs the result by convolutions of a coarser grid, which it also adds.

    .. math::
        y = a \odot R(x) + a, \quad
        a = \operatorname{Up}\big(\sigma(F(\operatorname{AvgPool}_p(x)))\big)

    where R and F are two convolutions each, with a batch norm behind each and a ReLU between them;
    R, the main way, ends with a ReLU too, and F sees averages of :math:`p \times p` windows.
    Equations 3 and 4 of the paper.

    Args:
        in_channels: Channels of x.
        out_channels: Channels of y; as many by default.
        kernel_size: Side of every kernel, odd.
        pool_size: p, the side and the step of the averaged windows.
        gate_activation: What makes the map out of F's last batch norm: ``sigmoid``, ``relu``, or
            one behind the other (``relu-sigmoid``).
        interpolation: How the coarse map grows again: ``nearest``, ``bilinear``, or ``aligned``,
            which is bilinear with the corners kept where they are.
        bias: Give the convolutions biases, though batch norms follow them.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, map ``b o h w``, y ``b o h w``.

    Raises:
        ValueError: a size is not positive, the kernel is even, or the gate or the way up is
            unknown.

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
            "The authors have released no code. The paper leaves the way up open (aligned here), "
            "and says nothing of biases (none here).",
            "The re-implementation that most people copy has no sigmoid (gate='relu'), takes the "
            "nearest value on the way up (up='nearest'), for even sides only, and has biases "
            "(bias=True); a variant of it has gate='relu-sigmoid', whose map is never below a "
            "half.",
            "A side shorter than the window is averaged as a whole.",
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
        self.pool_size, self.gate_activation, self.interpolation = (
            pool_size,
            gate_activation,
            interpolation,
        )
        self.axes = replace(self.axes, range="real" if gate_activation == "relu" else "unit")
        factory = {"device": device, "dtype": dtype}

        def convolve(channels: int) -> list[nn.Module]:
            padding = kernel_size // 2
            convolution = nn.Conv2d(
                channels, out_channels, kernel_size, padding=padding, bias=bias, **factory
            )
            return [convolution, nn.BatchNorm2d(out_channels, **factory)]

        def twice() -> nn.Sequential:
            return nn.Sequential(*convolve(in_channels), nn.ReLU(), *convolve(out_channels))

        self.main, self.look = twice(), twice()

    def attention(self, x: Tensor) -> Tensor:
        z = grid.check_norm_batch(squeeze(x, self.pool_size), type(self).__name__, self.training)
        a = self.look(z)
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
