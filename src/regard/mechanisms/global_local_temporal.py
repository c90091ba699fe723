"""Global-local temporal representation: dilated convolutions over frames, then self-attention."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from ..core import pairwise
from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import odd, one_of, positive, reduced

Prepared = tuple[Tensor, Tensor, Tensor, Tensor]  # f b k n; q, k, v b n d


class GlobalLocalTemporal(Attention):
    r"""Pools frames into one vector, after dilated convolutions and self-attention over time.

    .. math::
        y = \tfrac{1}{T} \textstyle\sum_t f_t + \mathrm{BN}\big(W \sum_s a_{ts}\, g(f_s)\big), \quad
        a_{ts} = \operatorname{softmax}_s \theta(f_t)^\top \phi(f_s), \quad
        f = [x; D_1 * x; D_2 * x; D_3 * x]

    where :math:`D_r` is a convolution over time with dilation r; section 3 of the paper, which has
    ``dilations=(1, 2, 4), include_frames=False, activation='relu', norm=False``. A new module
    only averages f.

    In half precision, rounding can change which entry the softmax selects where scores are in
    the hundreds.

    Args:
        channels: Channels of each frame.
        reduction: :math:`r`; :math:`\theta`, :math:`\phi` and :math:`g` have :math:`1/r` of the
            channels of f, rounded down.
        kernel_size: Kernel size of each :math:`D_r`, odd.
        dilations: The dilation of each convolution.
        include_frames: Include the frames themselves in f.
        activation: ``relu`` for a batch norm and a ReLU after :math:`\theta` and :math:`\phi`, or
            None.
        norm: Put a batch norm after W.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b n d`` (n frames), map ``b n m``, y ``b k`` with the k channels of f.

    Raises:
        ValueError: a size is not positive, the kernel is even, there are no dilations, the
            reduction leaves no hidden channel, or the activation is unknown.

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
            "The authors' code, and the default here, concatenates the frames with their "
            "convolutions and dilates by 1, 2, 3; the paper has the convolutions alone, dilated "
            "by 1, 2, 4 (include_frames=False, dilations=(1, 2, 4)).",
            "In the paper a batch norm and a ReLU follow the projections of queries and keys "
            "(activation='relu'); the authors' code has neither.",
            "In the authors' code a batch norm that starts at zero follows the last layer; in the "
            "paper the layer itself starts at zero (norm=False).",
        ),
    )
    axes = Axes("b n d", "b n m", output="b k", range="softmax")
    may_be_empty = ()  # a convolution takes no empty sequence

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
        one_of(("relu", None), activation=activation)
        if not dilations:
            raise ValueError("dilations must have one step at least, got none")
        for dilation in dilations:
            positive(dilations=dilation)
        embed_dim = channels * (len(dilations) + include_frames)
        hidden_dim = reduced(embed_dim, reduction)
        factory = {"device": device, "dtype": dtype}
        self.include_frames = include_frames
        self.near = nn.ModuleList(
            nn.Conv1d(
                channels,
                channels,
                kernel_size,
                padding=dilation * (kernel_size // 2),
                dilation=dilation,
                bias=False,
                **factory,
            )
            for dilation in dilations
        )

        def projection() -> nn.Module:
            layer = nn.Conv1d(embed_dim, hidden_dim, 1, **factory)
            if activation is None:
                return layer
            return nn.Sequential(layer, nn.BatchNorm1d(hidden_dim, **factory), nn.ReLU())

        self.theta, self.phi = projection(), projection()
        self.g = nn.Conv1d(embed_dim, hidden_dim, 1, **factory)
        self.out = nn.Conv1d(hidden_dim, embed_dim, 1, **factory)
        self.norm = nn.BatchNorm1d(embed_dim, **factory) if norm else nn.Identity()
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new parameters; the last layer starts at zero, so that attention adds nothing."""
        super().reset_parameters()
        last = self.out if isinstance(self.norm, nn.Identity) else self.norm
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def prepare(self, x: Tensor) -> Prepared:
        x = x.transpose(-2, -1)
        frames = [x] if self.include_frames else []
        f = torch.cat([*frames, *(convolve(x) for convolve in self.near)], 1)
        q, k, v = self.theta(f), self.phi(f), self.g(f)
        return f, q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)

    def attention(self, z: Prepared) -> Tensor:
        _, q, k, _ = z
        return pairwise.attention_weights(q, k)

    def combine(self, a: Tensor, z: Prepared) -> Tensor:
        f, _, _, v = z
        return self.pool(a @ v, f)

    def fused(self, z: Prepared) -> Tensor:
        f, q, k, v = z
        return self.pool(pairwise.scaled_dot_product(q, k, v), f)

    def pool(self, y: Tensor, f: Tensor) -> Tensor:
        """Add the attention's output y to f, and average over the frames."""
        return (f + self.norm(self.out(y.transpose(-2, -1)))).mean(2)
