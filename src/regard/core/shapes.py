"""Named axes: the one shape language of the library.

``"b c h w"`` names four axes. A digit is an axis of exactly that size; a name that comes twice has
one size; ``*`` stands for one to three axes of space and time (``l``, ``h w``, ``t h w``) and
``1*`` for as many ones. Several tensors are separated by commas and may be named:
``"h: b c h 1, w: b c 1 w"``.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

GRIDS = {1: "l", 2: "h w", 3: "t h w"}


def split(pattern: str) -> dict[str, str]:
    """Take a pattern of several tensors apart, by name, or by position where they have none.

    >>> split("h: b c h 1, w: b c 1 w")
    {'h': 'b c h 1', 'w': 'b c 1 w'}
    >>> split("b n n, b c c")
    {'0': 'b n n', '1': 'b c c'}
    """
    found = {}
    for i, part in enumerate(pattern.split(",")):
        name, colon, axes = part.rpartition(":")
        found[name.strip() if colon else str(i)] = axes.strip()
    return found


def expand(pattern: str, rank: int) -> str:
    """Write out ``*`` and ``1*`` for a tensor of so many axes; leave what does not fit as it is.

    >>> expand("b c *", 5), expand("b c 1*", 4), expand("b c *", 2)
    ('b c t h w', 'b c 1 1', 'b c *')
    """
    names = pattern.split()
    dims = rank - len(names) + 1
    if dims not in GRIDS:
        return pattern
    grid = {"*": GRIDS[dims], "1*": " ".join(["1"] * dims)}
    return " ".join(grid.get(name, name) for name in names)


@lru_cache
def single(pattern: str, rank: int) -> tuple[str, ...]:
    """The axes of one tensor, each with a name of its own; nothing where it is not so simple.

    >>> single("b c *", 4), single("b n n", 3), single("b c h w", 3)
    (('b', 'c', 'h', 'w'), (), ())
    """
    names = tuple(expand(pattern, rank).split())
    simple = len(names) == len(set(names)) == rank and all(map(str.isalpha, names))
    return names if simple else ()


def bind(pattern: str, shape: Sequence[int], **known: int) -> dict[str, int]:
    """Match a shape against named axes and return the size of each name.

    Raises:
        ValueError: the rank, a digit, a repeated name or a ``known`` size does not match.

    >>> bind("b c 1 1", (2, 16, 1, 1))
    {'b': 2, 'c': 16}
    >>> bind("b c h w", (2, 32, 9, 7), c=64)
    Traceback (most recent call last):
    ValueError: expected axis c = 64 in (b c h w), got 32: (2, 32, 9, 7)
    """
    pattern = expand(pattern, len(shape))
    names = pattern.split()
    if len(names) != len(shape) or "*" in names:
        want = "3 to 5" if "*" in names else len(names)
        raise ValueError(f"expected {want} axes ({pattern}), got {len(shape)}: {tuple(shape)}")
    sizes = dict(known)
    for name, size in zip(names, shape, strict=True):
        want = int(name) if name.isdigit() else sizes.setdefault(name, size)
        if want != size:
            raise ValueError(
                f"expected axis {name} = {want} in ({pattern}), got {size}: {tuple(shape)}"
            )
    return {name: sizes[name] for name in names if not name.isdigit()}
