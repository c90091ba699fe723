"""Dynamic head: each level of a pyramid reads its neighbors, at places of its own choice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from ..core import grid
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import divides, one_of, positive
from ..core.contracts import LevelsAttention
from ..core.tracing import leaf, recording
from . import deformable_conv
from .dynamic_relu import DynamicReLU

Features = list[list[Tensor | None]]  # of each level: its own, the finer's and the coarser's


class DynamicHead(LevelsAttention):
    r"""Averages each level with its two neighbors, each read by a deformable convolution.

    .. math::
        y_l = \rho\Big(\tfrac{1}{|N_l|} \textstyle\sum_{j \in N_l} a_{lj}\, F_{lj}\Big), \quad
        a_{lj} = \tau\big(\delta(w^\top \bar F_{lj} + b)\big), \quad
        F_{lj} = \mathrm{GN}\big(D_j(x_j;\, o_l,\, \sigma(m_l))\big)

    where :math:`N_l` are the level and its finer and coarser neighbor, offsets o and modulators m
    come from one convolution of :math:`x_l`, the finer level is read with a stride of two and the
    coarser one upsampled, :math:`\tau` is the hard sigmoid, :math:`\delta` is ReLU and
    :math:`\rho` is `DynamicReLU`; equations 3 to 5 of the paper.

    In half precision, places are rounded with the features, and so lie a part of a pixel aside.

    Args:
        in_channels: Channels of the levels.
        out_channels: Channels of y; those of the levels by default.
        norm_groups: Groups of the group norm.
        coarse_offsets: How the coarser level, which has fewer positions, reads the offsets: as a
            ``flat`` list whose end it ignores, or ``resized``.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        Levels ``b c h w``, each half as high and wide as the one before, rounded up; map ``b s j``
        for s levels and j = own, finer, coarser, zero where there is none; y ``b o h w``, a list.

    Raises:
        ValueError: a size is not positive, ``norm_groups`` does not divide the channels of y, or
            ``coarse_offsets`` is unknown.

    >>> head = DynamicHead(64)
    >>> [y.shape[2:] for y in head([torch.randn(2, 64, 9, 7), torch.randn(2, 64, 5, 4)])]
    [torch.Size([9, 7]), torch.Size([5, 4])]
    """

    card = Card(
        title="Dynamic head",
        paper="Dynamic Head: Unifying Object Detection Heads with Attentions",
        authors=(
            "Xiyang Dai, Yinpeng Chen, Bin Xiao, Dongdong Chen, Mengchen Liu, Lu Yuan, Lei Zhang"
        ),
        venue="CVPR",
        year=2021,
        url="https://arxiv.org/abs/2106.08322",
        code="https://github.com/microsoft/DynamicHead",
        license="MIT",
        domain="channel+spatial",
        computes="conv+pool+fc",
        applies="sample+gate",
        kind="levels",
        cost=dict(time="n c^2", memory="n c"),
        aliases=("dyhead", "dy_head", "dyhead_block"),
        differs=(
            "The offsets of a level have more positions than the coarser level that is read with "
            "them; the authors' compiled operator takes the first numbers in memory, whatever "
            "their places, and so does the default. coarse_offsets='resized' interpolates them.",
            "The authors' gate has a ReLU before its hard sigmoid, which the paper does not show; "
            "it is a half or more.",
        ),
    )
    axes = Axes("b c h w", "b s j", output="b o h w", range="unit")

    def __init__(
        self,
        in_channels: int,
        out_channels: int | None = None,
        *,
        norm_groups: int = 16,
        coarse_offsets: Literal["flat", "resized"] = "flat",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        positive(in_channels=in_channels)
        super().__init__(c=in_channels)
        out_channels = in_channels if out_channels is None else out_channels
        divides(out_channels=out_channels, norm_groups=norm_groups)
        one_of(("flat", "resized"), coarse_offsets=coarse_offsets)
        self.coarse_offsets = coarse_offsets
        factory = {"device": device, "dtype": dtype}
        self.place = nn.Conv2d(in_channels, 27, 3, padding=1, **factory)
        # Of the level itself, the finer and the coarser one.
        self.convs = nn.ModuleList(
            nn.Conv2d(in_channels, out_channels, 3, stride, 1, **factory) for stride in (1, 2, 1)
        )
        self.norms = nn.ModuleList(
            nn.GroupNorm(norm_groups, out_channels, **factory) for _ in range(3)
        )
        self.look = nn.Linear(out_channels, 1, **factory)
        self.activation = DynamicReLU(out_channels, **factory)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new parameters; the gate's weights are almost zero."""
        super().reset_parameters()
        nn.init.normal_(self.look.weight, std=0.01)
        nn.init.zeros_(self.look.bias)

    def check_levels(self, levels: Sequence[Tensor]) -> None:
        super().check_levels(levels)
        if recording():  # sizes of a recorded level are symbols, and must not be fixed
            return
        for i, (x, finer) in enumerate(zip(levels[1:], levels, strict=False), 1):
            want = tuple(-(-n // 2) for n in finer.shape[2:])
            if tuple(x.shape[2:]) != want:
                raise ValueError(
                    f"{type(self).__name__}: expected h w = {want} in level {i}, half of those of "
                    f"the level before, got {tuple(x.shape)}"
                )

    def prepare(self, *levels: Tensor) -> Features:
        found: Features = []
        for i, x in enumerate(levels):
            numbers = self.place(x)
            features: list[Tensor | None] = [self.read(0, x, numbers), None, None]
            if i > 0:
                features[1] = self.read(1, levels[i - 1], numbers)
            if i + 1 < len(levels):
                coarse = levels[i + 1]
                if self.coarse_offsets == "flat":
                    numbers = _first(numbers, coarse)
                else:
                    numbers = grid.upsample_like(numbers, coarse, align_corners=False)
                features[2] = grid.upsample_like(self.read(2, coarse, numbers), x)
            found.append(features)
        return found

    def read(self, which: int, x: Tensor, numbers: Tensor) -> Tensor:
        """Convolve a level at places from 18 offsets and 9 modulators for each position."""
        conv, norm = self.convs[which], self.norms[which]
        offset = numbers[:, :18].unflatten(1, (1, 9, 2))
        modulator = numbers[:, 18:].unflatten(1, (1, 9)).sigmoid()
        stride = (2, 2) if which == 1 else (1, 1)
        options = stride, (1, 1), (1, 1)
        y = deformable_conv.deform(
            x,
            offset,
            modulator,
            conv.weight,
            conv.bias,
            *options,  # type: ignore[arg-type]
        )
        return grid.group_norm(norm, y)  # type: ignore[arg-type]

    def attention(self, z: Features) -> Tensor:
        rows = []
        for features in z:
            gates = [
                None if f is None else grid.hard_sigmoid(self.look(grid.mean(f)).relu())
                for f in features
            ]
            none = torch.zeros_like(gates[0])  # type: ignore[arg-type]  # its own is there
            rows.append(torch.cat([none if a is None else a for a in gates], 1))
        return torch.stack(rows, 1)

    def combine(self, a: Tensor, z: Features) -> list[Tensor]:
        outputs = []
        for i, features in enumerate(z):
            there = [
                f * grid.over_positions(a[:, i, j : j + 1], f)
                for j, f in enumerate(features)
                if f is not None
            ]
            y = there[0]
            for other in there[1:]:
                y = y + other
            outputs.append(self.activation(y / len(there)))
        return outputs


@leaf
def _first(numbers: Tensor, like: Tensor) -> Tensor:
    """Return the first offsets and modulators in memory, as many as a smaller level takes."""
    h, w = like.shape[2:]

    def taken(part: Tensor) -> Tensor:
        count = part.shape[1]
        return part.flatten(1)[:, : count * h * w].unflatten(1, (count, h, w))

    return torch.cat([taken(numbers[:, :18]), taken(numbers[:, 18:])], 1)
