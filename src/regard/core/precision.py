"""Operations that must not run in half precision."""

from __future__ import annotations

import torch
from torch import Tensor

from .tracing import leaf


@leaf
def softmax(scores: Tensor, axis: int) -> Tensor:
    """Compute softmax in single precision at least, and return it in the scores' dtype."""
    wide = torch.promote_types(scores.dtype, torch.float32)
    return scores.softmax(axis, dtype=wide).to(scores.dtype)
