"""Residual Attention Network under the arguments that all networks take."""

from __future__ import annotations

from typing import Any

from torch import nn

from ..mechanisms.residual_attention_module import ResidualAttentionNetwork


def residual_attention_network(
    num_classes: int = 1000, in_chans: int = 3, **options: Any
) -> ResidualAttentionNetwork:
    """A `ResidualAttentionNetwork`.

    Args:
        num_classes: Scores of an image; 0 gives the averaged features.
        in_chans: Channels of an image.
        options: All other arguments of the class.

    >>> residual_attention_network(10, stem_channels=8).classify
    Linear(in_features=256, out_features=10, bias=True)
    """
    model = ResidualAttentionNetwork(num_classes=num_classes or 1, in_channels=in_chans, **options)
    if num_classes == 0:
        model.set_submodule("classify", nn.Identity())
    return model
