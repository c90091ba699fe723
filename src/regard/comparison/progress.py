"""Progress of a comparison: bars on a terminal, lines elsewhere, nothing if quiet."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType

from rich import progress
from rich.console import Console


class Progress:
    """Shows how many runs are finished and how long the remaining ones will take.

    Args:
        total: Runs to train, in all processes together.
        epochs: Epochs of a run.
        count_finished: Returns how many of them any process has finished.
        quiet: Show nothing.
    """

    def __init__(
        self, total: int, epochs: int, count_finished: Callable[[], int], *, quiet: bool = False
    ) -> None:
        self.total, self.epochs, self.quiet = total, epochs, quiet
        self.count_finished = count_finished
        self.console = Console(stderr=True, quiet=quiet, highlight=False)
        self.started = time.monotonic()
        self.label = ""
        self._stack = ExitStack()
        self._bars = None
        if self.console.is_terminal and not quiet:
            bars = progress.Progress(
                progress.TextColumn("{task.description:<28}"),
                progress.BarColumn(),
                progress.MofNCompleteColumn(),
                progress.TimeElapsedColumn(),
                progress.TextColumn("left"),
                progress.TimeRemainingColumn(),
                console=self.console,
            )
            self._run_bar = bars.add_task("runs", total=total)
            self._epoch_bar = bars.add_task("", total=epochs)
            self._bars = bars

    def __enter__(self) -> Progress:
        if self._bars:
            self._stack.enter_context(self._bars)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def print(self, text: str) -> None:
        """Write a line."""
        self.console.print(text, soft_wrap=True, markup=False)

    def start_run(self, label: str) -> None:
        """Show that a run starts."""
        self.label = label
        if self._bars:
            self._bars.reset(self._epoch_bar, description=label, total=self.epochs)

    def end_epoch(self, metrics: dict[str, float]) -> None:
        """Show the metrics of an epoch of this run."""
        if self._bars:
            text = f"{self.label}  {100 * metrics['accuracy']:.1f} %"
            self._bars.update(self._epoch_bar, completed=metrics["epoch"], description=text)
            part = metrics["epoch"] / self.epochs
            self._bars.update(self._run_bar, completed=self.count_finished() + min(part, 0.99))

    def end_run(self, accuracy: float) -> None:
        """Show that the run is finished; call it once the run is in the results log."""
        finished = self.count_finished()
        if self._bars:
            self._bars.update(self._run_bar, completed=finished)
        elif not self.quiet:
            elapsed = time.monotonic() - self.started
            left = elapsed / max(finished, 1) * (self.total - finished)
            self.print(
                f"{finished}/{self.total}  {self.label}  {100 * accuracy:.2f} %  "
                f"about {format_duration(left)} left"
            )


def format_duration(seconds: float) -> str:
    """Write a duration in hours, minutes and seconds.

    >>> format_duration(75), format_duration(7260)
    ('1:15', '2:01:00')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
