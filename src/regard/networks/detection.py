"""Mask R-CNN with attention in its backbone."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..surgery import insert

# torchvision's mean and standard deviation of images, averaged over red, green and blue.
MEAN, STD = 0.449, 0.226
MAX_PROPOSALS, MAX_MASKS = 1000, 100  # per image, in torchvision


class MaskRCNN(nn.Module):
    """Torchvision's Mask R-CNN on a ResNet-50 with a feature pyramid, and attention in the ResNet.

    Inputs and outputs are those of torchvision's ``detector``: a list of images ``c h w``, in
    training also a list of targets. On the meta device, where no boxes can be detected, it returns
    the raw outputs for the maximum number of boxes, so that its cost can be counted.

    Args:
        num_classes: Number of classes, including the background.
        in_chans: Channels of an image.
        mechanism: A key or alias of the catalog; none is inserted if empty.
        at: Where to insert it in the ResNet, as in `regard.insert`.
        options: Options of the mechanism.

    Raises:
        ValueError: no module matches, or the mechanism does not fit.
        TypeError: the mechanism has no such option.
        ImportError: torchvision is not installed.

    >>> with torch.device("meta"):
    ...     net = MaskRCNN()
    >>> sum(p.numel() for p in net.parameters())
    46922434
    """

    def __init__(
        self,
        num_classes: int = 81,
        in_chans: int = 3,
        *,
        mechanism: str = "global_context",
        at: str = "layer[234].*.bn3",
        **options: Any,
    ) -> None:
        super().__init__()
        try:
            from torchvision.models.detection import maskrcnn_resnet50_fpn
        except ImportError as error:
            raise ImportError('MaskRCNN needs torchvision: pip install "regard[vision]"') from error
        normalization: dict[str, Any] = {}
        if in_chans != 3:
            normalization = {"image_mean": [MEAN] * in_chans, "image_std": [STD] * in_chans}
        # Without pretrained weights the norms are trained; with them, torchvision freezes them.
        self.detector: Any = maskrcnn_resnet50_fpn(
            weights=None, weights_backbone=None, num_classes=num_classes, **normalization
        )
        backbone = self.detector.backbone
        if in_chans != 3:
            backbone.body.conv1 = nn.Conv2d(in_chans, 64, 7, 2, 3, bias=False)
        if mechanism:
            example = torch.zeros(2, in_chans, 64, 64)
            backbone.body = insert(
                backbone.body, mechanism, at, start="paper", example_input=example, **options
            )

    def forward_features(self, x: Tensor) -> dict[str, Tensor]:
        """Return the maps of the feature pyramid, from fine to coarse."""
        return self.detector.backbone(x)

    def forward(self, images: Any, targets: Any = None) -> Any:
        """Return the detected objects, or in training the losses."""
        if images[0].is_meta:
            return self.raw_outputs(images)
        return self.detector(images, targets)

    def raw_outputs(self, x: Tensor) -> tuple[Any, ...]:
        """Return the raw outputs for the maximum number of boxes per image."""
        heads, maps = self.detector.roi_heads, [*self.forward_features(x).values()]
        boxes = maps[0].new_empty(len(x) * MAX_PROPOSALS, maps[0].shape[1], 7, 7)
        masks = maps[0].new_empty(len(x) * MAX_MASKS, maps[0].shape[1], 14, 14)
        return (
            *self.detector.rpn.head(maps),
            *heads.box_predictor(heads.box_head(boxes)),
            heads.mask_predictor(heads.mask_head(masks)),
        )
