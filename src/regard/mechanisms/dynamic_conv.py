"""Dynamic convolution: a convolution whose kernel is an average, weighted for each image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn

from ..core import grid, precision
from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import above_zero, one_of, positive, reduced
from ..core.mixed_conv import MixedConv, Padding

INPUT = {1: "b c l", 2: "b c h w", 3: "b c t h w"}
OUTPUT = {1: "b o x", 2: "b o y x", 3: "b o z y x"}


class DynamicConv(Attention):
    r"""Convolves each image with its own average of kernels, weighted by a softmax.

    .. math::
        y = \big(\textstyle\sum_k a_k W_k\big) * x + \sum_k a_k b_k, \quad
        a = \operatorname{softmax}_k\big((W_2\,\delta(W_1 \bar x) + b) / \tau\big)

    where the bar averages over positions and :math:`\delta` is ReLU; section 3 of the paper. A high
    temperature :math:`\tau` lets all kernels learn; `TemperatureSchedule` lowers it in training.

    Args:
        in_channels: Channels of x.
        out_channels: Channels of y; those of x by default.
        kernel_size: Side of the kernels, or one for each axis.
        num_kernels: Number of kernels to average.
        dims: Axes of space and time: 1, 2 or 3.
        reduction: The attention has :math:`\lfloor C/r \rfloor` hidden channels.
        hidden_dim: The hidden channels themselves, instead of ``reduction``.
        temperature: :math:`\tau`.
        stride: Stride, or one for each axis.
        padding: Zeros on each side, or one number for each axis; ``same`` keeps the size, or
            divides it by the stride and rounds up; ``valid`` adds none. By default the kernel is
            centered and must be odd.
        dilation: Dilation, or one for each axis.
        groups: Groups of the convolution.
        bias: Give the convolution a bias, averaged like the kernels.
        score_bias: Give the attention's last layer a bias.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c *`` (``dims`` axes of space and time), map ``b k`` for the k kernels, y ``b o *``,
        whose size depends on stride and padding.

    Raises:
        ValueError: a size is not positive, the reduction leaves no hidden channel, the groups do
            not divide the channels, the padding is negative or unknown, or missing for an even
            kernel, the temperature is not above zero, or the number of axes is unknown.

    >>> DynamicConv(64, kernel_size=3)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = Card(
        title="Dynamic Convolution",
        paper="Dynamic Convolution: Attention over Convolution Kernels",
        authors="Yinpeng Chen, Xiyang Dai, Mengchen Liu, Dongdong Chen, Lu Yuan, Zicheng Liu",
        venue="CVPR",
        year=2020,
        url="https://arxiv.org/abs/1912.03458",
        code="https://github.com/kaijieshi7/Dynamic-convolution-Pytorch",
        license="none stated",
        domain="branch",
        computes="pool+fc",
        applies="select",
        kind="convolution",
        map_invariant=("pixels",),
        cost=dict(time="n c^2", memory="n c"),
        aliases=("dynamic_conv", "dyconv", "dynamic_convolution"),
        differs=(
            "The authors released no code. The best-known re-implementation has one hidden channel "
            "more than a quarter of the input's, and lowers the temperature from 34 in steps of "
            "three; here, as in the paper, it is a quarter, and the schedule goes from 30 to 1.",
            "The paper's batch norm and activation after the convolution are left to the network.",
            "A new module has the temperature of a trained one, 1; the schedule sets the initial "
            "temperature of training.",
        ),
    )
    axes = Axes("b c h w", "b k", output="b o y x", range="softmax")

    def __init__(
        self,
        in_channels: int,
        out_channels: int | None = None,
        kernel_size: int | Sequence[int] = 3,
        *,
        num_kernels: int = 4,
        dims: Literal[1, 2, 3] = 2,
        reduction: int = 4,
        hidden_dim: int | None = None,
        temperature: float = 1.0,
        stride: int | Sequence[int] = 1,
        padding: Padding = None,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
        bias: bool = True,
        score_bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=in_channels)
        positive(in_channels=in_channels, num_kernels=num_kernels)
        hidden_dim = reduced(in_channels, reduction, hidden_dim)
        one_of((1, 2, 3), dims=dims)
        above_zero(temperature=temperature)
        self.temperature = temperature
        self.axes = replace(self.axes, input=INPUT[dims], output=OUTPUT[dims])
        factory = {"device": device, "dtype": dtype}
        self.squeeze = nn.Linear(in_channels, hidden_dim, bias=False, **factory)
        self.select = nn.Linear(hidden_dim, num_kernels, bias=score_bias, **factory)
        self.mixture = MixedConv(
            in_channels,
            out_channels,
            kernel_size,
            num_kernels,
            dims=dims,
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=groups,
            bias=bias,
            **factory,
        )

    def start_from(self, convolution: nn.Conv2d) -> None:
        """Copy it into every kernel: as their weights sum to one, y is what it was.

        Not if the kernels have another size or other groups.
        """
        self.mixture.copy_from(convolution)

    def attention(self, x: Tensor) -> Tensor:
        scores = self.select(self.squeeze(grid.mean(x)).relu())  # b k
        return precision.softmax(scores / self.temperature, 1)

    def combine(self, a: Tensor, x: Tensor) -> Tensor:
        return self.mixture(x, a)


class TemperatureSchedule:
    """Lowers the temperature of every `DynamicConv` of a model, in equal steps.

    The paper goes from 30 to 1 in ten epochs, one step each. The temperature is not in the state
    dict of the model: to resume training, load the state of the schedule as well.

    Args:
        model: The model, compiled or not.
        start: Temperature before the first step.
        end: Temperature after the last step, and from then on.
        steps: Number of steps from ``start`` to ``end``.

    Raises:
        ValueError: a number is not above zero, or the model has no `DynamicConv`.

    >>> layer = DynamicConv(8)
    >>> schedule = TemperatureSchedule(layer, start=30.0, end=1.0, steps=10)
    >>> for epoch in range(12):
    ...     schedule.step()  # after training for an epoch
    >>> layer.temperature
    1.0
    """

    def __init__(
        self, model: nn.Module, *, start: float = 30.0, end: float = 1.0, steps: int = 10
    ) -> None:
        above_zero(start=start, end=end)
        positive(steps=steps)
        self.layers = [layer for layer in model.modules() if isinstance(layer, DynamicConv)]
        if not self.layers:
            raise ValueError(f"model: {type(model).__name__} has no DynamicConv")
        self.start, self.end, self.steps = start, end, steps
        self.load_state_dict({"done": 0})

    @property
    def temperature(self) -> float:
        """The current temperature."""
        progress = min(self.done / self.steps, 1.0)
        return (1 - progress) * self.start + progress * self.end

    def step(self) -> None:
        """Advance by one step."""
        self.load_state_dict({"done": self.done + 1})

    def state_dict(self) -> dict[str, int]:
        """Return the number of steps done."""
        return {"done": self.done}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Resume from the state of a schedule."""
        self.done = state["done"]
        for layer in self.layers:
            layer.temperature = self.temperature
