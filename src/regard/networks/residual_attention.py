"""Residual Attention Network, with the argument names of all networks."""

from __future__ import annotations

from typing import Any

from torch import nn

from ..mechanisms.residual_attention_module import ResidualAttentionNetwork


def residual_attention_network(
    num_classes: int = 1000, in_chans: int = 3, **options: Any
) -> ResidualAttentionNetwork:
    """Build a `ResidualAttentionNetwork`.

    Args:
        num_classes: Number of scores; 0 returns the averaged features.
        in_chans: Channels of an image.
        options: Other arguments of the class.

    >>> residual_attention_network(10, stem_channels=8).classify
    Linear(in_features=256, out_features=10, bias=True)
    """
    model = ResidualAttentionNetwork(num_classes=num_classes or 1, in_channels=in_chans, **options)
    if num_classes == 0:
        model.set_submodule("classify", nn.Identity())
    return model
