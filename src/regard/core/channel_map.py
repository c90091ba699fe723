"""Attention between channels: a map from each channel of a head to the others."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import normalize

from .precision import matmul, softmax, widen
from .tracing import leaf


@leaf
def cosine_weights(q: Tensor, k: Tensor, temperature: Tensor) -> Tensor:
    """Return the map ``… d e`` between channels: softmax of their cosines over all positions.

    Args:
        q: Queries ``… d n``.
        k: Keys ``… e n``.
        temperature: Multiplies the cosines.
    """
    q_unit, k_unit = (normalize(widen(t), dim=-1) for t in (q, k))
    return softmax(matmul(q_unit, k_unit.transpose(-2, -1)) * temperature, -1, q.dtype)
