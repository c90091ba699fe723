"""``regard list``: the whole catalog, by domain."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, get_args

import typer
from rich.table import Table
from rich.text import Text

from ..catalog import Entry, find
from ..core.card import Domain
from .arguments import Json
from .equations import inline
from .record import record
from .screen import plain_table, screen, show_json, show_text

HEADINGS = ("key", "mechanism", "domain", "how", "time", "Keras", "paper")


def list_(
    domain: Annotated[str | None, typer.Option(help="Only mechanisms that weigh this.")] = None,
    json: Json = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="As a Markdown table.")] = False,
) -> None:
    """List every mechanism by domain."""
    entries = find(domain=domain)
    if json:
        show_json([record(entry) for entry in entries])
    elif markdown:
        typer.echo(markdown_table(entries), nl=False)
    else:
        show_catalog(entries)


def by_domain(entries: Iterable[Entry]) -> dict[str, list[Entry]]:
    """Group entries by domain, in the order of `Domain`."""
    groups: dict[str, list[Entry]] = {domain: [] for domain in get_args(Domain)}
    for entry in entries:
        groups[entry.card.domain].append(entry)
    return {domain: group for domain, group in groups.items() if group}


def show_catalog(entries: Iterable[Entry]) -> None:
    """Print the mechanisms by domain, on one line each where the terminal is wide enough."""
    console = screen()
    groups = by_domain(entries)
    on_one_line = one_line_each(groups)
    unbounded = console.options.update(width=1000)
    fits = console.measure(on_one_line, options=unbounded).maximum <= console.width
    show_text(on_one_line if fits else two_lines_each(groups), console)


def one_line_each(groups: dict[str, list[Entry]]) -> Table:
    """Lay out the catalog with one line for each mechanism."""
    table = plain_table("key", "title", "paper", "how", "time")
    for domain, group in groups.items():
        if table.row_count:
            table.add_row()
        table.add_row(Text(domain, "bold"))
        for entry in group:
            table.add_row(Text(f"  {entry.key}", "cyan"), entry.card.title, *facts(entry))
    return table


def two_lines_each(groups: dict[str, list[Entry]]) -> Table:
    """Lay out the catalog with titles and papers on one line, computation and cost on the next."""
    table = plain_table("key", "title, how", "paper, time")
    table.columns[0].no_wrap = True
    for column in table.columns[1:]:
        column.overflow = "fold"  # a long word is broken, not cut
    for domain, group in groups.items():
        if table.row_count:
            table.add_row()
        table.add_row(Text(domain, "bold"))
        for entry in group:
            paper, how, time = facts(entry)
            table.add_row(Text(f"  {entry.key}", "cyan"), entry.card.title, paper)
            table.add_row("", how, time)
    return table


def facts(entry: Entry) -> tuple[Text, Text, Text]:
    """Return where a mechanism was published, how it computes, and how its time grows."""
    card = entry.card
    return (
        Text(f"{card.venue} {card.year}"),
        Text(f"{card.computes} → {card.applies}", "dim"),
        Text(inline(card.cost["time"]), "dim"),
    )


def markdown_table(
    entries: Iterable[Entry], headings: Iterable[str] = HEADINGS, code: str = "code"
) -> str:
    """Return the catalog as a Markdown table, for the README."""
    rows = [headings, ["---"] * len(HEADINGS)]
    for group in by_domain(entries).values():
        for entry in group:
            card = entry.card
            link = f" · [{code}]({card.code})" if card.code else ""
            rows.append(
                [
                    f"`{entry.key}`",
                    card.title,
                    card.domain,
                    f"{card.computes} → {card.applies}",
                    inline(card.cost["time"]),
                    "✓" if entry.twin else "",
                    f"[{card.venue} {card.year}]({card.url}){link}",
                ]
            )
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)
