"""``regard find``: search the catalog."""

from __future__ import annotations

from typing import Annotated

import typer

from .. import catalog
from .arguments import Json
from .list import show_catalog
from .record import record
from .screen import show_json

FOREVER = 10_000


def find(
    text: Annotated[str | None, typer.Argument(help="Words in the card or the docstring.")] = None,
    domain: Annotated[
        str | None, typer.Option(help="What is weighed: channel, spatial, branch, …")
    ] = None,
    computes: Annotated[
        str | None, typer.Option(help="How the weights are computed: pool, fc, conv, matmul.")
    ] = None,
    applies: Annotated[
        str | None, typer.Option(help="How they are used: gate, matmul, select, sample, add.")
    ] = None,
    kind: Annotated[
        str | None, typer.Option(help="Its role in a network: gate, relation, convolution, …")
    ] = None,
    year: Annotated[
        str | None, typer.Option(metavar="YEAR", help="2018, 2018-2020, 2018- or -2020.")
    ] = None,
    json: Json = False,
) -> None:
    """Find mechanisms by words and properties."""
    entries = catalog.find(
        text,
        domain=domain,
        computes=computes,
        applies=applies,
        kind=kind,
        year=years(year) if year else None,
    )
    if json:
        show_json([record(entry) for entry in entries])
    elif entries:
        show_catalog(entries)
    else:
        typer.echo("regard: no mechanism matches all of that", err=True)


def years(text: str) -> range:
    """Read a year or a span of years.

    >>> years("2018"), years("2018-2020"), years("2018-").start, years("-2020").stop
    (range(2018, 2019), range(2018, 2021), 2018, 2021)
    """
    first, dash, last = text.replace("–", "-").partition("-")
    try:
        start = int(first or 0)
        return range(start, int(last or FOREVER) + 1 if dash else start + 1)
    except ValueError:
        raise ValueError(f'no year "{text}"; write 2018, 2018-2020, 2018- or -2020') from None
