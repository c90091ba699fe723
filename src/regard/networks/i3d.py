"""I3D: a ResNet with kernels over time, and non-local blocks in its middle stages."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..core.check import one_of, positive
from ..mechanisms.non_local import NonLocal
from .classifier import Classifier, init_kaiming

Form = Literal["embedded", "gaussian", "dot", "concat"]

# Blocks of each stage; those whose first kernel spans three frames; those before a non-local block.
LAYERS = (3, 4, 6, 3)
INFLATED = ((0, 1, 2), (0, 2), (0, 2, 4), (1,))
BEFORE_NON_LOCAL = ((), (1, 3), (1, 3, 5), ())


class I3D(Classifier):
    """The video classifier of "Non-local Neural Networks": ResNet-50 on frames.

    The first convolution spans five frames, and the first one of every second block three. The
    number of frames is halved by the first convolution, by the pool after it, and by another after
    the first stage.

    Args:
        non_local: Insert five `regard.NonLocal` blocks into the second and the third stage.
        form: How they compare two positions, as in `regard.NonLocal`.
        num_classes: Number of scores, 400 for Kinetics; 0 returns the averaged features.
        in_chans: Channels of a frame.
        width: Channels after the first convolution; the stages have 4, 8, 16 and 32 times as many.
        drop_rate: Dropout rate of the averaged features.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c t h w``, the scores ``b k``.

    Raises:
        ValueError: a size is not positive, or the form is unknown.

    >>> I3D(num_classes=10, width=8)(torch.randn(1, 3, 8, 65, 48)).shape
    torch.Size([1, 10])
    >>> [sum(p.numel() for p in I3D(n, device="meta").parameters()) for n in (False, True)]
    [28043472, 35397840]
    """

    def __init__(
        self,
        non_local: bool = False,
        form: Form = "embedded",
        num_classes: int = 400,
        in_chans: int = 3,
        *,
        width: int = 64,
        drop_rate: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        positive(in_chans=in_chans, width=width)
        one_of(("embedded", "gaussian", "dot", "concat"), form=form)
        super().__init__(32 * width, drop_rate)
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self.stem = nn.Sequential(
            *_conv_norm(in_chans, width, (5, 7, 7), (2, 2, 2), **factory),
            nn.ReLU(),
            nn.MaxPool3d((1, 3, 3), 2, (0, 1, 1)),
        )
        stages = []
        in_channels = width
        for i, number in enumerate(LAYERS):
            channels = width * 4 * 2**i
            blocks: list[nn.Module] = []
            for j in range(number):
                options = {"stride": 2 if i and j == 0 else 1, "span": 3 if j in INFLATED[i] else 1}
                blocks.append(_Bottleneck(in_channels, channels, **options, **factory))
                in_channels = channels
                if non_local and j in BEFORE_NON_LOCAL[i]:
                    blocks.append(_non_local_block(channels, form, **factory))
            if i == 0:
                blocks.append(nn.MaxPool3d((2, 1, 1)))
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.Sequential(*stages)
        self.reset_classifier(num_classes)
        init_kaiming(self)

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the features before averaging, with 1/8 of the frames and 1/32 of each side."""
        return self.stages(self.stem(x))


def _conv_norm(
    channels: int,
    out: int,
    kernel: tuple[int, int, int],
    stride: tuple[int, int, int] = (1, 1, 1),
    **factory: Any,
) -> list[nn.Module]:
    t, h, w = kernel
    padding = t // 2, h // 2, w // 2
    convolution = nn.Conv3d(channels, out, kernel, stride, padding, bias=False, **factory)
    return [convolution, nn.BatchNorm3d(out, **factory)]


def _non_local_block(channels: int, form: Form, **factory: Any) -> NonLocal:
    # As in the equations: the scores are not scaled, and the projections are pooled.
    block = NonLocal(channels, form=form, dims=3, subsample="projections", scaled=False, **factory)
    block.out.bias = None  # the norm after it has one
    return block


class _Bottleneck(nn.Module):
    def __init__(self, channels: int, out: int, *, stride: int, span: int, **factory: Any) -> None:
        super().__init__()
        hidden, step = out // 4, (1, stride, stride)
        self.branch = nn.Sequential(
            *_conv_norm(channels, hidden, (span, 1, 1), **factory),
            nn.ReLU(),
            *_conv_norm(hidden, hidden, (1, 3, 3), step, **factory),
            nn.ReLU(),
            *_conv_norm(hidden, out, (1, 1, 1), **factory),
        )
        identity = channels == out and stride == 1
        self.shortcut = nn.Sequential(
            *([] if identity else _conv_norm(channels, out, (1, 1, 1), step, **factory))
        )

    def forward(self, x: Tensor) -> Tensor:
        return (self.branch(x) + self.shortcut(x)).relu()
