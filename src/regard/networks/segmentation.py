"""Segmentation networks: a dilated encoder, an attention head, and upsampling to the image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ..core import grid
from ..mechanisms.context_encoding import SemanticEncodingLoss
from . import heads

# Weight of each output in the loss.
WEIGHTS = {"scores": 1.0, "position": 1.0, "channel": 1.0, "presence": 0.2, "auxiliary": 0.4}


class Segmenter(nn.Module):
    """Scores every pixel: an encoder, a head, and interpolation to the size of the image.

    Args:
        encoder: Returns a sequence of features, the last of which is the input of the head.
        head: Returns scores, or a tuple of scores and of outputs that only the loss uses.
        auxiliary: A head for the second-to-last features, used in training only.
        output_names: Names of the outputs of the head; ``scores`` first.
        align_corners: Align the corners of scores and image, as in torch's ``interpolate``.

    Shape:
        x ``b c h w``, the scores ``b k h w``; in training a dictionary of all outputs.

    Raises:
        ValueError: the first output is not ``scores``; in training, the outputs of the head do not
            match their names, or the encoder returns too few features.

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
        output_names: Sequence[str] = ("scores",),
        align_corners: bool = False,
    ) -> None:
        super().__init__()
        if not output_names or output_names[0] != "scores":
            raise ValueError(f"output_names must start with 'scores', got {output_names!r}")
        self.encoder, self.head, self.auxiliary = encoder, head, auxiliary
        self.output_names, self.align_corners = tuple(output_names), align_corners

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the features for the head."""
        return self.encoder(x)[-1]

    def forward(self, x: Tensor) -> Tensor | dict[str, Tensor]:
        """Score each class at each pixel; in training, return all outputs for the loss."""
        *earlier, features = self.encoder(x)
        y = self.head(features)
        values = (y,) if isinstance(y, Tensor) else y
        if not self.training:
            return self.upsample(values[0], x)
        if len(values) != len(self.output_names):
            raise ValueError(
                f"the head must return {', '.join(self.output_names)}, got {len(values)} outputs"
            )
        outputs = dict(zip(self.output_names, values, strict=True))
        if self.auxiliary is not None:
            if not earlier:
                raise ValueError("auxiliary needs an encoder that returns two features, got one")
            outputs["auxiliary"] = self.auxiliary(earlier[-1])
        return {name: self.upsample(y, x) if y.dim() == 4 else y for name, y in outputs.items()}

    def upsample(self, y: Tensor, x: Tensor) -> Tensor:
        """Interpolate scores to the size of the image."""
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
    """Build a segmentation network: a ResNet with dilation instead of late strides, and a head.

    Args:
        num_classes: Number of classes.
        in_chans: Channels of an image.
        head: One of `HEADS`.
        backbone: A network of timm that supports ``output_stride``. ``resnet50c`` has a stem of
            three convolutions of 32, 32 and 64 channels, as most segmentation networks do; those of
            ``resnet50s`` have 64, 64 and 128.
        output_stride: Ratio of the sizes of image and features: 8, 16 or 32.
        auxiliary: Add a convolutional head for the second-to-last features, used in training only.
        pretrained: Load timm's pretrained weights of the backbone.
        align_corners: As in `Segmenter`.
        dropout: Dropout rate of whole channels before each classifier.
        options: Options of the head's mechanism.

    Raises:
        ValueError: no head has this name, or a size is invalid.
        TypeError: the mechanism has no such option.
        ImportError: timm is not installed.

    >>> with torch.device("meta"):
    ...     net = segmenter(21, head="ccnet").eval()
    >>> net(torch.empty(1, 3, 97, 65, device="meta")).shape
    torch.Size([1, 21, 97, 65])
    """
    try:
        import timm
    except ImportError as error:
        raise ImportError('segmenter needs timm: pip install "regard[vision]"') from error
    output_names = heads.head_spec(head).outputs
    encoder = timm.create_model(
        backbone,
        pretrained=pretrained,
        in_chans=in_chans,
        features_only=True,
        out_indices=(-2, -1),
        output_stride=output_stride,
    )
    earlier, last = encoder.feature_info.channels()
    return Segmenter(
        encoder,
        heads.head(head, last, num_classes, dropout=dropout, **options),
        heads.head("fcn", earlier, num_classes, dropout=dropout) if auxiliary else None,
        output_names=output_names,
        align_corners=align_corners,
    )


def segmentation_loss(
    outputs: Mapping[str, Tensor],
    labels: Tensor,
    *,
    ignore: int = 255,
    weights: Mapping[str, float] | None = None,
) -> Tensor:
    """Return the weighted sum of the losses of a `Segmenter`'s outputs in training.

    Args:
        outputs: The outputs, by name.
        labels: The class of each pixel, ``b h w``.
        ignore: Label of pixels to ignore.
        weights: Weight of each output, by name. The default is 1 for all scores of the head, 0.4
            for those of the auxiliary head, and 0.2 for the presence of classes.

    Raises:
        ValueError: an output has no weight.

    >>> scores = torch.zeros(1, 4, 2, 2)
    >>> labels = torch.tensor([[[0, 3], [255, 1]]])
    >>> segmentation_loss({"scores": scores, "auxiliary": scores}, labels)
    tensor(1.9408)
    """
    weights = {**WEIGHTS, **(weights or {})}
    if unknown := [name for name in outputs if name not in weights]:
        raise ValueError(
            f"no weight for the output {', '.join(unknown)}; pass one in weights={{…}}"
        )
    total = torch.zeros((), device=labels.device)
    for name, scores in outputs.items():
        if scores.dim() == 4:
            loss = cross_entropy(scores, labels, ignore_index=ignore)
        else:
            loss = SemanticEncodingLoss(scores.shape[1])(scores, labels)
        total = total + weights[name] * loss
    return total


def expectation_maximization_neck(in_chans: int = 2048) -> nn.Sequential:
    """Build the layers of EMANet between backbone and classifier, which its paper counts alone.

    Args:
        in_chans: Channels of the features, a multiple of 8.

    Raises:
        ValueError: ``in_chans`` is not a multiple of 8.

    >>> with torch.device("meta"):
    ...     neck = expectation_maximization_neck()
    >>> sum(p.numel() for p in neck.parameters())
    9996800
    """
    head = heads.head("emanet", in_chans, 1)
    attention: Any = head.attention
    bases = attention.bases
    del attention.bases  # a buffer; as a parameter it is counted, as in the paper
    attention.bases = nn.Parameter(bases, requires_grad=False)
    return nn.Sequential(head.before, attention)
