"""Vision Transformer, with the argument names of all networks."""

from __future__ import annotations

from typing import Any

from ..mechanisms.vision_transformer import VisionTransformer


def vision_transformer(
    num_classes: int = 1000, in_chans: int = 3, **options: Any
) -> VisionTransformer:
    """Build a `VisionTransformer`.

    Args:
        num_classes: Number of scores; 0 returns the features.
        in_chans: Channels of an image.
        options: Other arguments of the class.

    >>> vision_transformer(10, embed_dim=64, depth=1, num_heads=4).head
    Linear(in_features=64, out_features=10, bias=True)
    """
    return VisionTransformer(num_classes=num_classes or None, in_channels=in_chans, **options)
