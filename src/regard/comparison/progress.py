"""How far the comparison is: bars on a terminal, lines elsewhere, nothing when quiet."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


class Watch:
    """Tells how many runs are done and how long the rest will take.

    Args:
        total: Runs to do, on all processes together.
        epochs: Epochs of a run.
        finished: Counts the runs that any process has finished since.
        quiet: Say nothing.
    """

    def __init__(
        self, total: int, epochs: int, finished: Callable[[], int], *, quiet: bool = False
    ) -> None:
        self.total, self.epochs, self.finished, self.quiet = total, epochs, finished, quiet
        self.console = Console(stderr=True, quiet=quiet, highlight=False)
        self.started = time.monotonic()
        self.label = ""
        self._open = ExitStack()
        self._bars = None
        if self.console.is_terminal and not quiet:
            bars = Progress(
                TextColumn("{task.description:<28}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                console=self.console,
            )
            self._runs = bars.add_task("runs", total=total)
            self._epochs = bars.add_task("", total=epochs)
            self._bars = bars

    def __enter__(self) -> Watch:
        if self._bars:
            self._open.enter_context(self._bars)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._open.close()

    def say(self, text: str) -> None:
        """Write a line."""
        self.console.print(text, soft_wrap=True, markup=False)

    def run(self, label: str) -> None:
        """A run begins."""
        self.label = label
        if self._bars:
            self._bars.reset(self._epochs, description=label, total=self.epochs)

    def epoch(self, curve: dict[str, float]) -> None:
        """An epoch of it is over."""
        if self._bars:
            text = f"{self.label}  {100 * curve['accuracy']:.1f} %"
            self._bars.update(self._epochs, completed=curve["epoch"], description=text)
            part = curve["epoch"] / self.epochs
            self._bars.update(self._runs, completed=self.finished() + min(part, 0.99))

    def over(self, accuracy: float) -> None:
        """The run is over, and in the ledger."""
        done = self.finished()
        if self._bars:
            self._bars.update(self._runs, completed=done)
        elif not self.quiet:
            left = (time.monotonic() - self.started) / max(done, 1) * (self.total - done)
            self.say(
                f"{done}/{self.total}  {self.label}  {100 * accuracy:.2f} %  "
                f"about {clock(left)} left"
            )


def clock(seconds: float) -> str:
    """Write a time as people say it.

    >>> clock(75), clock(7260)
    ('1:15', '2:01:00')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
