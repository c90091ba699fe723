"""Project-and-excite: a gate per position and channel of a volume, from the averages of slices."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import one_of, reduced
from ..core.conv_norm import CONV


class ProjectExcite(Attention):
    r"""Scales each position of each channel by a gate computed from the slices it lies in.

    .. math::
        a = \sigma\big(W_2\,\delta(W_1 z)\big), \quad
        z_{cijk} = \bar x_{ci} + \bar x_{cj} + \bar x_{ck}, \quad y = a \odot x

    where :math:`\bar x_{ci}` averages the i-th slice along the first axis, and so on, and
    :math:`\delta` is ReLU; section 2 of the paper.

    In bfloat16, rounding can change on which side of its step the sigmoid is where scores are in
    the hundreds.

    Args:
        channels: :math:`C`.
        reduction: :math:`r`; the hidden layer has :math:`\lfloor C/r \rfloor` channels.
        dims: Axes of space and time: 1, 2 or 3. An image has averages of rows and columns.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c *`` (``dims`` axes of space and time), map ``b c *``, y as x.

    Raises:
        ValueError: a size is not positive, the reduction leaves no hidden channel, or ``dims`` is
            unknown.

    >>> ProjectExcite(16)(torch.randn(2, 16, 5, 9, 7)).shape
    torch.Size([2, 16, 5, 9, 7])
    """

    card = Card(
        title="Project and Excite",
        paper="'Project & Excite' Modules for Segmentation of Volumetric Medical Scans",
        authors="Anne-Marie Rickmann, Abhijit Guha Roy, Ignacio Sarasua, Nassir Navab, "
        "Christian Wachinger",
        venue="MICCAI",
        year=2019,
        url="https://arxiv.org/abs/1906.04649",
        code="https://github.com/ai-med/squeeze_and_excitation",
        license="MIT",
        domain="channel+spatial",
        computes="pool+conv",
        applies="gate",
        kind="gate",
        equivariant=("frames",),
        cost=dict(time="n c^2", memory="n c"),
        aliases=("pe", "project_and_excite", "projectexcitelayer"),
    )
    axes = Axes("b c t h w", "b c t h w", range="unit")

    def __init__(
        self,
        channels: int,
        reduction: int = 2,
        *,
        dims: Literal[1, 2, 3] = 3,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=channels)
        hidden_dim = reduced(channels, reduction)
        one_of((1, 2, 3), dims=dims)
        self.axes, self.dims = Axes("b c *", "b c *", range="unit").over(dims), dims
        factory = {"device": device, "dtype": dtype}
        self.squeeze = CONV[dims](channels, hidden_dim, 1, **factory)
        self.excite = CONV[dims](hidden_dim, channels, 1, **factory)

    def attention(self, x: Tensor) -> Tensor:
        z = x
        if self.dims > 1:
            grid = range(2, 2 + self.dims)
            means = [x.mean([i for i in grid if i != axis], keepdim=True) for axis in grid]
            z = sum(means[1:], means[0])
        return self.excite(self.squeeze(z).relu()).sigmoid()

    def combine(self, a: Tensor, x: Tensor) -> Tensor:
        return x * a
