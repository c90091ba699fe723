"""ECA: one gate per channel, from the averages of neighboring channels."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from ..core import grid
from ..core.adaptive_kernel import adaptive_kernel
from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import odd, positive


class ECA(Attention):
    r"""Scales each channel by a gate computed from the averages of the k channels around it.

    .. math::
        a = \sigma(w * z), \quad z_c = \tfrac{1}{HW}\textstyle\sum_{ij} x_{cij}, \quad
        y = a \odot x

    where :math:`*` is a zero-padded 1D convolution along the channels, with one kernel of size
    :math:`k = |\log_2 C / 2 + 1/2|_{odd}`; equations 9 and 12 of the paper.

    Args:
        channels: :math:`C`; None for any number, with a ``kernel_size``.
        kernel_size: :math:`k`, odd; by default from ``channels`` by the paper's rule.
        bias: Give the convolution a bias, as some other libraries do.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c *`` (one to three axes of space and time), map ``b c 1*``, y as x.

    Raises:
        ValueError: ``channels`` is not positive, ``kernel_size`` is even, or neither is given.

    >>> ECA(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = Card(
        title="Efficient Channel Attention",
        paper="ECA-Net: Efficient Channel Attention for Deep Convolutional Neural Networks",
        authors="Qilong Wang, Banggu Wu, Pengfei Zhu, Peihua Li, Wangmeng Zuo, Qinghua Hu",
        venue="CVPR",
        year=2020,
        url="https://arxiv.org/abs/1910.03151",
        code="https://github.com/BangguWu/ECANet",
        license="MIT",
        domain="channel",
        computes="pool+conv",
        applies="gate",
        kind="gate",
        equivariant=("pixels",),
        map_invariant=("pixels",),
        cost=dict(time="n c", memory="n c"),
        aliases=("eca", "ecanet", "eca_net", "efficient_channel"),
        differs=(
            "The authors' code takes the kernel size from the command line; the rule that computes "
            "it from the channels is in the paper only. timm's rule never returns 1.",
        ),
    )
    axes = Axes("b c *", "b c 1*", range="unit")

    def __init__(
        self,
        channels: int | None,
        kernel_size: int | None = None,
        *,
        bias: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(**({} if channels is None else {"c": channels}))
        if channels is not None:
            positive(channels=channels)
        elif kernel_size is None:
            raise ValueError("kernel_size must be given where channels are not")
        k = adaptive_kernel(channels or 1) if kernel_size is None else kernel_size
        odd(kernel_size=k)
        self.mix = nn.Conv1d(1, 1, k, padding=k // 2, bias=bias, device=device, dtype=dtype)

    def attention(self, x: Tensor) -> Tensor:
        z = grid.mean(x)
        if torch.jit.is_tracing():  # the older ONNX exporter cannot make the windows below
            return grid.broadcast_gate(self.mix(z.unsqueeze(1)).squeeze(1).sigmoid(), x)
        w, k = self.mix.weight.flatten(), self.mix.weight.shape[2]
        # A matrix product takes a third of the time of conv1d.
        windows = pad(z, (k // 2, k // 2)).unfold(1, k, 1)  # b c k
        scores = windows @ w if self.mix.bias is None else windows @ w + self.mix.bias
        return grid.broadcast_gate(scores.sigmoid(), x)

    def combine(self, a: Tensor, x: Tensor) -> Tensor:
        return x * a
