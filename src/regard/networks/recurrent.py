"""Recurrent attention under the arguments that all networks take."""

from __future__ import annotations

from typing import Any

from ..mechanisms.recurrent_attention import RecurrentAttention


def recurrent_attention(
    num_classes: int = 10, in_chans: int = 1, **options: Any
) -> RecurrentAttention:
    """A `RecurrentAttention`.

    Args:
        num_classes: Classes to score.
        in_chans: Channels of an image.
        options: All other arguments of the class.

    >>> recurrent_attention(5, num_glimpses=8).classify
    Linear(in_features=256, out_features=5, bias=True)
    """
    return RecurrentAttention(in_chans, num_classes, **options)
