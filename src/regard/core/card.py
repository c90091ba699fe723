"""The card of a mechanism: facts as data, for the catalog, the tests and the tools."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from .axes import Axes

Domain = Literal[
    "channel",
    "spatial",
    "temporal",
    "branch",
    "channel+spatial",
    "spatial+temporal",
    "sequence",
]
Kind = Literal[
    "gate",
    "relation",
    "convolution",
    "sequence",
    "head",
    "network",
    "pair",
    "pool",
    "levels",
    "upsampler",
]


@dataclass(frozen=True, kw_only=True)
class Card:
    """Facts about one mechanism, as literals, so that they can be read without importing torch.

    Attributes:
        title: The usual name.
        paper: Title of the paper.
        authors: Its authors, "First Last, First Last".
        venue: Where it was published.
        year: When it was published.
        url: Address of the paper.
        code: The authors' repository, or the one that is generally used instead.
        license: The license of that repository, as its files state it.
        domain: What is weighed: channels, positions, frames, branches, tokens.
        computes: How the weights are computed: ``pool``, ``fc``, ``conv``, ``matmul``, joined by +.
        applies: How they are used: ``gate``, ``matmul``, ``select``, ``sample``, ``add``.
        kind: Its role in a network: a ``pair`` takes two features, ``levels`` a pyramid of them, a
            ``pool`` returns one vector and an ``upsampler`` a larger image.
        equivariant: Permuting the input along these permutes the output in the same way.
        map_invariant: Permuting the input along these does not change the map.
        independent: Slices along these do not influence one another.
        identity_at_init: Whether a new module returns its input.
        train_differs: Whether training mode computes something other than evaluation mode.
        cost: Growth of ``time`` and ``memory`` with n positions and c channels.
        aliases: Other names, including the prefix of its golden test cases.
        differs: Where the default deviates from the paper or the authors' code, and why.
        plug: Whether it can be inserted into a network; whole models cannot.
        axes: The axes of the class, with its default options; not written on the card, but stated
            by the class.
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
    axes: Axes = field(default=Axes(), repr=False, compare=False)

    @property
    def input(self) -> str:
        """The axes of the input."""
        return self.axes.input

    @property
    def map(self) -> str:
        """The axes of the map."""
        return self.axes.map

    @property
    def output(self) -> str:
        """The axes of the output."""
        return self.axes.output
