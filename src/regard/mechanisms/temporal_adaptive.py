"""Temporal adaptive module: a gate per frame and a temporal kernel per channel and clip."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from ..core import precision
from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import odd, positive, reduced
from ..core.tracing import leaf


class TemporalAdaptive(Attention):
    r"""Scales each frame of each channel by a gate, then convolves each channel over time.

    .. math::
        y_{ct} = \textstyle\sum_k w_{ck}\, a_{c,t+k}\, x_{c,t+k}, \quad
        a = \sigma\big(V_2 * \delta(\mathrm{BN}(V_1 * \bar x))\big), \quad
        w_c = \operatorname{softmax}\big(W_2\,\delta(\mathrm{BN}(W_1 \bar x_c))\big)

    where the bar averages over height and width, :math:`V_1` and :math:`V_2` convolve over time
    (kernel sizes K and 1) and mix channels, :math:`W_1` and :math:`W_2` mix the frames of one
    channel and are shared by all channels, and :math:`\delta` is ReLU; section 3 of the paper,
    where the module follows the first convolution of each residual block.

    Args:
        channels: :math:`C`.
        num_frames: :math:`T`, the number of frames, which fixes the size of :math:`W_1`.
        kernel_size: :math:`K`, odd.
        reduction: The gate has :math:`\lfloor C/r \rfloor` hidden channels.
        expansion: :math:`W_1` has this times :math:`T` output units.
        kernel_norm: Put a batch norm between :math:`W_1` and :math:`W_2`.
        folded: Take the frames as a batch of images, clip after clip, as networks for images do.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c t h w``, or ``s c h w`` if folded (b t images); maps gate ``b c t`` and kernel
        ``b c k``, y as x.

    Raises:
        ValueError: a size is not positive, the kernel is even, or the reduction leaves no hidden
            channel; in training, batch and clip have a single frame.

    >>> TemporalAdaptive(64, num_frames=4)(torch.randn(2, 64, 4, 9, 7)).shape
    torch.Size([2, 64, 4, 9, 7])
    >>> TemporalAdaptive(64, num_frames=4, folded=True)(torch.randn(8, 64, 9, 7)).shape
    torch.Size([8, 64, 9, 7])
    """

    card = Card(
        title="Temporal Adaptive Module",
        paper="TAM: Temporal Adaptive Module for Video Recognition",
        authors="Zhaoyang Liu, Limin Wang, Wayne Wu, Chen Qian, Tong Lu",
        venue="ICCV",
        year=2021,
        url="https://arxiv.org/abs/2005.06803",
        code="https://github.com/liu-zhy/temporal-adaptive-module",
        license="Apache-2.0",
        domain="temporal",
        computes="pool+fc+conv",
        applies="gate+matmul",
        kind="gate",
        train_differs=True,
        cost=dict(time="n c + c^2", memory="n c"),
        aliases=("tam", "tanet", "temporal_adaptive_module"),
        differs=(
            "The authors' code has a batch norm between the two layers of the kernel, which the "
            "paper's equation does not show (kernel_norm=False).",
            "The authors' code takes the frames as a batch of images (folded=True).",
            "The authors' code has arguments for stride and padding, each of which works with one "
            "value only.",
        ),
    )
    axes = Axes("b c t h w", "gate: b c t, kernel: b c k", range="unit")

    def __init__(
        self,
        channels: int,
        num_frames: int = 8,
        *,
        kernel_size: int = 3,
        reduction: int = 4,
        expansion: int = 2,
        kernel_norm: bool = True,
        folded: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        positive(num_frames=num_frames, expansion=expansion)
        if folded:
            super().__init__(c=channels)
            self.divisors = {"s": num_frames}
            self.axes = replace(self.axes, input="s c h w", output="s c h w")
        else:
            super().__init__(c=channels, t=num_frames)
        odd(kernel_size=kernel_size)
        hidden_channels, hidden_frames = reduced(channels, reduction), expansion * num_frames
        self.num_frames, self.folded = num_frames, folded
        factory = {"device": device, "dtype": dtype}
        self.gate = nn.Sequential(
            nn.Conv1d(
                channels,
                hidden_channels,
                kernel_size,
                padding=kernel_size // 2,
                bias=False,
                **factory,
            ),
            nn.BatchNorm1d(hidden_channels, **factory),
            nn.ReLU(),
            nn.Conv1d(hidden_channels, channels, 1, bias=False, **factory),
        )
        self.kernel = nn.Sequential(
            nn.Linear(num_frames, hidden_frames, bias=False, **factory),
            nn.BatchNorm1d(hidden_frames, **factory) if kernel_norm else nn.Identity(),
            nn.ReLU(),
            nn.Linear(hidden_frames, kernel_size, bias=False, **factory),
        )

    def attention(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z = x.mean((-2, -1))  # b c t, or (b t) c
        if self.folded:
            z = z.unflatten(0, (-1, self.num_frames)).transpose(-2, -1)
        scores = self.kernel(z.flatten(0, 1)).unflatten(0, (-1, z.shape[1]))  # b c k
        return self.gate(z).sigmoid(), precision.softmax(scores, 2)

    def combine(self, a: tuple[Tensor, Tensor], x: Tensor) -> Tensor:
        # Gate and convolution as one t x t matrix per channel: one pass over x instead of two.
        gate, kernel = a
        matrix = _band_matrix(kernel, self.num_frames) * gate.unsqueeze(2)  # b c t t
        if not self.folded:
            return (matrix @ x.flatten(3)).unflatten(3, x.shape[3:])
        clips = x.unflatten(0, (-1, self.num_frames)).transpose(1, 2)  # b c t h w
        return _fold((matrix @ clips.flatten(3)).unflatten(3, x.shape[2:]), x)


@leaf
def _band_matrix(kernel: Tensor, num_frames: int) -> Tensor:
    """Return the zero-padded convolution over time with ``b c k`` as matrices ``b c t t``."""
    size = kernel.shape[2]
    t = torch.arange(num_frames, device=kernel.device)
    k = t - t[:, None] + size // 2
    inside = (k >= 0) & (k < size)
    entries = kernel.index_select(2, k.clamp(0, size - 1).flatten())
    return entries.unflatten(2, (num_frames, num_frames)) * inside


@leaf
def _fold(y: Tensor, like: Tensor) -> Tensor:
    """Turn clips ``b c t h w`` into images ``s c h w``, in the memory format of ``like``."""
    channels_last = like.is_contiguous(memory_format=torch.channels_last)
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    return y.transpose(1, 2).flatten(0, 1).contiguous(memory_format=memory_format)
