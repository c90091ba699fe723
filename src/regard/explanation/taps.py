"""Reading the maps of mechanisms, which pass their taps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn

from ..core.attention import Mechanism, Tap
from ..core.shapes import bind, expand, split
from ..core.watching import path_of
from .maps import COLUMNS, ROWS, AttentionMap, lay_out


def mechanisms(model: nn.Module) -> dict[str, Mechanism]:
    """Return the mechanisms that have taps, by their paths."""
    return {
        path_of(name): module
        for name, module in model.named_modules()
        if isinstance(module, Mechanism) and _taps(module)
    }


@contextmanager
def tapped(
    model: nn.Module,
    found: list[Any],
    wanted: Callable[[str], bool],
    *,
    aspect: float,
    grad: bool,
) -> Iterator[None]:
    """Add the maps of mechanisms to a list while a model runs once.

    Args:
        model: The model.
        found: The list.
        wanted: Whether the maps of the mechanism at a path are wanted.
        aspect: Height by width of the image, by which tokens without a grid are laid out.
        grad: Whether the maps keep their graph.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    calls: Counter[str] = Counter()
    own_maps: dict[str, Tensor] = {}
    borrowed: dict[str, tuple[AttentionMap, Tensor]] = {}

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
                source=source if grad else None,
                arrange=lambda x, shape=tensor.shape: x.reshape(shape),
            )
            found.append(one)
            if caller == path:
                own_maps.setdefault(one.key, source)
            else:
                borrowed.setdefault(one.key, (one, source))

    with ExitStack() as hooks:
        for path, mechanism in mechanisms(model).items():
            handle = mechanism.register_forward_pre_hook(partial(enter, path), with_kwargs=True)
            hooks.callback(handle.remove)
            for part, tap in _taps(mechanism).items() if wanted(path) else ():
                handle = tap.register_forward_hook(partial(record, path, part, mechanism))
                hooks.callback(handle.remove)
        yield
    for one, source in borrowed.values():  # a part's map that its mechanism passes on as its own
        if any(source is other for other in own_maps.values()):
            found.remove(one)


def _taps(mechanism: Mechanism) -> dict[str, Tap]:
    """Return the taps of a mechanism by the names of its parts; ``""`` is the whole."""
    return {
        name.removeprefix("tap").removeprefix("_"): child
        for name, child in mechanism.named_children()
        if isinstance(child, Tap)
    }


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
