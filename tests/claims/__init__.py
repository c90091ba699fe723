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
        starts_as_convolution: Whether it computes at first what the convolution did that
            `regard.replace` put it in place of.
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
    starts_as_convolution: bool | None = None
    zero_grad: tuple[str, ...] | Mapping[str, str] | None = None
    skips: tuple[str, ...] | Mapping[str, str] | None = None


PERCENT = (0.01, 0.01, 0.01)

SHARP = "the softmax of scores in the hundreds is almost a maximum, and rounding may change whose"
STEEP = "the sigmoid of a score in the hundreds is a step, and rounding may change its side"
CHAIN = "many layers in a row round their results to three digits"
PLACE = "a place in the image is rounded, and so lies a part of a pixel aside"


@dataclass(frozen=True)
class Rounding:
    """How far an output in half precision may be from the exact one, where one percent is too near.

    Attributes:
        reason: Why; the docstring of the class says it too.
        bfloat16: Bounds as parts of the largest entry, for inputs of standard deviation 1, 10, 100.
        float16: Likewise.
    """

    reason: str = ""
    bfloat16: tuple[float, float, float] = PERCENT
    float16: tuple[float, float, float] = PERCENT


@dataclass(frozen=True)
class Claims:
    """What the laws try a class with.

    Attributes:
        example: Arguments of a small instance.
        variants: Changes to it.
        zero_grad: Parameters whose gradient is zero by mathematics, as globs, with the reason.
        skips: Laws that the mathematics forbids, with the reason.
        starts_as_convolution: As of a variant, for all that say nothing else.
    """

    example: Options
    variants: tuple[Variant, ...] = ()
    zero_grad: Mapping[str, str] = field(default_factory=dict)
    skips: Mapping[str, str] = field(default_factory=dict)
    starts_as_convolution: bool = False
    rounding: Rounding = Rounding()
