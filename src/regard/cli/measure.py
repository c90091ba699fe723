"""``regard measure``: the costs of a model or a mechanism, and what an insertion adds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from . import insertion, models
from .arguments import AT, INPUT, START, At, Insert, Json, Options, Shape, Start, complete
from .screen import plain_table, screen, show_json, show_text

if TYPE_CHECKING:
    from ..measurement import Measurement, Scaling

RESOLUTIONS = "--resolutions"


def measure(
    model: Annotated[
        str,
        typer.Argument(
            help="A mechanism, or a model: a name of timm or YOLO, torchvision/name, …",
            autocompletion=complete,
        ),
    ],
    input: Shape = None,
    insert: Insert = None,
    at: At = AT,
    start: Start = START,
    set_: Options = None,
    channels: Annotated[int | None, typer.Option(min=1, help="Channels of a mechanism.")] = None,
    resolutions: Annotated[
        str | None, typer.Option(RESOLUTIONS, metavar="SIDES", help="Several: 128,224 or 96x128,….")
    ] = None,
    depth: Annotated[
        int | None, typer.Option(min=0, help="Depth of the list of modules; 1 by default.")
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, …; meta counts without computing.")
    ] = None,
    latency: Annotated[bool, typer.Option(help="Measure the time too.")] = True,
    json: Json = False,
) -> None:
    """Measure parameters, MACs, activation memory and latency."""
    from ..measurement import measure, scaling

    where = models.device(device)
    shape = models.sizes(input, INPUT) if input else None
    options = models.options(set_)
    if entry := models.entry_of(model):
        if insert:
            raise ValueError(f"--insert needs a model, and {entry.key} is a mechanism")
        insertion.requested(None, at, start, {})
        module, shape = models.mechanism(entry, channels, shape, options)
        subjects = {entry.key: module}
    else:
        if channels:
            raise ValueError(f'--channels is for a mechanism, and "{model}" is a model')
        change = insertion.requested(insert, at, start, options)
        network = models.network(model)
        shape = shape or models.image_shape(network)
        subjects = {model: network}
        if change:
            subjects[f"{model} + {insert}"] = change.into(network, shape)
    if resolutions:
        if depth is not None:
            raise ValueError(f"--depth lists modules, which {RESOLUTIONS} does not")
        sides = _sides(resolutions, shape)
        report(
            {
                name: scaling(one, sides, leading=shape[:2], device=where, latency=latency)
                for name, one in subjects.items()
            },
            json,
        )
        return
    levels = 1 if depth is None else depth
    measured = {
        name: measure(one, shape, device=where, latency=latency, depth=levels)
        for name, one in subjects.items()
    }
    report(measured, json)
    if insert and not json:
        typer.echo()
        show_change(*measured.values())


def _sides(resolutions: str, shape: tuple[int, ...]) -> list[tuple[int, int]]:
    if len(shape) != 4:
        raise ValueError(f"{RESOLUTIONS} is for an input (b c h w), got {shape}")
    sides = [models.sizes(side, RESOLUTIONS) for side in resolutions.split(",")]
    if any(len(side) > 2 for side in sides):
        raise ValueError(
            f'{RESOLUTIONS} takes sides such as 128,224 or 96x128, got "{resolutions}"'
        )
    return [(side[0], side[-1]) for side in sides]


def report(results: Mapping[str, Measurement] | Mapping[str, Scaling], json: bool) -> None:
    """Print one result, or two as before and after."""
    if json:
        plain = [result.to_dict() for result in results.values()]
        both = dict(zip(("before", "after"), plain, strict=False))
        show_json(both if len(plain) > 1 else plain[0])
        return
    tables = [result.table() for result in results.values()]
    heads = [f"{name}\n" if len(results) > 1 else "" for name in results]
    typer.echo("\n\n".join(head + table for head, table in zip(heads, tables, strict=True)))


def show_change(before: Measurement, after: Measurement) -> None:
    """Print what an insertion adds to each cost."""
    from ..core.text import si

    table = plain_table("", "before", "after", "change", numbers=("before", "after", "change"))
    for label, name, unit in (
        ("parameters", "params", ""),
        ("MACs", "macs", ""),
        ("elementwise", "elementwise", ""),
        ("memory", "memory", "B"),
        ("kept for backward", "memory_kept", "B"),
    ):
        old, new = getattr(before, name), getattr(after, name)
        table.add_row(label, si(old, unit), si(new, unit), difference(old, new))
    if before.latency and after.latency:
        old, new = before.latency.median, after.latency.median
        table.add_row("latency", f"{old * 1e3:.4g} ms", f"{new * 1e3:.4g} ms", difference(old, new))
    show_text(table, screen())


def difference(old: float, new: float) -> str:
    """Return a difference in percent.

    >>> difference(200, 201), difference(10**6, 10**6 + 1), difference(0, 3)
    ('+0.5 %', '<0.01 %', 'new')
    """
    if not old:
        return "new" if new else "0 %"
    percent = 100 * (new - old) / old
    if 0 < abs(percent) < 0.01:
        return "<0.01 %"
    return f"{percent:+.3g} %" if percent else "0 %"
