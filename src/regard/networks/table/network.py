"""The description of a network as data, and its published figures."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

FIGURES = Path(__file__).parent.parent / "paper_numbers.json"

Convention = Literal[
    "", "conv+matmul", "caffe", "ptflops", "thop", "thop/2^30", "fvcore", "no attention products"
]


@dataclass(frozen=True)
class Placement:
    """A mechanism, and the places at which `regard.insert` or `regard.replace` inserts it.

    Attributes:
        mechanism: Key of the mechanism in the catalog.
        at: The places: a preset or a glob of module names.
        options: Options of the mechanism, without the channels, which the model determines.
    """

    mechanism: str
    at: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Network:
    """One network of a paper: a backbone, and the mechanisms in it.

    Attributes:
        name: Name for `regard.network`.
        title: Name in the paper.
        backbone: ``timm:NAME``, or ``own:FILE.NAME`` for a class or function of
            ``regard.networks`` that takes ``num_classes`` and ``in_chans``.
        arguments: Arguments of the backbone, including ``num_classes`` unless it is 1000.
        mechanism: Key of the mechanism of the same paper; empty for a baseline.
        venue: Venue of the publication, unless it is on the card of the mechanism.
        url: Address of the publication, unless it is on that card.
        places: The mechanisms to insert, in order.
        without: Globs of the modules to remove: they become `torch.nn.Identity`.
        input: Shape of the input without the batch, for the published MACs; a tuple of shapes for
            several inputs. A shape of one size is that of a sequence of tokens.
        record: Name of the record of ``paper_numbers.json`` with the published figures.
        convention: The operations that the published MACs count: a key of
            `regard.networks.counting.CONVENTIONS`.
        remark: Reason for a difference between counted and published figures.
    """

    name: str
    title: str
    backbone: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    mechanism: str = ""
    venue: str = ""
    url: str = ""
    places: tuple[Placement, ...] = ()
    without: tuple[str, ...] = ()
    input: tuple[Any, ...] = (3, 224, 224)
    record: str = ""
    convention: Convention = ""
    remark: str = ""

    @property
    def published(self) -> Mapping[str, Any]:
        """The record of the published figures; empty if there is none."""
        return records()[self.record] if self.record else {}

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shapes of the inputs with a batch of one."""
        shapes = self.input if isinstance(self.input[0], tuple) else (self.input,)
        return tuple((1, *shape) for shape in shapes)


@cache
def records() -> dict[str, dict[str, Any]]:
    """Return the published figures, by the name of the record."""
    loaded = json.loads(FIGURES.read_text("utf-8"))["records"]
    return {record["network"]: record for record in loaded}
