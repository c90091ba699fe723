"""The named axes of a mechanism: what it takes, what its map lies on, what it returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Axes:
    """Named axes of the input, the attention map and the output of a mechanism.

    Patterns are in the language of `regard.core.shapes`. A class states the axes of its default
    instance as a literal, which the catalog reads without torch; an instance whose options change
    them sets ``self.axes`` in its constructor.

    Attributes:
        input: Axes of the input; several inputs are separated by commas.
        map: Axes of the attention map; a tuple of maps is separated by commas. Empty means not
            stated: `regard.explain` then names the axes by their sizes.
        output: Axes of the output; those of the input unless stated.
        parts: Axes of the maps of a composite's parts, by the name after ``tap_``.
        range: Values of the map: ``unit`` (0 to 1), ``softmax`` (sums to one over the last axis),
            ``softmax k`` (over axis k), ``real``, ``offset`` (coordinates).

    >>> Axes("b n d", "b heads n m").output
    'b n d'
    """

    input: str = "b c h w"
    map: str = ""
    output: str = ""
    parts: Mapping[str, str] = field(default_factory=dict)
    range: str = "real"

    def __post_init__(self) -> None:
        if not self.output:
            object.__setattr__(self, "output", self.input)
