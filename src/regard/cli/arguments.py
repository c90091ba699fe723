"""The options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

from ..catalog import entries


def complete(incomplete: str) -> list[tuple[str, str]]:
    """Return the keys with that prefix, with their titles, for shell completion.

    >>> complete("squeeze_e")
    [('squeeze_excitation', 'Squeeze-and-Excitation')]
    """
    return [
        (key, entry.card.title) for key, entry in entries().items() if key.startswith(incomplete)
    ]


INPUT = "--input"
SET = "--set"
AT = "residual"
START = "identity"

Json = Annotated[bool, typer.Option("--json", help="Write JSON, for programs.")]
Network = Annotated[
    str, typer.Argument(help="A name of timm or YOLO, torchvision/name or transformers/type.")
]
Name = Annotated[str, typer.Argument(help="Key or alias of a mechanism.", autocompletion=complete)]
Shape = Annotated[
    str | None, typer.Option(INPUT, metavar="SIZES", help="Shape of the input: 1,3,224,224.")
]
Insert = Annotated[str | None, typer.Option(help="Insert this mechanism.", autocompletion=complete)]
At = Annotated[
    str, typer.Option(help="Where: residual, block, stage, or module names with * and **.")
]
Start = Annotated[str, typer.Option(help="identity: no change until trained; paper: as published.")]
Options = Annotated[
    list[str] | None, typer.Option(SET, metavar="NAME=VALUE", help="An option of the mechanism.")
]
