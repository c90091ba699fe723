"""Named axes: patterns for the shapes of tensors.

``"b c h w"`` names four axes. A number is an axis of exactly that size; axes of the same name have
the same size; ``*`` is one to three axes of space and time (``l``, ``h w``, ``t h w``) and ``1*``
as many axes of size one; ``...`` is any number of axes. Several tensors are separated by commas and
may be named: ``"h: b c h 1, w: b c 1 w"``.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

FREE = "ijklpq"  # names for the axes of ``...``
GRIDS = {1: "l", 2: "h w", 3: "t h w"}


def split(pattern: str) -> dict[str, str]:
    """Split a pattern of several tensors, by name, or by index where they have no names.

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
    """Replace ``*``, ``1*`` and ``...`` by the axes of a tensor of that rank, if they fit.

    >>> expand("b c *", 5), expand("b c 1*", 4), expand("b c *", 2)
    ('b c t h w', 'b c 1 1', 'b c *')
    >>> expand("b ... c", 4), expand("b ... c", 2)
    ('b i j c', 'b c')
    """
    names = pattern.split()
    dims = rank - len(names) + 1
    if "..." in names and 0 <= dims <= len(FREE):
        return " ".join(pattern.replace("...", " ".join(FREE[:dims])).split())
    if dims not in GRIDS:
        return pattern
    grid = {"*": GRIDS[dims], "1*": " ".join(["1"] * dims)}
    return " ".join(grid.get(name, name) for name in names)


@lru_cache
def single(pattern: str, rank: int) -> tuple[str, ...]:
    """Return the names of a tensor's axes, or an empty tuple unless all are distinct letters.

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
        if "..." in names:
            want = f"{len(names) - 1} or more"
        raise ValueError(f"expected {want} axes ({pattern}), got {len(shape)}: {tuple(shape)}")
    sizes = dict(known)
    for name, size in zip(names, shape, strict=True):
        want = int(name) if name.isdigit() else sizes.setdefault(name, size)
        if want != size:
            raise ValueError(
                f"expected axis {name} = {want} in ({pattern}), got {size}: {tuple(shape)}"
            )
    return {name: sizes[name] for name in names if not name.isdigit()}
