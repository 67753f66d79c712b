"""A progress bar on a terminal: phase, bytes, rate and the time that is left."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich import progress as rich
from rich.console import Console

from continuum_tasks.model import Progress


@contextmanager
def bar(title: str) -> Iterator[ProgressBar]:
    """Draw a bar on standard error until the context ends; it leaves nothing behind."""
    columns = (
        rich.TextColumn("{task.description}", markup=False),
        rich.BarColumn(bar_width=24),
        rich.DownloadColumn(binary_units=True),
        rich.TransferSpeedColumn(),
        rich.TimeRemainingColumn(),
    )
    console = Console(stderr=True, markup=False, highlight=False)
    with rich.Progress(*columns, console=console, transient=True) as found:
        yield ProgressBar(bars=found, title=title, task=found.add_task(title, total=None))


@dataclass(slots=True, kw_only=True)
class ProgressBar:
    """One line that begins again with every phase."""

    bars: rich.Progress
    title: str
    task: rich.TaskID
    _phase: str = ""

    def show(self, progress: Progress) -> None:
        total = progress.total_bytes or None
        if progress.phase != self._phase:
            self._phase = progress.phase
            self.bars.remove_task(self.task)
            self.task = self.bars.add_task(f"{self.title}: {progress.phase}", total=total)
        self.bars.update(self.task, completed=progress.n_bytes, total=total)
