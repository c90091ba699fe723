"""I3D: a residual network inflated over time, with non-local blocks in its middle stages."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..core.check import one_of, positive
from ..mechanisms.non_local import NonLocal
from .classifier import Classifier, kaiming

# Blocks of each stage; of them, those whose first kernel spans three frames, and those that a
# non-local block follows.
LAYERS = (3, 4, 6, 3)
INFLATED = ((0, 1, 2), (0, 2), (0, 2, 4), (1,))
FOLLOWED = ((), (1, 3), (1, 3, 5), ())


class I3D(Classifier):
    """The classifier of videos of "Non-local Neural Networks": ResNet-50 on frames.

    The first convolution spans five frames, and the first one of every second block three. Frames
    are halved by the first convolution, by the pool behind it, and by another behind the first
    stage.

    Args:
        non_local: Put five `regard.NonLocal` blocks into the second and the third stage.
        form: How they compare two positions; see `regard.NonLocal`.
        num_classes: Scores of a video, 400 for Kinetics; 0 gives the averaged features.
        in_chans: Channels of a frame.
        width: Channels behind the first convolution; the stages have 4, 8, 16 and 32 times as many.
        drop_rate: Rate of dropping averaged features in training.
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
        form: Literal["embedded", "gaussian", "dot", "concat"] = "embedded",
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
            *_convolve(in_chans, width, (5, 7, 7), (2, 2, 2), **factory),
            nn.ReLU(),
            nn.MaxPool3d((1, 3, 3), 2, (0, 1, 1)),
        )
        stages = []
        before = width
        for i, number in enumerate(LAYERS):
            channels = width * 4 * 2**i
            blocks: list[nn.Module] = []
            for j in range(number):
                how = {"stride": 2 if i and j == 0 else 1, "span": 3 if j in INFLATED[i] else 1}
                blocks.append(_Bottleneck(before, channels, **how, **factory))
                before = channels
                if non_local and j in FOLLOWED[i]:
                    blocks.append(_relate(channels, form, **factory))
            if i == 0:
                blocks.append(nn.MaxPool3d((2, 1, 1)))
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.Sequential(*stages)
        self.reset_classifier(num_classes)
        kaiming(self)

    def forward_features(self, x: Tensor) -> Tensor:
        """The features before they are averaged: an eighth of the frames, a 32nd of each side."""
        return self.stages(self.stem(x))


def _convolve(
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


def _relate(channels: int, form: Any, **factory: Any) -> NonLocal:
    # As the equations: nothing divides the scores, and projections are pooled.
    block = NonLocal(channels, form=form, dims=3, subsample="projections", scaled=False, **factory)
    block.out.bias = None  # the norm behind it has one
    return block


class _Bottleneck(nn.Module):
    def __init__(self, channels: int, out: int, *, stride: int, span: int, **factory: Any) -> None:
        super().__init__()
        hidden, step = out // 4, (1, stride, stride)
        self.branch = nn.Sequential(
            *_convolve(channels, hidden, (span, 1, 1), **factory),
            nn.ReLU(),
            *_convolve(hidden, hidden, (1, 3, 3), step, **factory),
            nn.ReLU(),
            *_convolve(hidden, out, (1, 1, 1), **factory),
        )
        same = channels == out and stride == 1
        self.shortcut = nn.Sequential(
            *([] if same else _convolve(channels, out, (1, 1, 1), step, **factory))
        )

    def forward(self, x: Tensor) -> Tensor:
        return (self.branch(x) + self.shortcut(x)).relu()
