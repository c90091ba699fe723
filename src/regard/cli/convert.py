"""``regard convert``: rename the entries of an old checkpoint for regard."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from ..compat import checkpoint
from ..compat.legacy import SOURCE
from . import weights
from .screen import plain_table, screen, show_text

MAP = "--map"


def convert(
    old: Annotated[Path, typer.Argument(help="A file that torch saved, or safetensors.")],
    new: Annotated[Path, typer.Argument(help="The .safetensors file to write.")],
    map_: Annotated[
        list[str],
        typer.Option(
            MAP,
            metavar="PREFIX=NAME",
            help="The module under a prefix: a mechanism, or an old class with its arguments.",
        ),
    ],
    source: Annotated[
        str, typer.Option("--from", metavar="SOURCE", help="Origin of the old modules.")
    ] = SOURCE,
) -> None:
    """Rename the attention modules in the checkpoint of a whole model.

    For example --map "layer*.se=squeeze_excitation" --map "neck=EMSA(512, 64, 64, 8)".

    A * matches one name; arguments are needed where the weights do not determine them.

    Pickles are read as weights only.
    """
    if new.suffix != ".safetensors":
        raise ValueError(f"{new}: expected a name that ends in .safetensors")
    modules = read_map(map_)
    state = weights.read(old)
    table = plain_table("prefix", "entries", "is", numbers=("entries",))
    for module in checkpoint.find(state, modules, source=source):
        entries = sum(bool(module.own(name)) for name in state)
        table.add_row(module.prefix, str(entries), module.code)
    weights.write(checkpoint.convert(state, modules, source=source), new)
    show_text(table, screen())


def read_map(pairs: Sequence[str]) -> dict[str, str]:
    """Read ``prefix=name`` pairs.

    >>> read_map(["layer*.se=squeeze_excitation", "neck=EMSA(512, 64, 64, h=8)"])
    {'layer*.se': 'squeeze_excitation', 'neck': 'EMSA(512, 64, 64, h=8)'}
    >>> read_map(["layer1.se"])
    Traceback (most recent call last):
    ValueError: --map takes prefix=name, got "layer1.se"
    """
    read: dict[str, str] = {}
    for pair in pairs:
        prefix, equals, name = pair.partition("=")
        if not equals or not name:
            raise ValueError(f'{MAP} takes prefix=name, got "{pair}"')
        if prefix in read:
            raise ValueError(f'{MAP} has the prefix "{prefix}" twice')
        read[prefix] = name
    return read
