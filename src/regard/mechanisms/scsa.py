"""SCSA: gates for rows and columns of several ranges, then one per channel by self-attention."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from ..core import grid, pairwise, precision
from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import divides, odd, one_of, positive

Gates = tuple[Tensor, Tensor, Tensor]


class SCSA(Attention):
    r"""Scales each position of each channel by a gate for its row, its column and its channel.

    .. math::
        a^h = \sigma\big(\mathrm{GN}[k_i * z^h_i]_i\big), \quad
        a^w = \sigma\big(\mathrm{GN}[k_i * z^w_i]_i\big), \quad
        x' = a^h \odot a^w \odot x

    .. math::
        [q; k; v] = [w_q; w_k; w_v] \odot \mathrm{GN}(P x'), \quad
        a^c = \sigma\big(\overline{\operatorname{softmax}(q k^\top / \sqrt d)\, v}\big), \quad
        y = a^c \odot x'

    where :math:`z^h` averages x along the width, :math:`z^w` along the height, both split into
    groups of channels i with a depthwise kernel :math:`k_i` each; P pools windows, the softmax is
    over the d channels of a head, and the bar averages over positions; section 3 of the
    paper.

    In bfloat16, the roundings of its layers add up to a little more than one percent.

    Args:
        channels: :math:`C`.
        num_heads: Heads of the self-attention of channels.
        window_size: Side of the windows of P; None for the whole image. Incomplete windows are
            left out.
        kernel_sizes: Length of each group's kernel, odd; as many as there are groups.
        qkv_bias: Give q, k and v a bias.
        pool: What P computes of a window, its ``mean`` or its ``max``.
        gate: How scores become gates: by a ``sigmoid``, or by a ``softmax`` over the rows, the
            columns and the channels.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, maps ``b c h 1``, ``b c 1 w`` and ``b c 1 1``, y as x.

    Raises:
        ValueError: a size is not positive, a kernel is even, the groups or heads do not divide the
            channels, or a choice is unknown.

    >>> SCSA(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = Card(
        title="Spatial and Channel Synergistic Attention",
        paper="SCSA: Exploring the Synergistic Effects Between Spatial and Channel Attention",
        authors="Yunzhong Si, Huiying Xu, Xinzhong Zhu, Wenhao Zhang, Yao Dong, Yuxing Chen, "
        "Hongbo Li",
        venue="Neurocomputing",
        year=2025,
        url="https://arxiv.org/abs/2407.05128",
        code="https://github.com/HZAI-ZJNU/SCSA",
        license="Apache-2.0",
        domain="channel+spatial",
        computes="pool+conv+matmul",
        applies="gate",
        kind="gate",
        cost=dict(time="n c", memory="n c"),
        aliases=("spatial_channel_synergistic", "smsa_pcsa", "smsa", "pcsa"),
        differs=(
            "The authors' down_sample_mode='recombination' calls a function that does not exist, "
            "and is left out.",
            "An image below the window, where the authors' pooling fails, is pooled whole.",
        ),
    )
    axes = Axes("b c h w", "h: b c h 1, w: b c 1 w, channel: b c 1 1", range="unit")

    def __init__(
        self,
        channels: int,
        num_heads: int = 8,
        *,
        window_size: int | None = 7,
        kernel_sizes: Sequence[int] = (3, 5, 7, 9),
        qkv_bias: bool = False,
        pool: Literal["mean", "max"] = "mean",
        gate: Literal["sigmoid", "softmax"] = "sigmoid",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=channels)
        divides(channels=channels, num_heads=num_heads)
        for kernel in kernel_sizes:
            odd(kernel_sizes=kernel)
        if not kernel_sizes or channels % len(kernel_sizes):
            raise ValueError(
                f"the number of kernel_sizes ({len(kernel_sizes)}) must divide channels "
                f"({channels})"
            )
        if window_size is not None:
            positive(window_size=window_size)
        one_of(("mean", "max"), pool=pool)
        one_of(("sigmoid", "softmax"), gate=gate)
        self.num_heads, self.window_size = num_heads, window_size
        self.pool, self.gate = pool, gate
        factory = {"device": device, "dtype": dtype}
        groups = len(kernel_sizes)
        self.width = width = channels // groups
        self.strips = nn.ModuleList(
            nn.Conv1d(width, width, k, padding=k // 2, groups=width, **factory)
            for k in kernel_sizes
        )
        self.norm_h = nn.GroupNorm(groups, channels, **factory)
        self.norm_w = nn.GroupNorm(groups, channels, **factory)
        self.norm = nn.GroupNorm(1, channels, **factory)
        # One weight for each channel: a depthwise convolution of a single position.
        self.weight = nn.Parameter(torch.empty(3, channels, **factory))
        self.bias = nn.Parameter(torch.empty(3, channels, **factory)) if qkv_bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new weights, those of q, k and v as for a depthwise convolution."""
        super().reset_parameters()
        nn.init.uniform_(self.weight, -1, 1)
        if self.bias is not None:
            nn.init.uniform_(self.bias, -1, 1)

    def attention(self, x: Tensor) -> Gates:
        h = self._strip(x.mean(3), self.norm_h).unsqueeze(3)
        w = self._strip(x.mean(2), self.norm_w).unsqueeze(2)
        z = self._pooled(x * h * w).flatten(2)  # b c n
        q, k, v = (self._scaled(z, i) for i in range(3))
        head = (self.num_heads, -1)
        a = pairwise.attention_weights(
            q.unflatten(1, head), k.unflatten(1, head), scale=(q.shape[1] // self.num_heads) ** -0.5
        )
        # The average of the products is the product with the average.
        scores = (a @ v.mean(2).unflatten(1, head).unsqueeze(3)).flatten(1)  # b c
        return h, w, self._gate(scores, 1)[:, :, None, None]

    def combine(self, a: Gates, x: Tensor) -> Tensor:
        h, w, channel = a
        return x * h * w * channel

    def _pooled(self, x: Tensor) -> Tensor:
        if self.window_size is None:
            x = x.mean((2, 3), keepdim=True)
        elif self.pool == "mean":
            x = grid.avg_pool(x, self.window_size)
        else:
            x = grid.max_pool(x, self.window_size)
        return grid.group_norm(self.norm, x)

    def _strip(self, z: Tensor, norm: nn.GroupNorm) -> Tensor:
        n = self.width
        parts = [strip(z[:, i * n : (i + 1) * n]) for i, strip in enumerate(self.strips)]
        z = torch.cat(parts, 1)
        return self._gate(grid.group_norm(norm, z), 2)

    def _scaled(self, z: Tensor, i: int) -> Tensor:
        z = z * self.weight[i, :, None]
        return z if self.bias is None else z + self.bias[i, :, None]

    def _gate(self, scores: Tensor, axis: int) -> Tensor:
        return scores.sigmoid() if self.gate == "sigmoid" else precision.softmax(scores, axis)
