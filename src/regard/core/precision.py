"""What must not be computed in half precision."""

from __future__ import annotations

import torch
from torch import Tensor

from .tracing import leaf


@leaf
def softmax(scores: Tensor, axis: int) -> Tensor:
    """Softmax in single precision at least, given back in the precision of the scores."""
    wide = torch.promote_types(scores.dtype, torch.float32)
    return scores.softmax(axis, dtype=wide).to(scores.dtype)
