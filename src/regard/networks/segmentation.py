"""Segmentation networks: a dilated encoder, an attention head, and the way back to the image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ..core import grid
from ..mechanisms.context_encoding import SemanticEncodingLoss
from . import heads

# What each output counts in the loss.
WEIGHTS = {"scores": 1.0, "position": 1.0, "channel": 1.0, "presence": 0.2, "auxiliary": 0.4}


class Segmenter(nn.Module):
    """Scores every pixel: an encoder, a head, and interpolation to the size of the image.

    Args:
        encoder: Gives a sequence of features, the last of which the head sees.
        head: Makes scores of them, or a tuple of scores and of more that only the loss reads.
        auxiliary: A head for the features before the last, that runs in training only.
        gives: What the head gives, by name; ``scores`` first.
        align_corners: Interpolate so that corners meet corners.

    Shape:
        x ``b c h w``, the scores ``b k h w``; in training a dictionary of all outputs.

    Raises:
        ValueError: the first output is no scores; in training, the head gives more outputs than
            have names, or fewer, or the encoder too few features.

    >>> class Encoder(nn.Conv2d):
    ...     def forward(self, x):
    ...         return [super().forward(x)]
    >>> net = Segmenter(Encoder(3, 16, 3, stride=8), heads.head("gcnet", 16, 5))
    >>> net.eval()(torch.randn(2, 3, 40, 33)).shape
    torch.Size([2, 5, 40, 33])
    """

    def __init__(
        self,
        encoder: nn.Module,
        head: nn.Module,
        auxiliary: nn.Module | None = None,
        *,
        gives: Sequence[str] = ("scores",),
        align_corners: bool = False,
    ) -> None:
        super().__init__()
        if not gives or gives[0] != "scores":
            raise ValueError(f"gives must begin with 'scores', got {gives!r}")
        self.encoder, self.head, self.auxiliary = encoder, head, auxiliary
        self.gives, self.align_corners = tuple(gives), align_corners

    def forward_features(self, x: Tensor) -> Tensor:
        """The features that the head sees."""
        return self.encoder(x)[-1]

    def forward(self, x: Tensor) -> Tensor | dict[str, Tensor]:
        """Score each class at each pixel; in training, give all that the loss reads."""
        *before, features = self.encoder(x)
        given = self.head(features)
        found = (given,) if isinstance(given, Tensor) else given
        if not self.training:
            return self.enlarge(found[0], x)
        if len(found) != len(self.gives):
            raise ValueError(
                f"the head must give {', '.join(self.gives)}, got {len(found)} outputs"
            )
        outputs = dict(zip(self.gives, found, strict=True))
        if self.auxiliary is not None:
            if not before:
                raise ValueError("auxiliary needs an encoder that gives two features, got one")
            outputs["auxiliary"] = self.auxiliary(before[-1])
        return {name: self.enlarge(y, x) if y.dim() == 4 else y for name, y in outputs.items()}

    def enlarge(self, y: Tensor, x: Tensor) -> Tensor:
        """Scores in the size of the image."""
        return grid.upsample_like(y, x, align_corners=self.align_corners)


def segmenter(
    num_classes: int = 19,
    in_chans: int = 3,
    *,
    head: str = "danet",
    backbone: str = "resnet50c",
    output_stride: int = 8,
    auxiliary: bool = True,
    pretrained: bool = False,
    align_corners: bool = False,
    dropout: float = 0.1,
    **options: Any,
) -> Segmenter:
    """A segmentation network: a ResNet that is dilated instead of shrinking, and a head.

    Args:
        num_classes: Classes of a pixel.
        in_chans: Channels of an image.
        head: One of `HEADS`.
        backbone: A network of timm that knows ``output_stride``. ``resnet50c`` has three
            convolutions of 32, 32 and 64 channels at its beginning, as most segmentation networks
            do; those of ``resnet50s`` have 64, 64 and 128.
        output_stride: By how much the features are smaller than the image: 8, 16 or 32.
        auxiliary: Have a convolutional head for the last but one features, too, that only training
            runs.
        pretrained: Let timm load the weights of the backbone.
        align_corners: Interpolate the scores so that corners meet corners.
        dropout: Rate of dropping whole channels before each classifier.
        options: Options of the head's mechanism.

    Raises:
        ValueError: no head is called so, or a size is refused.
        TypeError: the mechanism has no such option.
        ImportError: timm is not there.

    >>> with torch.device("meta"):
    ...     net = segmenter(21, head="ccnet").eval()
    >>> net(torch.empty(1, 3, 97, 65, device="meta")).shape
    torch.Size([1, 21, 97, 65])
    """
    try:
        import timm
    except ImportError as error:
        raise ImportError('segmenter needs timm: pip install "regard[vision]"') from error
    gives = heads.recipe_of(head).gives
    encoder = timm.create_model(
        backbone,
        pretrained=pretrained,
        in_chans=in_chans,
        features_only=True,
        out_indices=(-2, -1),
        output_stride=output_stride,
    )
    before, last = encoder.feature_info.channels()
    return Segmenter(
        encoder,
        heads.head(head, last, num_classes, dropout=dropout, **options),
        heads.head("fcn", before, num_classes, dropout=dropout) if auxiliary else None,
        gives=gives,
        align_corners=align_corners,
    )


def segmentation_loss(
    outputs: Mapping[str, Tensor],
    labels: Tensor,
    *,
    ignore: int = 255,
    weights: Mapping[str, float] | None = None,
) -> Tensor:
    """Add up how wrong the outputs of a `Segmenter` in training are.

    Args:
        outputs: What it gave.
        labels: The class of each pixel, ``b h w``.
        ignore: The label of pixels that do not count.
        weights: What each output counts, by name. By default all scores of the head count 1, those
            of the auxiliary head 0.4, the presence of classes 0.2.

    Raises:
        ValueError: an output has no weight.

    >>> scores = torch.zeros(1, 4, 2, 2)
    >>> labels = torch.tensor([[[0, 3], [255, 1]]])
    >>> segmentation_loss({"scores": scores, "auxiliary": scores}, labels)
    tensor(1.9408)
    """
    counts = {**WEIGHTS, **(weights or {})}
    if unknown := [name for name in outputs if name not in counts]:
        raise ValueError(f"no weight for the output {', '.join(unknown)}; weights={{…}} gives one")
    total = torch.zeros((), device=labels.device)
    for name, scores in outputs.items():
        if scores.dim() == 4:
            loss = cross_entropy(scores, labels, ignore_index=ignore)
        else:
            loss = SemanticEncodingLoss(scores.shape[1])(scores, labels)
        total = total + counts[name] * loss
    return total


def expectation_maximization_neck(in_chans: int = 2048) -> nn.Sequential:
    """What EMANet puts between its backbone and the layers that score: its paper counts it alone.

    Args:
        in_chans: Channels of the features, a multiple of 8.

    Raises:
        ValueError: it is no such multiple.

    >>> with torch.device("meta"):
    ...     neck = expectation_maximization_neck()
    >>> sum(p.numel() for p in neck.parameters())
    9996800
    """
    whole = heads.head("emanet", in_chans, 1)
    attention: Any = whole.attention
    bases = attention.bases
    del attention.bases  # a buffer; the paper counts it
    attention.bases = nn.Parameter(bases, requires_grad=False)
    return nn.Sequential(whole.before, attention)
