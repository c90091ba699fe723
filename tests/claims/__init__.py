"""What the laws try each mechanism with, and what they should find: one file a mechanism.

``CLAIMS`` of a file says of each public class of the mechanism with which arguments a small
instance is made, which changes bring every option into play, and where what its card claims is
otherwise for such a change. What the mathematics forbids stands here with its reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Options = Mapping[str, Any]


@dataclass(frozen=True)
class Variant:
    """A change to the example; None stands for what the card, or the class' claims, say.

    Attributes:
        changed: Arguments that differ from those of the example.
        equivariant: As on the card, like all that follow.
        map_invariant: Which permutations the map does not see.
        independent: Along which axes slices do not see one another.
        identity_at_init: Whether a new module returns its input.
        train_differs: Whether training mode computes something else.
        zero_grad: Which of the class' parameters with a gradient of zero have it here, by name; or
            others, with their reasons.
        skips: Which of the class' laws are skipped here, or others, with their reasons.
    """

    changed: Options = field(default_factory=dict)
    equivariant: tuple[str, ...] | None = None
    map_invariant: tuple[str, ...] | None = None
    independent: tuple[str, ...] | None = None
    identity_at_init: bool | None = None
    train_differs: bool | None = None
    zero_grad: tuple[str, ...] | Mapping[str, str] | None = None
    skips: tuple[str, ...] | Mapping[str, str] | None = None


@dataclass(frozen=True)
class Claims:
    """What the laws try a class with.

    Attributes:
        example: Arguments of a small instance.
        variants: Changes to it.
        zero_grad: Parameters whose gradient is zero by mathematics, as globs, with the reason.
        skips: Laws that the mathematics forbids, with the reason.
    """

    example: Options
    variants: tuple[Variant, ...] = ()
    zero_grad: Mapping[str, str] = field(default_factory=dict)
    skips: Mapping[str, str] = field(default_factory=dict)
