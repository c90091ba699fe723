"""Mask R-CNN with attention in its backbone."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..surgery import insert

# The mean over red, green and blue of what torchvision normalizes images by.
MEAN, SPREAD = 0.449, 0.226
PROPOSALS, MASKS = 1000, 100  # the most that torchvision looks at in an image


class MaskRCNN(nn.Module):
    """Torchvision's Mask R-CNN on a ResNet-50 with a feature pyramid, and attention in the ResNet.

    It takes and gives what torchvision's ``detector`` does: a list of images ``c h w``, in training
    also a list of targets. On the meta device, where no box can be found, it gives the raw outputs
    for as many boxes as there may be, so that its cost can be counted.

    Args:
        num_classes: Classes, the background among them.
        in_chans: Channels of an image.
        mechanism: A key or alias of the catalog; nothing is inserted if empty.
        at: Where in the ResNet, as in `regard.insert`.
        options: Options of the mechanism.

    Raises:
        ValueError: nothing matches, or cannot carry the mechanism.
        TypeError: the mechanism has no such option.
        ImportError: torchvision is not there.

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
        images: dict[str, Any] = {}
        if in_chans != 3:
            images = {"image_mean": [MEAN] * in_chans, "image_std": [SPREAD] * in_chans}
        # Without weights its norms learn; torchvision freezes them with the weights it knows.
        self.detector: Any = maskrcnn_resnet50_fpn(
            weights=None, weights_backbone=None, num_classes=num_classes, **images
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
        """The maps of the feature pyramid, from fine to coarse."""
        return self.detector.backbone(x)

    def forward(self, images: Any, targets: Any = None) -> Any:
        """Find the objects, or in training the losses."""
        if images[0].is_meta:
            return self.count(images)
        return self.detector(images, targets)

    def count(self, x: Tensor) -> tuple[Any, ...]:
        """The raw outputs for as many boxes as an image may have."""
        heads, maps = self.detector.roi_heads, [*self.forward_features(x).values()]
        boxes = maps[0].new_empty(len(x) * PROPOSALS, maps[0].shape[1], 7, 7)
        masks = maps[0].new_empty(len(x) * MASKS, maps[0].shape[1], 14, 14)
        return (
            *self.detector.rpn.head(maps),
            *heads.box_predictor(heads.box_head(boxes)),
            heads.mask_predictor(heads.mask_head(masks)),
        )
