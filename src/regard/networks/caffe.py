"""The original ResNet, in Caffe, whose bottlenecks have their stride on the first convolution.

Later code has it on the second one, which costs more MACs; papers that print 3.86 G for ResNet-50
count this form.
"""

from __future__ import annotations

from typing import Any

from torch import nn


def resnet(
    num_classes: int = 1000, in_chans: int = 3, *, depth: int = 50, **options: Any
) -> nn.Module:
    """Build a ResNet of bottlenecks whose first convolution has the stride.

    Args:
        num_classes: Number of scores; 0 returns the features.
        in_chans: Channels of an image.
        depth: 50, 101 or 152.
        options: Other arguments of timm's ResNet.

    Raises:
        ValueError: the depth is unknown.
        ImportError: timm is not installed.

    >>> resnet(10, depth=50, device="meta").layer2[0].conv1.stride
    (2, 2)
    """
    if depth not in (50, 101, 152):
        raise ValueError(f"depth must be 50, 101 or 152, got {depth}")
    try:
        import timm
    except ImportError as error:
        raise ImportError('resnet needs timm: pip install "regard[vision]"') from error
    model = timm.create_model(
        f"resnet{depth}", num_classes=num_classes, in_chans=in_chans, **options
    )
    for name, module in model.named_modules():
        if name.endswith(".conv2"):
            first = model.get_submodule(name.removesuffix("2") + "1")
            first.stride, module.stride = module.stride, first.stride
    return model
