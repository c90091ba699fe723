"""``regard cite``: the papers as BibTeX."""

from __future__ import annotations

from typing import Annotated

import typer

from .. import catalog
from .arguments import complete


def cite(
    names: Annotated[
        list[str], typer.Argument(metavar="NAME…", help="Keys or aliases.", autocompletion=complete)
    ],
) -> None:
    """Print the BibTeX entries of the papers."""
    papers = [catalog.cite(name) for name in dict.fromkeys(map(catalog.resolve, names))]
    typer.echo("\n\n".join(papers))
