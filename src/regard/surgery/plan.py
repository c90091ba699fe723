"""A plan of insertions: to look at, and to carry out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import deepcopy

from torch import nn

from ..core.text import aligned, html_table
from .planning import Place
from .site import Insertion, Site, attach


class Plan(Sequence[Insertion]):
    """The insertions that `regard.plan` found, in the order of the run.

    >>> from regard import plan
    >>> plan(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()), "se", at="0", reduction=2)
    Plan of 1 insertion, 65 parameters
    module  mechanism           channels  layout   parameters
    0       squeeze_excitation         8  b c h w          65
    """

    def __init__(self, model: nn.Module, places: Iterable[Place]) -> None:
        self.model = model
        self.places = tuple(places)

    def __getitem__(self, index):  # type: ignore[override]  # an integer or a slice
        return [place.insertion for place in self.places][index]

    def __len__(self) -> int:
        return len(self.places)

    def __eq__(self, other: object) -> bool:
        return list(self) == list(other) if isinstance(other, Sequence) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"{self._title()}\n{self.table()}"

    def _repr_html_(self) -> str:
        return html_table(self._rows(), left=2, caption=self._title())

    def _title(self) -> str:
        total = sum(what.parameters for what in self)
        return f"Plan of {len(self)} insertion{'s' * (len(self) != 1)}, {total:,} parameters"

    def _rows(self) -> list[tuple[str, ...]]:
        head = ("module", "mechanism", "channels", "layout", "parameters")
        return [
            head,
            *(
                (
                    what.path or "(the model)",
                    what.mechanism,
                    str(what.channels),
                    str(what.layout),
                    f"{what.parameters:,}",
                )
                for what in self
            ),
        ]

    def table(self) -> str:
        """The insertions as text, one line each."""
        return aligned(self._rows(), left=2)

    def apply(self) -> nn.Module:
        """Build what is planned into a copy of the model, which is left as it is."""
        new = deepcopy(self.model)
        for place in self.places:
            what, host = place.insertion, new.get_submodule(place.insertion.path)
            site = Site(place.build(), what.layout, gated=what.gated)
            attach(host, site.to(place.like.device, place.like.dtype).train(host.training))
        return new
