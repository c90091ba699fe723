"""Global-local temporal representation: frames see their neighbors, then all frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from ..core import pairwise
from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import odd, positive, reduced

Parts = tuple[Tensor, Tensor, Tensor, Tensor]


class GlobalLocalTemporal(Attention):
    r"""Describes a clip by its frames, their near and far neighbors, and what all frames say.

    .. math::
        y = \tfrac{1}{T} \textstyle\sum_t f_t + \mathrm{BN}\big(W \sum_s a_{ts}\, g(f_s)\big), \quad
        a_{ts} = \operatorname{softmax}_s \theta(f_t)^\top \phi(f_s), \quad
        f = [x; D_1 * x; D_2 * x; D_3 * x]

    where :math:`D_r` convolves over time with dilation r; section 3 of the paper, whose form is
    ``dilations=(1, 2, 4), include_frames=False, activation='relu', norm=False``. A new module adds
    nothing to f.

    Args:
        channels: Numbers of each frame.
        reduction: :math:`\theta`, :math:`\phi` and :math:`g` are so many times narrower than f.
        kernel_size: Frames that each :math:`D_r` sees, odd.
        dilations: The steps r.
        include_frames: Have the frames themselves in f.
        activation: ``relu``: a batch norm and a ReLU after :math:`\theta` and :math:`\phi`; or
            None.
        norm: Put a batch norm behind W.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b n d`` (n frames), map ``b n m``, y ``b k`` (as many times wider as f has parts).

    Raises:
        ValueError: a size is not positive, the kernel is even, there are no dilations, or the
            reduction leaves nothing.

    >>> GlobalLocalTemporal(16)(torch.randn(2, 9, 16)).shape
    torch.Size([2, 64])
    """

    card = Card(
        title="Global-Local Temporal Representation",
        paper="Global-Local Temporal Representations for Video Person Re-Identification",
        authors="Jianing Li, Jingdong Wang, Qi Tian, Wen Gao, Shiliang Zhang",
        venue="ICCV",
        year=2019,
        url="https://arxiv.org/abs/1908.10049",
        code="https://github.com/ljn114514/GLTR",
        license="none stated",
        domain="temporal",
        computes="conv+matmul",
        applies="matmul",
        kind="head",
        train_differs=True,
        cost=dict(time="n^2 c + n c^2", memory="n c"),
        aliases=("gltr", "global_local_temporal_representation"),
        differs=(
            "The authors' code, and the default here, keeps the frames beside their convolutions "
            "and dilates by 1, 2, 3; the paper has the convolutions alone, dilated by 1, 2, 4 "
            "(keep=False, dilations=(1, 2, 4)).",
            "In the paper a batch norm and a ReLU follow both layers that are compared "
            "(activation='relu'); the authors' code has neither.",
            "In the authors' code a batch norm that starts at zero follows the last layer; in the "
            "paper the layer itself starts at zero (norm=False).",
        ),
    )
    axes = Axes("b n d", "b n m", output="b k", range="softmax")

    def __init__(
        self,
        channels: int,
        reduction: int = 2,
        *,
        kernel_size: int = 3,
        dilations: Sequence[int] = (1, 2, 3),
        include_frames: bool = True,
        activation: Literal["relu"] | None = None,
        norm: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(d=channels)
        positive(channels=channels)
        odd(kernel_size=kernel_size)
        if not dilations:
            raise ValueError("dilations must have one step at least, got none")
        for step in dilations:
            positive(dilations=step)
        width = channels * (len(dilations) + include_frames)
        hidden = reduced(width, reduction)
        factory = {"device": device, "dtype": dtype}
        self.include_frames = include_frames
        self.near = nn.ModuleList(
            nn.Conv1d(
                channels,
                channels,
                kernel_size,
                padding=step * (kernel_size // 2),
                dilation=step,
                bias=False,
                **factory,
            )
            for step in dilations
        )

        def compared() -> nn.Module:
            layer = nn.Conv1d(width, hidden, 1, **factory)
            if activation is None:
                return layer
            return nn.Sequential(layer, nn.BatchNorm1d(hidden, **factory), nn.ReLU())

        self.theta, self.phi = compared(), compared()
        self.g = nn.Conv1d(width, hidden, 1, **factory)
        self.out = nn.Conv1d(hidden, width, 1, **factory)
        self.norm = nn.BatchNorm1d(width, **factory) if norm else nn.Identity()
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new parameters; the last layer starts at zero, so that nothing is added at first."""
        super().reset_parameters()
        last = self.out if isinstance(self.norm, nn.Identity) else self.norm
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def prepare(self, x: Tensor) -> Parts:
        x = x.mT
        f = torch.cat(
            [*([x] if self.include_frames else []), *(near(x) for near in self.near)], 1
        )  # b k n
        return f, self.theta(f).mT, self.phi(f).mT, self.g(f).mT  # the others b n d

    def attention(self, x: Parts) -> Tensor:
        return pairwise.attention_weights(x[1], x[2])

    def combine(self, a: Tensor, x: Parts) -> Tensor:
        return self.add(a @ x[3], x[0])

    def add(self, y: Tensor, f: Tensor) -> Tensor:
        """The frames' average of f and what all frames say."""
        return (f + self.norm(self.out(y.mT))).mean(2)

    def fused(self, x: Parts) -> Tensor:
        f, q, k, v = x
        return self.add(pairwise.scaled_dot_product(q, k, v), f)
