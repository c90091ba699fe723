"""What a network is made of, as data, and what was published of it."""

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
    """A mechanism, and the places where `regard.insert` or `regard.replace` puts it.

    Attributes:
        mechanism: Its key in the catalog.
        at: The places: a preset or a glob of module names.
        options: Its options; the channels are found.
    """

    mechanism: str
    at: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Network:
    """One network of a paper: a backbone, and what stands where in it.

    Attributes:
        name: What `regard.network` calls it.
        title: What the paper calls it.
        backbone: ``timm:NAME``, or ``own:FILE.NAME`` for a class or function of
            ``regard.networks`` that takes ``num_classes`` and ``in_chans``.
        arguments: What the backbone is given, ``num_classes`` among them if they are not 1000.
        mechanism: The key of the mechanism whose paper it is from; empty for a baseline.
        venue: Where it was published, if no mechanism's card says so.
        url: Where to read that.
        places: What is put where, in order.
        without: Globs of the modules that the network lacks: they become `torch.nn.Identity`.
        input: Sizes of one input without the batch, for the published MACs; several inputs are
            several tuples. One size alone is that of a sequence of tokens.
        record: Which record of ``paper_numbers.json`` says what was published.
        convention: What the published MACs count: a key of `regard.networks.counting.CONVENTIONS`.
        remark: Why the counted figures are not the published ones, where they are not.
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
        """The shapes of a batch of one."""
        several = self.input if isinstance(self.input[0], tuple) else (self.input,)
        return tuple((1, *sizes) for sizes in several)


@cache
def records() -> dict[str, dict[str, Any]]:
    """The published figures by the name of the network there."""
    found = json.loads(FIGURES.read_text("utf-8"))["records"]
    return {record["network"]: record for record in found}
