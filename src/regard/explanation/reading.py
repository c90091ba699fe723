"""Reading every attention map of a model while it runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from ..core.attention import Mechanism, Tap
from ..core.names import glob, listing
from ..core.shapes import bind, expand, split
from ..core.text import aligned, html_table
from ..core.watching import path_of, uncompiled, undisturbed
from .maps import COLUMNS, ROWS, AttentionMap, Query, lay_out

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Explanation(Mapping[str, AttentionMap]):
    """The attention maps of one run, by key, in the order of the run."""

    def __init__(self, maps: Mapping[str, AttentionMap], image: Tensor | None = None) -> None:
        self.maps = dict(maps)
        self.image = image

    def __getitem__(self, key: str) -> AttentionMap:
        if key not in self.maps:
            raise KeyError(f"no map {key!r}; there are {', '.join(map(repr, self.maps))}")
        return self.maps[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.maps)

    def __len__(self) -> int:
        return len(self.maps)

    def __repr__(self) -> str:
        return f"Explanation of {len(self)} maps\n{self.table()}"

    def _repr_html_(self) -> str:
        return html_table(self._rows(), left=4)

    def table(self) -> str:
        """Return the maps as text, one line each."""
        return aligned(self._rows(), left=4)

    def _rows(self) -> list[tuple[str, ...]]:
        head = ("path", "mechanism", "axes", "shape", "min", "mean", "max", "entropy")
        rows = []
        for key, one in self.items():
            s = one.summary()
            numbers = (s["min"], s["mean"], s["max"], s["entropy"])
            rows.append(
                (
                    key or "(root)",
                    one.mechanism,
                    one.axes,
                    " × ".join(map(str, s["shape"])),
                    *("" if number is None else f"{number:.3g}" for number in numbers),
                )
            )
        return [head, *rows]

    def to_dict(self) -> dict[str, Any]:
        """Return `AttentionMap.summary` of each map, by key."""
        return {key: one.summary() for key, one in self.items()}

    def figure(
        self,
        image: Any = None,
        *,
        query: Query | None = None,
        rows: int = 4,
        columns: int = 5,
        stretch: bool = True,
    ) -> Figure:
        """Draw the maps on the image.

        Args:
            image: As for `regard.explanation.drawing.draw`, as are the other arguments; by default
                the model's input, if that is an image.
            query: The query, for maps between positions.
            rows: Maximum number of images.
            columns: Maximum number of panels side by side.
            stretch: Spread the colors over the values of the map, not over its range.

        Raises:
            ImportError: matplotlib is not installed.
        """
        from .drawing import draw

        pictures = self.image if image is None else image
        options = {"rows": rows, "columns": columns, "stretch": stretch}
        return draw(list(self.values()), pictures, query=query, **options)


def explain(
    model: nn.Module,
    *inputs: Any,
    only: str | Sequence[str] | None = None,
    grad: bool = False,
    **kwargs: Any,
) -> Explanation:
    """Run a model and return all its attention maps.

    The model runs once, in evaluation mode and uncompiled. It is not changed: hooks are removed,
    modes and random state are restored.

    Args:
        model: Any module with mechanisms in it, or a mechanism.
        inputs: Positional arguments of the model.
        only: Paths of mechanisms; in a pattern ``*`` stops at dots and ``**`` does not, as in
            `regard.insert`. All mechanisms if None.
        grad: Keep the graph, so that gradients flow through the maps.
        kwargs: Keyword arguments of the model.

    Returns:
        The maps by path, followed by the name of the part in brackets if a mechanism has several
        maps, and by ``#1`` for the second call.

    Raises:
        ValueError: the model has no attention, or none at such a path, or none that ran.

    >>> import regard
    >>> print(explain(regard.create("cbam", 16), torch.ones(1, 16, 5, 5))["[spatial]"].axes)
    b 1 h w
    """
    chosen = _choose(model, only)
    maps: dict[str, AttentionMap] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    calls: Counter[str] = Counter()
    own_maps: dict[str, Tensor] = {}
    borrowed: dict[str, Tensor] = {}
    image = next((x for x in inputs if isinstance(x, Tensor) and x.dim() == 4), None)
    aspect = image.shape[2] / image.shape[3] if image is not None else 1.0

    def enter(path: str, module: nn.Module, args: Any, kwargs: Any) -> None:
        tensors = [x for x in (*args, *kwargs.values()) if isinstance(x, Tensor)]
        shapes[path] = tuple(tensors[0].shape) if tensors else ()
        calls[path] += 1

    def record(path: str, part: str, mechanism: Mechanism, tap: Tap, args: Any, out: Any) -> None:
        caller = path  # a mechanism may use the tap of a child without calling the child
        while caller and caller not in shapes:
            caller = caller.rpartition(".")[0]
        if caller not in shapes:
            raise ValueError(f"{path!r}: its tap ran, but neither it nor a mechanism around it")
        shape = shapes[caller]
        tensors = out if isinstance(out, (tuple, list)) else (out,)
        stated = mechanism.axes.parts.get(part, "") if part else mechanism.axes.map
        axes = split(stated) if stated else _inferred(mechanism.axes.input, shape, tensors)
        for (name, own), tensor in zip(axes.items(), tensors, strict=True):
            source = tensor
            own, tensor, grid = _flatten_queries(
                expand(own, tensor.dim()), tensor, _grid(mechanism, shape, aspect)
            )
            one = AttentionMap(
                path=path,
                part=".".join(filter(None, (part, name if len(axes) > 1 else ""))),
                call=calls[caller] - 1,
                mechanism=type(mechanism).__name__,
                axes=own,
                tensor=tensor if grad else tensor.detach(),
                range=mechanism.axes.range,
                input_shape=shape,
                grid=grid,
            )
            if maps.setdefault(one.key, one) is one:
                (own_maps if caller == path else borrowed)[one.key] = source

    with ExitStack() as hooks:
        for path, mechanism in _choose(model, None).items():
            handle = mechanism.register_forward_pre_hook(partial(enter, path), with_kwargs=True)
            hooks.callback(handle.remove)
        for path, mechanism in chosen.items():
            for part, tap in _taps(mechanism).items():
                handle = tap.register_forward_hook(partial(record, path, part, mechanism))
                hooks.callback(handle.remove)
        with undisturbed(model, grad=grad), uncompiled():
            model(*inputs, **kwargs)
    for key, source in borrowed.items():  # drop a child's map that its parent passes on as its own
        if any(source is other for other in own_maps.values()):
            del maps[key]
    if not maps:
        raise ValueError(f"none of the mechanisms ran: {', '.join(map(repr, chosen))}")
    shown = image if image is not None and image.shape[1] in (1, 3) else None
    return Explanation(maps, shown)


def _taps(mechanism: Mechanism) -> dict[str, Tap]:
    """Return the taps of a mechanism by the names of its parts; ``""`` is the whole."""
    return {
        name.removeprefix("tap").removeprefix("_"): child
        for name, child in mechanism.named_children()
        if isinstance(child, Tap)
    }


def _choose(model: nn.Module, only: str | Sequence[str] | None) -> dict[str, Mechanism]:
    """Return the mechanisms whose paths match."""
    found = {
        path_of(name): module
        for name, module in model.named_modules()
        if isinstance(module, Mechanism) and _taps(module)
    }
    if not found:
        raise ValueError(
            f"{type(model).__name__} has no attention to explain; "
            'regard.insert(model, "cbam") adds some'
        )
    if only is None:
        return found
    chosen = {}
    for pattern in [only] if isinstance(only, str) else only:
        wanted = glob(pattern)
        matches = {path: one for path, one in found.items() if wanted.fullmatch(path)}
        if not matches:
            raise ValueError(f"no attention at {pattern!r}; there are {listing(found, pattern)}")
        chosen |= matches
    return chosen


def _inferred(pattern: str, shape: Sequence[int], maps: Sequence[Tensor]) -> dict[str, str]:
    """Infer the axes of maps from their sizes and those of the input.

    >>> _inferred("b c h w", (2, 8, 5, 7), [torch.zeros(2, 8, 1, 1), torch.zeros(2, 4, 35, 35)])
    {'0': 'b c 1 1', '1': 'b i n m'}
    """
    names = next(iter(split(pattern).values())).split()
    sizes = dict(zip(names, shape, strict=False))
    if "h" in sizes and "w" in sizes:
        sizes["n"] = sizes["h"] * sizes["w"]
    found = {}
    for i, a in enumerate(maps):
        axes: list[str] = []
        free = iter("ijklpqrs")
        for j, size in enumerate(a.shape):
            same = [name for name, n in sizes.items() if n == size and name not in axes]
            if a.dim() == len(names) and names[j] in same:
                axes.append(names[j])
            elif size == 1:
                axes.append("1")
            elif same:
                axes.append(same[0])
            else:  # a second axis with the number of positions is that of the keys
                axes.append("m" if "n" in axes and size == sizes["n"] else next(free))
        found[str(i)] = " ".join(axes)
    return found


def _flatten_queries(
    axes: str, tensor: Tensor, grid: tuple[int, int] | None
) -> tuple[str, Tensor, tuple[int, int] | None]:
    """Flatten the queries of a map over keys into one axis, if they are rows and columns.

    >>> _flatten_queries("b y x m", torch.zeros(2, 3, 4, 12), None)[::2]
    ('b n m', (3, 4))
    """
    for rows, columns in zip(ROWS, COLUMNS, strict=True):
        if axes.endswith(f"{rows} {columns} m"):
            axes = axes.removesuffix(f"{rows} {columns} m") + "n m"
            return axes, tensor.flatten(-3, -2), (tensor.shape[-3], tensor.shape[-2])
    return axes, tensor, grid


def _grid(mechanism: Mechanism, shape: tuple[int, ...], aspect: float) -> tuple[int, int] | None:
    """Return height and width of the positions of a mechanism's input."""
    pattern = next(iter(split(mechanism.axes.input).values()))
    sizes = bind(pattern, shape)
    if "t" in sizes:
        return None
    if "h" in sizes and "w" in sizes:
        return sizes["h"], sizes["w"]
    return lay_out(sizes["n"], aspect) if "n" in sizes else None
