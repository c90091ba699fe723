"""The card of a mechanism: its facts as data, read by the catalog, the laws and the tools."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Domain = Literal[
    "channel",
    "spatial",
    "temporal",
    "branch",
    "channel+spatial",
    "spatial+temporal",
    "sequence",
]
Kind = Literal["gate", "relation", "convolution", "sequence", "head", "network"]


@dataclass(frozen=True, kw_only=True)
class Card:
    """Facts about one mechanism, written once, as literals, so that they are read without torch.

    Attributes:
        title: What people call it.
        paper: Title of the paper.
        authors: Its authors, "First Last, First Last".
        venue: Where it was published.
        year: When.
        url: Where to read it.
        code: The authors' repository, or the one that the field takes for it.
        license: The license of that repository, as its files state it.
        domain: What is weighed: channels, positions, frames, branches, tokens.
        computes: How the weights are found: ``pool``, ``fc``, ``conv``, ``matmul``, joined by +.
        applies: How they are used: ``gate``, ``matmul``, ``select``, ``sample``, ``add``.
        kind: What it can stand for in a network.
        equivariant: The output follows these permutations of the input.
        map_invariant: The map does not see these permutations.
        independent: Slices along these axes do not see one another.
        identity_at_init: A new module returns its input.
        train_differs: Training mode computes something else than evaluation mode.
        cost: Growth of ``time`` and ``memory`` in n positions and c channels.
        aliases: Other names, the prefix of its golden cases among them.
        differs: Where the default leaves the paper or the authors' code, and why.
        plug: Can stand anywhere in a network; whole models cannot.
    """

    title: str
    paper: str
    authors: str
    venue: str
    year: int
    url: str
    code: str = ""
    license: str = ""
    domain: Domain
    computes: str
    applies: str
    kind: Kind
    equivariant: tuple[str, ...] = ()
    map_invariant: tuple[str, ...] = ()
    independent: tuple[str, ...] = ()
    identity_at_init: bool = False
    train_differs: bool = False
    cost: Mapping[str, str]
    aliases: tuple[str, ...]
    differs: tuple[str, ...] = ()
    plug: bool = True
