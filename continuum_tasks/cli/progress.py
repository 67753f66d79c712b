"""Show how far work has come, on standard error: a bar on a terminal, plain lines in a log, nothing beside JSON."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from continuum_tasks.cli.asked import asked
from continuum_tasks.cli.emit import remark, size
from continuum_tasks.model import Progress

LINE_SECONDS = 5.0


class Display(Protocol):
    """Where progress is shown."""

    def show(self, progress: Progress) -> None: ...


@contextmanager
def display(title: str) -> Iterator[Display]:
    """Show progress under a title for as long as the context lasts, in the way that standard error and `--format` ask for."""
    if asked().as_json:
        yield Silent()
    elif sys.stderr.isatty():
        from continuum_tasks.cli.bar import bar

        with bar(title) as found:
            yield found
    else:
        yield Lines(title=title, say=remark, monotonic=time.monotonic)


class Silent:
    """Shows nothing."""

    def show(self, progress: Progress) -> None:
        pass


@dataclass(slots=True, kw_only=True)
class Lines:
    """A line when a phase begins, and then one every few seconds."""

    title: str
    say: Callable[[str], None]
    monotonic: Callable[[], float]
    _phase: str = ""
    _begun: float = 0.0
    _last: float = 0.0

    def show(self, progress: Progress) -> None:
        at = self.monotonic()
        if progress.phase != self._phase:
            self._phase, self._begun, self._last = progress.phase, at, at
            total = f" {size(progress.total_bytes)}" if progress.total_bytes else ""
            self.say(f"{self.title}: {progress.phase}{total}")
        elif at - self._last >= LINE_SECONDS and progress.total_bytes:
            self._last = at
            rate = progress.n_bytes / (at - self._begun)
            left = f", {(progress.total_bytes - progress.n_bytes) / rate:.0f} s left" if rate else ""
            share = f"{100 * progress.n_bytes // progress.total_bytes} %"
            self.say(f"{self.title}: {progress.phase} {share} of {size(progress.total_bytes)}, {size(rate)}/s{left}")
