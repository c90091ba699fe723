"""Output of the commands: text and tables for people, JSON for programs."""

from __future__ import annotations

import json
import sys
from typing import Any

import typer
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

PIPE_WIDTH = 200


def screen() -> Console:
    """Return a console as wide as the terminal, or wide enough that nothing is cut in a pipe."""
    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = PIPE_WIDTH
    return console


def show_text(content: RenderableType, console: Console, width: int | None = None) -> None:
    """Print, without trailing spaces in a pipe."""
    if console.is_terminal:
        console.print(content, width=width)
        return
    with console.capture() as captured:
        console.print(content, width=width)
    typer.echo("\n".join(line.rstrip() for line in captured.get().splitlines()))


def show_json(value: Any) -> None:
    """Print a value as JSON, in ASCII because terminals and pipes may have other encodings."""
    typer.echo(json.dumps(value, indent=2))


def plain_table(*columns: str, numbers: tuple[str, ...] = ()) -> Table:
    """Return a table without lines; the columns named in ``numbers`` are aligned to the right."""
    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0), pad_edge=False)
    for name in columns:
        table.add_column(Text(name), justify="right" if name in numbers else "left")
    return table


def encode_anything() -> None:
    """Print a question mark for a character that a terminal lacks, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(errors="replace")
