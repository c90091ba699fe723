"""ResT: a transformer of stages of decreasing resolution, with reduced keys and values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..core.check import divides, positive
from ..mechanisms.efficient_multi_head import EfficientMultiHead
from .classifier import Classifier

REDUCTIONS = (8, 4, 2, 1)


class ResT(Classifier):
    """The classifier of "ResT: An Efficient Transformer for Visual Recognition".

    Four stages of `regard.EfficientMultiHead` and MLPs, each after a convolution that halves the
    resolution and a gate that encodes positions, which works for images of any size.

    Args:
        layers: Blocks of each stage: (2, 2, 2, 2) is ResT-Lite, (2, 2, 6, 2) ResT-Small and, with a
            width of 96, ResT-Base, (2, 2, 18, 2) with that width ResT-Large.
        width: Channels of the first stage; each next one has twice as many, and twice the heads.
        num_classes: Number of scores; 0 returns the averaged features.
        in_chans: Channels of an image.
        drop_rate: Dropout rate of the averaged features.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, the scores ``b k``.

    Raises:
        ValueError: a size is not positive, the width is odd, or there are not four stages.

    >>> ResT(width=8, num_classes=10)(torch.randn(2, 3, 65, 48)).shape
    torch.Size([2, 10])
    >>> sum(p.numel() for p in ResT(device="meta").parameters())
    10508300
    """

    def __init__(
        self,
        layers: Sequence[int] = (2, 2, 2, 2),
        width: int = 64,
        num_classes: int = 1000,
        in_chans: int = 3,
        *,
        drop_rate: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        positive(in_chans=in_chans, width=width)
        divides(width=width, halves=2)
        if len(layers) != len(REDUCTIONS):
            raise ValueError(f"layers must be {len(REDUCTIONS)} numbers, got {layers!r}")
        super().__init__(8 * width, drop_rate)
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self.stem = nn.Sequential(
            *_conv_norm(in_chans, width // 2, 2, **factory),
            nn.ReLU(),
            *_conv_norm(width // 2, width // 2, 1, **factory),
            nn.ReLU(),
            nn.Conv2d(width // 2, width, 3, 2, 1, bias=False, **factory),
            _PositionGate(width, **factory),
        )
        stages: list[nn.Module] = []
        for i, number in enumerate(layers):
            positive(layers=number)
            channels, num_heads = width * 2**i, 2**i
            downsample: list[nn.Module] = []
            if i:
                downsample = _conv_norm(channels // 2, channels, 2, bias=True, **factory)
                downsample.append(_PositionGate(channels, **factory))
            blocks = (_Block(channels, num_heads, REDUCTIONS[i], **factory) for _ in range(number))
            stages.append(nn.Sequential(*downsample, *blocks))
        self.stages = nn.Sequential(*stages)
        self.norm = nn.BatchNorm2d(self.num_features, **factory)
        self.reset_classifier(num_classes)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the features before averaging, with 1/32 of the image's height and width."""
        return self.norm(self.stages(self.stem(x)))


def _conv_norm(
    channels: int, out: int, stride: int, *, bias: bool = False, **factory: Any
) -> list[nn.Module]:
    convolution = nn.Conv2d(channels, out, 3, stride, 1, bias=bias, **factory)
    return [convolution, nn.BatchNorm2d(out, **factory)]


class _PositionGate(nn.Module):
    """Gates by a convolution, whose padding at the edges encodes positions."""

    def __init__(self, channels: int, **factory: Any) -> None:
        super().__init__()
        self.gate = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, **factory)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x).sigmoid()


class _Block(nn.Module):
    """Attention and an MLP, each with a norm before it and a residual connection."""

    def __init__(self, channels: int, num_heads: int, reduction: int, **factory: Any) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(channels, **factory)
        self.attention = EfficientMultiHead(channels, num_heads, reduction, **factory)
        self.mlp_norm = nn.LayerNorm(channels, **factory)
        self.mlp = nn.Sequential(
            nn.Linear(channels, 4 * channels, **factory),
            nn.GELU(),
            nn.Linear(4 * channels, channels, **factory),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1)  # b h w c
        z = self.attention_norm(x).permute(0, 3, 1, 2)
        x = x + self.attention(z).permute(0, 2, 3, 1)
        return (x + self.mlp(self.mlp_norm(x))).permute(0, 3, 1, 2)
