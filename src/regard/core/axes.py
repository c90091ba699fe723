"""The named axes of a mechanism: of its input, its attention map and its output."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from .shapes import GRIDS


@dataclass(frozen=True)
class Axes:
    """Named axes of the input, the attention map and the output of a mechanism.

    The syntax of patterns is that of `regard.core.shapes`. A class states the axes of its default
    instance as a literal, which the catalog reads without importing torch; an instance whose
    options change them sets ``self.axes`` in its constructor.

    Attributes:
        input: Axes of the input; several inputs are separated by commas.
        map: Axes of the attention map; several maps are separated by commas. If empty,
            `regard.explain` infers the names from the sizes.
        output: Axes of the output; those of the input by default.
        parts: Axes of the maps of a mechanism's parts, by the name after ``tap_``.
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

    def over(self, dims: int) -> Axes:
        """Return the axes with ``*`` written out, as those of an instance of fixed rank.

        >>> Axes("b c *", "b 1 *, b c 1*").over(2).map
        'b 1 h w, b c 1 1'
        """
        grid = {"*": GRIDS[dims], "1*": " ".join(["1"] * dims)}

        def written_out(pattern: str) -> str:
            return re.sub(r"1?\*", lambda star: grid[star[0]], pattern)

        return replace(
            self,
            input=written_out(self.input),
            map=written_out(self.map),
            output=written_out(self.output),
            parts={name: written_out(pattern) for name, pattern in self.parts.items()},
        )
