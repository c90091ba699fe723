"""Batch norm that leaves its running statistics alone, for a layer that runs twice in a step."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import batch_norm


def uncounted(layer: nn.Module, x: Tensor) -> Tensor:
    """Run a convolution, batch norm and what follows, without counting the batch.

    A map that depends on a layer's output needs that layer before it, and the output of the
    mechanism needs it again: its statistics must not count the same batch twice.
    """
    conv, norm, *rest = layer.children()
    y = conv(x)
    if isinstance(norm, nn.modules.batchnorm._BatchNorm) and norm.training:
        y = batch_norm(y, None, None, norm.weight, norm.bias, True, eps=norm.eps)
    else:
        y = norm(y)
    for part in rest:
        y = part(y)
    return y
