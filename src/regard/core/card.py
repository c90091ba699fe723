"""The card of a mechanism: its facts as data, read by the catalogue, the laws and the tools."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

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

    Patterns of axes are in the language of `regard.core.shapes`.

    Attributes:
        title: What people call it.
        paper: Title of the paper.
        authors: Its authors.
        venue: Where it was published.
        year: When.
        url: Where to read it.
        code: The authors' repository, or the one that the field takes for it.
        licence: The licence of that repository, as its files state it.
        domain: What is weighed: channels, positions, frames, branches, tokens.
        computes: How the weights are found: ``pool``, ``fc``, ``conv``, ``matmul``, joined by +.
        applies: How they are used: ``gate``, ``matmul``, ``select``, ``sample``, ``add``.
        kind: What it can stand for in a network.
        input: Axes of the input; several inputs are separated by commas.
        map: Axes of the attention map; a tuple of maps is separated by commas.
        output: Axes of the output.
        parts: Axes of the maps of a composite's parts, by the name behind ``tap_``.
        range: Values of the map: ``unit`` (0 to 1), ``softmax`` (sums to one over the last axis),
            ``softmax k`` (over axis k), ``real``, ``offset`` (coordinates).
        equivariant: The output follows these permutations of the input.
        map_invariant: The map does not see these permutations.
        independent: Slices along these axes do not see one another.
        identity_at_init: A new module returns its input.
        train_differs: Training mode computes something else than evaluation mode.
        inert: Parameters whose gradient is zero by mathematics, with the reason.
        cost: Growth of ``time`` and ``memory`` in n positions and c channels.
        aliases: Other names, the prefix of its golden cases among them.
        differs: Where the default leaves the paper or the authors' code, and why.
        references: Sources whose arguments and weights can be loaded, with the axes of the map
            there (empty where that code has none).
        refuses: Sources of the same name whose mathematics is another, with what is different.
        example: Arguments for a small instance.
        variants: Changes to the example that bring every option into play.
        exempt: Laws that the mathematics forbids, with the reason.
        plug: Can stand anywhere in a network; whole models cannot.
    """

    title: str
    paper: str
    authors: tuple[str, ...]
    venue: str
    year: int
    url: str
    code: str = ""
    licence: str = ""
    domain: Domain
    computes: str
    applies: str
    kind: Kind
    input: str = "b c h w"
    map: str = "b c h w"
    output: str = "b c h w"
    parts: Mapping[str, str] = field(default_factory=dict)
    range: str = "real"
    equivariant: tuple[str, ...] = ()
    map_invariant: tuple[str, ...] = ()
    independent: tuple[str, ...] = ()
    identity_at_init: bool = False
    train_differs: bool = False
    inert: Mapping[str, str] = field(default_factory=dict)
    cost: Mapping[str, str]
    aliases: tuple[str, ...]
    differs: tuple[str, ...] = ()
    references: Mapping[str, str]
    refuses: Mapping[str, str] = field(default_factory=dict)
    example: Mapping[str, Any]
    variants: tuple[Mapping[str, Any], ...] = ()
    exempt: Mapping[str, str] = field(default_factory=dict)
    plug: bool = True
