"""The command ``regard``: one file for each subcommand."""

from __future__ import annotations

from typing import Annotated

import typer

from .. import __version__
from .cite import cite
from .compare import compare
from .convert import convert
from .errors import CommandGroup
from .explain import explain
from .find import find
from .insert import insert
from .list import list_
from .measure import measure
from .network import network
from .screen import encode_anything
from .show import show

app = typer.Typer(
    cls=CommandGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
CATALOG = "The catalog"
MODELS = "Your model"

app.command("list", rich_help_panel=CATALOG)(list_)
for command in (find, show, cite):
    app.command(rich_help_panel=CATALOG)(command)
for command in (measure, explain, insert, compare, convert):
    app.command(rich_help_panel=MODELS)(command)
app.add_typer(network, name="network", rich_help_panel="Networks of the papers")


def _version(requested: bool) -> None:
    if requested:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _regard(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Visual attention you can trust."""


def main() -> None:
    """Run the command."""
    encode_anything()
    app(prog_name="regard")
