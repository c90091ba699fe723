"""``regard insert``: where a mechanism would be inserted, and what it would cost."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from . import models
from .arguments import AT, INPUT, START, At, Json, Name, Network, Options, Shape, Start
from .insertion import Request
from .measure import show_change
from .screen import plain_table, screen, show_json, show_text

if TYPE_CHECKING:
    from ..surgery import Plan


def insert(
    model: Network,
    mechanism: Name,
    at: At = AT,
    start: Start = START,
    set_: Options = None,
    input: Shape = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Required: a command can only show the result.")
    ] = False,
    json: Json = False,
) -> None:
    """Show where a mechanism would be inserted, and what it would cost.

    A command cannot return a model, so this needs --dry-run; in Python `regard.insert` does it.
    """
    request = Request(mechanism, at, start, models.options(set_))
    if not dry_run:
        raise ValueError(
            "a command cannot return a model: see what would happen with --dry-run, or write in "
            f"Python: {request.in_python()}"
        )
    from ..measurement import measure

    network = models.network(model)
    shape = models.sizes(input, INPUT) if input else models.image_shape(network)
    found = request.plan(network, shape)
    # The head of a YOLO computes its anchors from values.
    device = None if models.is_yolo(network) else "meta"
    before, after = (
        measure(one, shape, device=device, latency=False, depth=0)
        for one in (network, found.apply())
    )
    if json:
        places = [asdict(insertion) for insertion in found]
        show_json({"places": places, "before": before.to_dict(), "after": after.to_dict()})
        return
    show_places(found)
    typer.echo()
    show_change(before, after)
    typer.echo(f"\n{request.in_python(network)}")


def show_places(found: Plan) -> None:
    """Print one line for each insertion."""
    table = plain_table(
        "after", "channels", "axes", "parameters", numbers=("channels", "parameters")
    )
    for insertion in found:
        place = insertion.path or "(the model)"
        counts = str(insertion.channels), str(insertion.layout), f"{insertion.parameters:,}"
        table.add_row(place, *counts)
    mechanism, gate = found[0].mechanism, ", starting with γ = 0" if found[0].gated else ""
    typer.echo(f"{mechanism} at {len(found)} place{'s' * (len(found) > 1)}{gate}\n")
    show_text(table, screen())
