"""A plan of insertions, to print and to apply."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy

from torch import nn

from ..core.text import aligned, html_table
from .grids import Note, Sized, Sizes, Source
from .planning import PlannedInsertion
from .site import InsertedAttention, Insertion, attach, exchanged, outermost


class Plan(Sequence[Insertion]):
    """The insertions that `regard.plan` returns, in the order of execution.

    Attributes:
        model: The model that it is for.
        skipped: The modules that are left out, and why.

    >>> from regard import plan
    >>> plan(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()), "se", at="0", reduction=2)
    Plan of 1 insertion, 65 parameters
    module  mechanism           channels  layout   parameters
    0       squeeze_excitation         8  b c h w          65
    """

    def __init__(
        self,
        model: nn.Module,
        planned: Iterable[PlannedInsertion],
        skipped: Mapping[str, str] | None = None,
    ) -> None:
        self.model = model
        self.planned = tuple(planned)
        self.skipped = dict(skipped or {})

    def __getitem__(self, index):  # type: ignore[override]  # an integer or a slice
        return [one.insertion for one in self.planned][index]

    def __len__(self) -> int:
        return len(self.planned)

    def __eq__(self, other: object) -> bool:
        return list(self) == list(other) if isinstance(other, Sequence) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        shown = f"{self._title()}\n{self.table()}"
        if self.skipped:
            shown += f"\nleft out\n{aligned([*self.skipped.items()], left=2)}"
        return shown

    def _repr_html_(self) -> str:
        return html_table(self._rows(), left=2, caption=self._title())

    def _title(self) -> str:
        total = sum(insertion.parameters for insertion in self)
        return f"Plan of {len(self)} insertion{'s' * (len(self) != 1)}, {total:,} parameters"

    def _rows(self) -> list[tuple[str, ...]]:
        head = ("module", "mechanism", "channels", "layout", "parameters")
        return [
            head,
            *(
                (
                    insertion.path or "(the model)",
                    insertion.mechanism,
                    str(insertion.channels),
                    str(insertion.layout),
                    f"{insertion.parameters:,}",
                )
                for insertion in self
            ),
        ]

    def table(self) -> str:
        """Return the insertions as text, one line each."""
        return aligned(self._rows(), left=2)

    def apply(self) -> nn.Module:
        """Return a copy of the model with all insertions; the model itself is not changed."""
        new = deepcopy(self.model)
        noted: dict[Source, Sizes] = {}
        for one in self.planned:
            sizes = None
            if one.source is not None:
                sizes = noted[one.source] = noted.get(one.source) or Sizes()
            attention = InsertedAttention(
                one.build(),
                one.insertion.layout,
                gated=one.insertion.gated,
                grid=one.grid,
                sizes=sizes,
                some_runs=one.some_runs,
            )
            new = attach(new, one.insertion, attention.to(one.device, one.dtype))
        for source, sizes in noted.items():
            old = outermost(new, source.module)
            new = exchanged(new, old, Sized(old, source.output, Note(sizes, source.sides)))
        return new
