"""CONTINUUM backup as two rows: the actions in one process, and the command line with broker and workers."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks import measure
from benchmarks.measure import Command, Step
from benchmarks.places import ROOT, continuum
from benchmarks.tools import fresh

_READY_SECONDS = 60


@dataclass(slots=True, kw_only=True)
class OneProcess:
    """What the command line does without a broker: default settings, local storage, encryption on."""

    source: Path
    place: Path
    name: str = "continuum, one process"
    is_peer: bool = False

    def prepare(self) -> None:
        fresh(self.place)
        self._act("init", self.source, self.place / "storage")

    def full(self) -> Step:
        return self._act("full", settle=self.place / "storage")

    def second(self) -> Step:
        return self._act("incremental", settle=self.place / "storage")

    def restore(self, target: Path) -> Step:
        return self._act("restore", target, settle=target)

    def stored_bytes(self) -> int:
        return measure.stored_bytes(self.place / "storage")

    def _act(self, verb: str, *paths: Path, settle: Path | None = None) -> Step:
        log = self.place / f"{verb}.log"
        words: tuple[str | Path, ...] = (sys.executable, "-m", "benchmarks.one_process", self.place / "etc", verb, *paths)
        step = measure.run(Command(words=words, log=log, directory=ROOT), settle=[settle] if settle else [])
        phases = json.loads(log.read_text(encoding="utf-8").splitlines()[-1])
        return replace(step, detail=phases)


@dataclass(slots=True, kw_only=True)
class Workers:
    """`continuum backup ... --no-local`: the command's own time, with the stack up before it and memory of all its processes.

    The stack is up only around its own steps, so that it takes nothing from the other tools'.
    """

    source: Path
    place: Path
    name: str = "continuum, broker and workers"
    is_peer: bool = False
    processes: dict[str, int] = field(default_factory=dict)

    def prepare(self) -> None:
        fresh(self.place)
        words: tuple[str | Path, ...] = (
            "init",
            "--config-dir",
            self._config,
            "--database",
            self.source,
            "--storage",
            self.place / "storage",
            "--yes",
        )
        measure.run(Command(words=(continuum(), *words), log=self.place / "log"))

    def full(self) -> Step:
        return self._measured("backup", "create", "--strategy", "full", settle=self.place / "storage")

    def second(self) -> Step:
        return self._measured("backup", "create", "--strategy", "incremental", settle=self.place / "storage")

    def restore(self, target: Path) -> Step:
        return self._measured("backup", "restore", "--latest", "--target", str(target), settle=target)

    def stored_bytes(self) -> int:
        return measure.stored_bytes(self.place / "storage")

    @property
    def _config(self) -> Path:
        return self.place / "etc"

    def _measured(self, *words: str, settle: Path) -> Step:
        with self._stack() as stack:
            measure.forget_peaks(measure.descendants(stack.pid))
            command: tuple[str | Path, ...] = (continuum(), "--config-dir", self._config, *words, "--no-local")
            step = measure.run(Command(words=command, log=self.place / "log"), settle=[settle])
            peak_bytes = measure.peak_of(measure.descendants(stack.pid))
        return replace(step, peak_bytes=max(step.peak_bytes, peak_bytes))

    @contextmanager
    def _stack(self) -> Iterator[subprocess.Popen[bytes]]:
        log = self.place / "up.log"
        with log.open("wb") as out:
            words = [str(continuum()), "--config-dir", str(self._config), "up"]
            stack = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT)
        try:
            _await(lambda: "ready" in log.read_text(encoding="utf-8").splitlines(), stack, log)
            _await_calm(stack.pid)
            yield stack
        finally:
            stack.send_signal(signal.SIGINT)
            stack.wait(_READY_SECONDS)


def why_no_workers(place: Path) -> str:
    """Return why `continuum up` and the commands that need it cannot be measured here, or nothing."""
    fresh(place)
    for words in (("up", "--help"), ("backup", "create", "--help"), ("backup", "restore", "--help")):
        try:
            measure.run(Command(words=(continuum(), *words), log=place / "log"))
        except (RuntimeError, OSError) as err:
            return f"`continuum {' '.join(words)}`: {str(err).splitlines()[-1]}"
    shutil.rmtree(place)
    return ""


def _await_calm(pid: int) -> None:
    """Wait until a started stack rests (under 10 % of one processor for a second): it is measured as it is found in use."""
    deadline = time.monotonic() + _READY_SECONDS
    spent, before = measure.cpu_seconds(measure.descendants(pid)), -1.0
    while spent - before > 0.1 and time.monotonic() < deadline:
        time.sleep(1)
        spent, before = measure.cpu_seconds(measure.descendants(pid)), spent


def _await(ready: Callable[[], bool], stack: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while not ready():
        if stack.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the stack did not come up:\n{log.read_text(encoding='utf-8')[-2000:]}")
        time.sleep(0.1)
