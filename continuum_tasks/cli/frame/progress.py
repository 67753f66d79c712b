"""Show how far work has come, on standard error: a bar on a terminal, plain lines in a log, nothing beside JSON."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from rich import progress as rich
from rich.console import Console

from continuum_tasks.cli.frame.context import cli_context, configuration
from continuum_tasks.cli.frame.output import remark, size
from continuum_tasks.model import Progress

LINE_SECONDS = 5.0


class Display(Protocol):
    """Where progress is shown."""

    def show(self, progress: Progress) -> None: ...


@contextmanager
def display(title: str, *, steps: bool = False) -> Iterator[Display]:
    """Show progress under a title for as long as the context lasts, in the way that standard error and `--format` ask for.

    With `steps` every note is shown too, whatever the format: what was decided, and why.
    """
    if steps:
        lines = Lines(title=title, say=remark, monotonic=time.monotonic)
        yield Steps(lines=lines, begun=time.monotonic(), log=CommandLog(path=configuration().log_file, title=title))
    elif cli_context().as_json:
        yield Silent()
    elif sys.stderr.isatty():
        pass

        with bar(title) as found:
            yield found
    else:
        yield Lines(title=title, say=remark, monotonic=time.monotonic)


class Silent:
    """Shows nothing."""

    def show(self, progress: Progress) -> None:
        pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """Lines, and every note with the seconds since the beginning."""

    lines: Lines
    begun: float
    log: CommandLog

    def show(self, progress: Progress) -> None:
        self.lines.show(progress)
        if progress.note:
            self.lines.say(f"debug {self.lines.monotonic() - self.begun:8.3f} s: {progress.note}")
            self.log.write(progress.note)


@dataclass(slots=True, kw_only=True)
class CommandLog:
    """The log file of the configuration, in the form workers write it. That it cannot be written is said once."""

    path: Path
    title: str
    _failed: bool = False

    def write(self, note: str) -> None:
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = {
            "at": now,
            "level": "debug",
            "process": os.getpid(),
            "logger": "continuum_tasks.cli",
            "event": f"{self.title}: {note}",
        }
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as err:
            if not self._failed:
                self._failed = True
                remark(f"{self.path}: cannot be written ({err.strerror}): the steps are only shown here")
            return
        with os.fdopen(descriptor, "a", encoding="ascii") as file:
            file.write(json.dumps(line) + "\n")


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
