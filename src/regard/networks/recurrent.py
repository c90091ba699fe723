"""Recurrent attention, with the argument names of all networks."""

from __future__ import annotations

from typing import Any

from ..mechanisms.recurrent_attention import RecurrentAttention


def recurrent_attention(
    num_classes: int = 10, in_chans: int = 1, **options: Any
) -> RecurrentAttention:
    """Build a `RecurrentAttention`.

    Args:
        num_classes: Number of scores.
        in_chans: Channels of an image.
        options: Other arguments of the class.

    >>> recurrent_attention(5, num_glimpses=8).classify
    Linear(in_features=256, out_features=5, bias=True)
    """
    return RecurrentAttention(in_chans, num_classes, **options)
