"""One attention map: its axes, and the positions in the image that it belongs to."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ..core.shapes import GRIDS
from .positions import Positions

Query = int | tuple[float, ...] | Literal["all"]
ROWS, COLUMNS = ("h", "y"), ("w", "x")  # names for the input, for the output
PREFIXES = (0, 1, 2, 5)  # tokens before those of the image: none, class, distillation, registers


def lay_out(n: int, aspect: float) -> tuple[int, int] | None:
    """Guess height and width of an image from its number of tokens; None if nothing fits.

    >>> lay_out(197, aspect=1.0), lay_out(32, aspect=2.0), lay_out(7, aspect=1.0)
    ((14, 14), (8, 4), None)
    """
    for prefix in PREFIXES:
        h = round(math.sqrt(max(n - prefix, 0) * aspect))
        w = round(h / aspect)
        if h and w and h * w == n - prefix:
            return h, w
    return None


def _as_it_is(x: Tensor) -> Tensor:
    return x


@dataclass(frozen=True, eq=False)
class AttentionMap:
    """One attention map.

    Attributes:
        path: Path of the mechanism in the model; the model itself is ``""``.
        part: Name of the map, if a mechanism has several.
        call: Number of the call, from zero, if the mechanism ran several times.
        mechanism: Class of the mechanism.
        axes: Names of the axes of the tensor.
        tensor: The map.
        range: Range of its values, as in `Axes`.
        input_shape: Shape of the mechanism's input.
        grid: Height and width of its positions, if known.
        queries: Where its queries lie, for attention that was seen in a function.
        keys: Where its keys lie, likewise.
        function: The function in which it was seen; empty for a mechanism.
        points: Where its keys are sampled, as ``x, y`` from -1 to 1; None if they are fixed.
        source: The tensor that acted in the model, of which `tensor` may be a view in another
            order; None unless the graph of gradients was kept.
        arrange: Brings a tensor in the order of ``source`` to that of `tensor`.
    """

    path: str
    part: str
    call: int
    mechanism: str
    axes: str
    tensor: Tensor
    range: str
    input_shape: tuple[int, ...]
    grid: tuple[int, int] | None
    queries: Positions | None = None
    keys: Positions | None = None
    function: str = ""
    points: Tensor | None = None
    source: Tensor | None = None
    arrange: Callable[[Tensor], Tensor] = _as_it_is

    @property
    def key(self) -> str:
        """Its key in the explanation: ``layer1.attention[channel]#1``."""
        part = f"[{self.part}]" if self.part else ""
        return self.path + part + (f"#{self.call}" if self.call else "")

    @property
    def names(self) -> list[str]:
        """The names of the axes."""
        return self.axes.split()

    @property
    def form(
        self,
    ) -> Literal["plane", "tokens", "pairs", "points", "sampling", "bars", "matrix"]:
        """What its values belong to: positions, tokens, pairs, sampling points or channels."""
        names = self.names
        if self.points is not None:
            return "points"
        if self.range == "offset" and names[-1] == "2" and "h" in names:
            return "sampling"
        if {*ROWS, *COLUMNS} & set(names):
            return "plane"
        if "n" in names:
            return "pairs" if "m" in names or names.count("n") > 1 else "tokens"
        return "bars" if sum(size > 1 for size in self.tensor.shape[1:]) < 2 else "matrix"

    @property
    def spatial(self) -> bool:
        """Whether its values belong to positions in the image, so that there is a heat map."""
        placed = self.grid is not None or self.keys is not None
        return self.form == "plane" or (self.form in ("tokens", "pairs") and placed)

    @property
    def normalized(self) -> str | None:
        """The axis over which the map sums to one, or None."""
        kind, _, axis = self.range.partition(" ")
        return (axis or self.names[-1]) if kind == "softmax" else None

    def position(self, query: Query | None = None) -> int:
        """Return the index of a query from an index or (row, column); the middle if None."""
        n = self.tensor.shape[self.names.index("n")]
        if self.keys is not None:
            return self._row(n, query)
        if query is None and not self.grid:
            return n // 2
        if query is None or isinstance(query, tuple):
            if not self.grid:
                raise ValueError(f"{self.key}: the grid is not known; pass the query's index")
            h, w = self.grid
            try:
                return n - h * w + Positions((h, w), torch.empty(0)).of(query or (h // 2, w // 2))
            except ValueError as e:
                raise ValueError(f"{self.key}: {e}") from None
        if not isinstance(query, int) or not 0 <= query < n:
            raise ValueError(f"{self.key}: no query {query!r}; there are 0 to {n - 1}, and 'all'")
        return query

    def _row(self, n: int, query: Query | None) -> int:
        """Return the index of a query among those of all windows, one window after the other."""
        n = n * self.tensor.shape[self.names.index("k")] if "k" in self.names else n
        if n == 1:
            return 0
        if isinstance(query, int):
            if not 0 <= query < n:
                raise ValueError(
                    f"{self.key}: no query {query!r}; there are 0 to {n - 1}, and 'all'"
                )
            return query
        if self.queries is None:
            if query is None:
                return n // 2
            raise ValueError(f"{self.key}: its queries have no places; pass the query's index")
        place = query if isinstance(query, tuple) else [size // 2 for size in self.queries.grid]
        try:
            wanted = self.queries.of(place)
        except ValueError as e:
            raise ValueError(f"{self.key}: {e}") from None
        return int((self.queries.index.flatten() == wanted).nonzero()[0])

    def heat(
        self,
        size: int | tuple[int, int] | None = None,
        *,
        query: Query | None = None,
        **at: int,
    ) -> Tensor:
        """Return the map in the shape of an image, ``b h w``.

        All axes except positions are averaged. The exception is an axis over which the map sums to
        one, where the mean is constant: instead each image shows the entry that varies most over
        the positions. For offsets, the length is shown: how far away each position reads.

        Args:
            size: Height and width to interpolate to; no interpolation if None.
            query: For maps between positions: the query, by index, by row and column, or by parts
                of height and width such as ``(0.5, 0.25)`` (the middle by default), or ``"all"``
                for the mean of all queries.
            at: Entries of other axes, by name: ``heads=2``.

        Raises:
            ValueError: the map has no positions in an image, or no such query, axis or entry.
        """
        if not self.spatial:
            raise ValueError(f"{self.key}: a map ({self.axes}) has no positions in an image")
        a, names = self.tensor.detach().float(), self.names
        if self.keys is not None:
            a, names = self._on_image(a, names, self.keys, query)
        elif self.form == "pairs":
            dim = names.index("n")
            a = a.mean(dim) if query == "all" else a.select(dim, self.position(query))
            del names[dim]
        for name, index in at.items():
            free = [n for n in names if n not in ("b", "n", "m", *ROWS, *COLUMNS, "1")]
            if name not in free or not 0 <= index < a.shape[names.index(name)]:
                raise ValueError(f"{self.key}: no {name} = {index} in ({self.axes})")
            a = a.select(names.index(name), index)
            names.remove(name)
        if self.range == "offset" and "2" in names:
            a = a.norm(dim=names.index("2"))
            names.remove("2")
        a = a if self.keys is not None else self._positions_last(a, names)
        while a.dim() > 3:
            a = _most_varied(a) if names[1] == self.normalized else a.mean(1)
            del names[1]
        if size is None:
            return a
        sides = (size, size) if isinstance(size, int) else size
        return interpolate(a.unsqueeze(1), sides, mode="bilinear").squeeze(1)

    def _on_image(
        self, a: Tensor, names: list[str], keys: Positions, query: Query | None
    ) -> tuple[Tensor, list[str]]:
        """Put what a query attends to in its place in the image; zero where it cannot attend."""
        a = a.movedim([names.index(name) for name in "nm"], (-2, -1))
        names = [name for name in names if name not in ("n", "m")]
        index = keys.index.to(a.device)
        if "k" in names:  # windows
            a = a.movedim(names.index("k"), -3)
            names.remove("k")
        else:
            a, index = a.unsqueeze(-3), index.unsqueeze(0)
        if query == "all":
            a = a.mean(-2) / a.shape[-3]
        else:
            window, row = divmod(self.position(query), a.shape[-2])
            a, index = a[..., window : window + 1, row, :], index[window : window + 1]
        placed = index.flatten() >= 0
        image = a.new_zeros(*a.shape[:-2], math.prod(keys.grid))
        image.index_add_(-1, index.flatten()[placed], a.flatten(-2)[..., placed])
        names += GRIDS[len(keys.grid)].split()
        image = image.unflatten(-1, keys.grid)
        if len(keys.grid) == 3:  # the frames of a video
            names.remove("t")
            image = image.mean(-3)
        return image, names

    def _positions_last(self, a: Tensor, names: list[str]) -> Tensor:
        """Move the positions to the end, as rows and columns, and remove them from ``names``."""
        if self.form == "plane":
            last = [i for i, name in enumerate(names) if name in (*ROWS, *COLUMNS)]
            if len(last) == 1:  # rows or columns only, beside an axis of size one
                last = [a.dim() - 2, a.dim() - 1]
        else:
            last = [next(i for i, name in enumerate(names) if name in ("n", "m"))]
        a = a.movedim(last, tuple(range(-len(last), 0)))
        for i in reversed(last):
            del names[i]
        if self.form == "plane":
            return a
        start, h, w = self._keys(a.shape[-1])
        return a[..., start : start + h * w].unflatten(-1, (h, w))

    def _keys(self, m: int) -> tuple[int, int, int]:
        """Return the index of the image's first key, and the keys' grid, which may be coarser."""
        h, w = self.grid or (0, 0)
        n = self.tensor.shape[self.names.index("n")]
        if 0 <= m - n <= 2:  # a learned key and a zero key may follow
            return n - h * w, h, w
        pooled = ((max(h // step, 1), max(w // step, 1)) for step in range(2, max(h, w) + 1))
        fits = (grid for grid in pooled if math.prod(grid) == m)
        grid = next(fits, None) or lay_out(m, h / w)
        if grid is None:
            raise ValueError(f"{self.key}: {m} keys cannot be laid out as an image")
        return m - math.prod(grid), *grid

    def summary(self) -> dict[str, Any]:
        """Return facts and statistics of the map, without the map.

        ``entropy`` is the mean entropy in nats along the axis that sums to one; None without one.
        """
        a = self.tensor.detach().float()
        entropy = None
        if self.normalized in self.names:
            axis = len(self.names) - 1 - self.names[::-1].index(self.normalized)
            entropy = torch.special.entr(a).sum(axis).mean().item()
        return {
            "path": self.path,
            "part": self.part,
            "call": self.call,
            "mechanism": self.mechanism,
            "axes": self.axes,
            "shape": list(a.shape),
            "range": self.range,
            "input_shape": list(self.input_shape),
            "min": a.min().item(),
            "mean": a.mean().item(),
            "max": a.max().item(),
            "entropy": entropy,
        }


def _most_varied(a: Tensor) -> Tensor:
    """Return for each image of ``b k … h w`` the entry of axis k that varies most."""
    best = a.flatten(2).std(2, unbiased=False).argmax(1)
    return a[torch.arange(len(a), device=a.device), best]
