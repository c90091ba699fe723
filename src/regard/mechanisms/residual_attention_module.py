"""Residual attention: a trunk of features, and an hourglass beside it that gates each of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool2d, pad

from ..core import grid
from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import positive, reduced
from ..core.tracing import leaf


class ResidualAttentionModule(Attention):
    r"""Weighs each feature of a trunk by a mask that has seen the whole image, without losing any.

    .. math::
        y = u\big((1 + a) \odot T(z)\big), \quad
        a = \sigma\big(W_2\,\delta(\mathrm{BN}(W_1\,\delta(\mathrm{BN}(M(z)))))\big), \quad
        z = u(x)

    where every u is a residual unit (a bottleneck, norms and ReLUs before its convolutions), T is
    two of them, and :math:`\delta` is ReLU. M is an hourglass: it pools, with a unit after each
    pool and two at the bottom, and is brought back to the size of x by bilinear interpolation,
    with a unit beside and one after each step. Equations 3 and 4 and figure 2 of the paper, with
    its p = 1, t = 2, r = 1; `ResidualAttentionNetwork` is made of these modules.

    Args:
        channels: :math:`C`.
        reduction: The units have :math:`\lfloor C/r \rfloor` channels inside.
        levels: How often the mask is pooled: 3, 2 and 1 in the three stages of the network.
        ceil_mode: Let pooling windows reach over the lower and right edges, as in Caffe; otherwise
            they are centered on every other position, with padding all around.
        skip: Add the features of the way down, and at the end those of the trunk, to the enlarged
            ones.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, map ``b c h w``, y as x.

    Raises:
        ValueError: a size is not positive, the reduction leaves no channel.

    >>> ResidualAttentionModule(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = Card(
        title="Residual Attention",
        paper="Residual Attention Network for Image Classification",
        authors=(
            "Fei Wang, Mengqing Jiang, Chen Qian, Shuo Yang, Cheng Li, Honggang Zhang, Xiaogang "
            "Wang, Xiaoou Tang"
        ),
        venue="CVPR",
        year=2017,
        url="https://arxiv.org/abs/1704.06904",
        code="https://github.com/fwang91/residual-attention-network",
        license="none stated",
        domain="channel+spatial",
        computes="pool+conv",
        applies="gate",
        kind="gate",
        train_differs=True,
        cost=dict(time="n c^2", memory="n c"),
        aliases=("ran", "residual_attention", "residual_attention_network"),
        differs=(
            "A map of one row or column is pooled to itself; the authors' Caffe layer has no "
            "output for it.",
            "The re-implementation of tengshaofeng pads its pools (ceil_mode=False), adds the "
            "features of the way down and of the trunk to the mask (skip=True); the authors' "
            "models do neither.",
            "The paper also tries masks normalized over channels or positions (equations 5 and 6) "
            "and finds them worse; only the sigmoid of its networks is here.",
            "The re-implementation is told every size to enlarge to; here they follow the input.",
        ),
    )
    axes = Axes("b c h w", "b c h w", range="unit")

    def __init__(
        self,
        channels: int,
        reduction: int = 4,
        *,
        levels: int = 3,
        ceil_mode: bool = True,
        skip: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=channels)
        hidden = reduced(channels, reduction)
        positive(levels=levels)
        self.ceil_mode = ceil_mode
        self.skip = skip
        factory: dict[str, Any] = {"device": device, "dtype": dtype}

        def unit() -> _Unit:
            return _Unit(channels, channels, hidden, **factory)

        def mix() -> list[nn.Module]:
            mixed = nn.Conv2d(channels, channels, 1, bias=False, **factory)
            return [nn.BatchNorm2d(channels, **factory), nn.ReLU(), mixed]

        self.before = unit()
        self.trunk = nn.Sequential(unit(), unit())
        self.down = nn.ModuleList(unit() for _ in range(levels))
        self.bottom = unit()
        # The largest map first, as on the way down.
        self.beside = nn.ModuleList(unit() for _ in range(levels - 1))
        self.up = nn.ModuleList(unit() for _ in range(levels - 1))
        self.score = nn.Sequential(*mix(), *mix())
        self.after = unit()

    def prepare(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z = self.before(grid.check_norm_batch(x, type(self).__name__, self.training))
        return z, self.trunk(z)

    def attention(self, x: tuple[Tensor, Tensor]) -> Tensor:
        z, trunk = x
        passed = []
        y = z
        for unit in self.down:
            y = _halve(y, self.ceil_mode)
            passed.append(y := unit(grid.check_norm_batch(y, type(self).__name__, self.training)))
        y = self.bottom(passed.pop())
        for unit, beside in zip(reversed(self.up), reversed(self.beside), strict=True):
            larger = passed.pop()
            y = grid.upsample_like(y, larger) + beside(larger)
            y = unit(y + larger if self.skip else y)
        y = grid.upsample_like(y, z)
        return self.score(y + trunk if self.skip else y).sigmoid()

    def combine(self, a: Tensor, x: tuple[Tensor, Tensor]) -> Tensor:
        trunk = x[1]
        return self.after(trunk + a * trunk)


class ResidualAttentionNetwork(nn.Module):
    """The classifier of the paper: three stages of attention modules, each behind a residual unit.

    Table 2 of the paper, for images of 224 x 224 and any other size.

    Args:
        modules: Attention modules of each stage: (1, 1, 1) is the network of 56 layers, (1, 2, 3)
            the one of 92.
        num_classes: Scores of an image.
        in_channels: Channels of an image.
        stem_channels: Channels behind the first convolution; the stages have 4, 8, 16 and 32 times
            as many.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, the scores ``b k``.

    >>> ResidualAttentionNetwork(num_classes=10, stem_channels=8)(torch.randn(2, 3, 65, 48)).shape
    torch.Size([2, 10])
    >>> sum(p.numel() for p in ResidualAttentionNetwork(device="meta").parameters())
    31810728
    """

    def __init__(
        self,
        modules: Sequence[int] = (1, 1, 1),
        num_classes: int = 1000,
        *,
        in_channels: int = 3,
        stem_channels: int = 64,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        positive(num_classes=num_classes, in_channels=in_channels, stem_channels=stem_channels)
        if isinstance(modules, int) or len(modules) != 3:
            raise ValueError(f"modules must be three numbers, one for each stage, got {modules!r}")
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, stem_channels, 7, 2, 3, bias=False, **factory),
            nn.BatchNorm2d(stem_channels, **factory),
            nn.ReLU(),
        )
        stages = []
        before = stem_channels
        for i, number in enumerate(modules):
            positive(modules=number)
            channels = stem_channels * 4 * 2**i
            unit = _Unit(before, channels, channels // 4, stride=2 if i else 1, **factory)
            attentions = (
                ResidualAttentionModule(channels, levels=3 - i, **factory) for _ in range(number)
            )
            stages.append(nn.Sequential(unit, *attentions))
            before = channels
        self.stages = nn.Sequential(*stages)
        last, hidden = 2 * before, before // 2
        self.last = nn.Sequential(
            _Unit(before, last, hidden, stride=2, **factory),
            _Unit(last, last, hidden, **factory),
            _Unit(last, last, hidden, **factory),
            nn.BatchNorm2d(last, **factory),
            nn.ReLU(),
        )
        self.classify = nn.Linear(last, num_classes, **factory)

    def forward_features(self, x: Tensor) -> Tensor:
        """The features before they are averaged, a 32nd of the image's height and width."""
        return self.last(self.stages(_halve(self.stem(x), True)))

    def forward(self, x: Tensor) -> Tensor:
        """Score each class."""
        return self.classify(grid.mean(self.forward_features(x)))


class _Unit(nn.Module):
    """A residual bottleneck whose norms and ReLUs come before its convolutions."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        hidden: int,
        *,
        stride: int = 1,
        **factory: Any,
    ) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(in_channels, **factory)
        self.branch = nn.Sequential(
            nn.Conv2d(in_channels, hidden, 1, bias=False, **factory),
            nn.BatchNorm2d(hidden, **factory),
            nn.ReLU(),
            nn.Conv2d(hidden, hidden, 3, stride, 1, bias=False, **factory),
            nn.BatchNorm2d(hidden, **factory),
            nn.ReLU(),
            nn.Conv2d(hidden, out_channels, 1, bias=False, **factory),
        )
        self.same = in_channels == out_channels and stride == 1
        if not self.same:
            self.project = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False, **factory)

    def forward(self, x: Tensor) -> Tensor:
        z = self.norm(x).relu()
        return (x if self.same else self.project(z)) + self.branch(z)


@leaf
def _halve(x: Tensor, ceil_mode: bool) -> Tensor:
    if not ceil_mode:
        return max_pool2d(x, 3, 2, 1)
    h, w = x.shape[2:]
    if h == 1 or w == 1:  # too thin for any window: give it an empty row or column
        x = pad(x, (0, int(w == 1), 0, int(h == 1)), value=-torch.inf)
    return max_pool2d(x, 3, 2, ceil_mode=True)
