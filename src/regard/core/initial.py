"""How projections of vision transformers start."""

from __future__ import annotations

from torch import nn


def small_projections(module: nn.Module) -> None:
    """Draw the weights of all linear layers with a small spread, and zero their biases.

    >>> layer = nn.Linear(64, 64)
    >>> small_projections(layer)
    >>> 0.01 < layer.weight.std().item() < 0.03, layer.bias.any().item()
    (True, False)
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.trunc_normal_(layer.weight, std=0.02)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
