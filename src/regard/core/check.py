"""Checks of constructor arguments, with uniform error messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import SupportsIndex


def positive(**sizes: int) -> None:
    """Raise `ValueError` if a size is not a positive integer.

    >>> positive(channels=0)
    Traceback (most recent call last):
    ValueError: channels must be a positive integer, got 0
    """
    for name, size in sizes.items():
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise ValueError(f"{name} must be a positive integer, got {size!r}")


def odd(**sizes: int) -> None:
    """Raise `ValueError` if a size is not positive and odd.

    >>> odd(kernel_size=4)
    Traceback (most recent call last):
    ValueError: kernel_size must be odd, got 4
    """
    positive(**sizes)
    for name, size in sizes.items():
        if size % 2 == 0:
            raise ValueError(f"{name} must be odd, got {size}")


def divides(**pair: int) -> None:
    """Raise `ValueError` if the second size does not divide the first.

    >>> divides(channels=10, groups=4)
    Traceback (most recent call last):
    ValueError: groups (4) must divide channels (10)
    """
    positive(**pair)
    (whole, n), (part, d) = pair.items()
    if n % d:
        raise ValueError(f"{part} ({d}) must divide {whole} ({n})")


def reduced(channels: int, reduction: int, hidden_dim: int | None = None) -> int:
    """Return the width of a bottleneck: ``hidden_dim``, or ``channels // reduction`` if None.

    Raises:
        ValueError: a size is not positive, or no channels would be left.

    >>> reduced(64, 16), reduced(64, 16, hidden_dim=8)
    (4, 8)
    >>> reduced(8, 16)
    Traceback (most recent call last):
    ValueError: reduction (16) must not be larger than channels (8): nothing would be left
    """
    positive(channels=channels, reduction=reduction)
    if hidden_dim is not None:
        positive(hidden_dim=hidden_dim)
        return hidden_dim
    if reduction > channels:
        raise ValueError(
            f"reduction ({reduction}) must not be larger than channels ({channels}): "
            "nothing would be left"
        )
    return channels // reduction


def head_dims(
    num_heads: int, head_dim: int | None, value_head_dim: int | None, **embed_dim: int
) -> tuple[int, int]:
    """Return the channels of a head's keys and of its values.

    By default they are ``embed_dim / num_heads``; for values, those of the keys.

    Raises:
        ValueError: a size is not positive, or ``num_heads`` does not divide ``embed_dim``.

    >>> head_dims(4, None, None, embed_dim=32), head_dims(4, 16, 5, embed_dim=32)
    ((8, 8), (16, 5))
    >>> head_dims(5, None, None, embed_dim=32)
    Traceback (most recent call last):
    ValueError: num_heads (5) must divide embed_dim (32)
    """
    positive(**embed_dim, num_heads=num_heads)
    if head_dim is None:
        divides(**embed_dim, num_heads=num_heads)
        ((_, width),) = embed_dim.items()
        head_dim = width // num_heads
    value_head_dim = head_dim if value_head_dim is None else value_head_dim
    positive(head_dim=head_dim, value_head_dim=value_head_dim)
    return head_dim, value_head_dim


def one_of(choices: Sequence[object], **given: object) -> None:
    """Raise `ValueError` if a value is not among the choices.

    >>> one_of(("add", "max"), fusion="sum")
    Traceback (most recent call last):
    ValueError: fusion must be one of 'add', 'max', got 'sum'
    """
    for name, value in given.items():
        if value not in choices:
            listed = ", ".join(map(repr, choices))
            raise ValueError(f"{name} must be one of {listed}, got {value!r}")


def above_zero(**values: float) -> None:
    """Raise `ValueError` if a number is not above zero.

    >>> above_zero(eps=0.0)
    Traceback (most recent call last):
    ValueError: eps must be above zero, got 0.0
    """
    for name, value in values.items():
        if not value > 0:
            raise ValueError(f"{name} must be above zero, got {value!r}")


def probability(**values: float) -> None:
    """Raise `ValueError` if a rate is outside [0, 1).

    >>> probability(dropout=1.5)
    Traceback (most recent call last):
    ValueError: dropout must be at least 0 and below 1, got 1.5
    """
    for name, value in values.items():
        if not 0 <= value < 1:
            raise ValueError(f"{name} must be at least 0 and below 1, got {value!r}")


def per_axis(dims: int, least: int, **size: SupportsIndex | Sequence[int]) -> tuple[int, ...]:
    """Return one integer for each axis, from a single one or a sequence.

    Raises:
        ValueError: a number is below ``least``, or the sequence has another length than ``dims``.

    >>> per_axis(2, 1, stride=3), per_axis(2, 0, padding=(1, 0))
    ((3, 3), (1, 0))
    >>> per_axis(2, 1, stride=0)
    Traceback (most recent call last):
    ValueError: stride must be 1 or more, or 2 such numbers, got 0
    """
    ((name, given),) = size.items()
    numbers = tuple(given) if isinstance(given, Sequence) else (given,) * dims
    whole = all(isinstance(n, int) and not isinstance(n, bool) and n >= least for n in numbers)
    if not whole or len(numbers) != dims:
        raise ValueError(f"{name} must be {least} or more, or {dims} such numbers, got {given!r}")
    return tuple(map(int, numbers))
