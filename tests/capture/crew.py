"""Run writers and hostile processes against one database for some seconds, and kill some of them at random on the way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from random import Random

import apsw

from tests.capture import workload
from tests.capture.writer import Orders
from tests.support.processes import ROOT

HOSTILE = ("checkpoint", "come_and_go", "read_long", "switch_journal")
_WRITER_LIVES_SECONDS = (0.3, 2.0)
_STEP_SECONDS = 0.02
_END_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to happen to the database. `last` ends the writers at that commit, if the seconds have not before."""

    page_size: int
    seconds: float
    seed: int
    n_writers: int = 3
    hostile: tuple[str, ...] = HOSTILE
    kill_writers: bool = True
    last: int = 0
    rate: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """What has happened: `final` is the number in the database at the end.

    `witnessed` are the numbers that writers saw committed, with the time (nanoseconds since 1970) just after that.
    """

    final: int
    witnessed: dict[int, int]
    n_kills: int
    wal_peak_bytes: int


def create(path: Path, page_size: int) -> None:
    """Make the workload's database."""
    with closing(apsw.Connection(str(path))) as connection:
        workload.create(connection, page_size)


def start(module: str, *arguments: object) -> subprocess.Popen[bytes]:
    """Start a module of the harness as a process that dies with this one."""
    words = [sys.executable, "-m", f"tests.capture.{module}", *map(str, arguments)]
    return subprocess.Popen(words, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})


def run(path: Path, plan: Plan, *, meanwhile: Callable[[float], None] = lambda elapsed: None) -> Story:
    """Let the crew loose on an existing database and return when all have stopped.

    `meanwhile` is called every few hundredths of a second with the seconds since the start: to kill an agent, for example.
    """
    witness = path.with_name("witness.log")
    rng = Random(plan.seed)
    hostile = [start("hostile", role, path, plan.seconds, plan.seed * 100 + number) for number, role in enumerate(plan.hostile)]
    writers = [_Writer(path, witness, plan, rng=rng) for _ in range(plan.n_writers)]
    peak = 0
    began = time.monotonic()
    try:
        while (elapsed := time.monotonic() - began) < plan.seconds and not all(writer.is_done() for writer in writers):
            for writer in writers:
                writer.attend(elapsed)
            meanwhile(elapsed)
            peak = max(peak, size_of(path.with_name(path.name + "-wal")))
            time.sleep(_STEP_SECONDS)
        _finish([writer.process for writer in writers])
    finally:
        for process in (*hostile, *(writer.process for writer in writers)):
            process.kill()
            process.wait()
    _settle(path)
    return Story(
        final=committed(path),
        witnessed={int(n): int(at) for n, at in map(str.split, witness.read_text().splitlines())},
        n_kills=sum(writer.n_kills for writer in writers),
        wal_peak_bytes=peak,
    )


class _Writer:
    """One writer, started again each time it was killed."""

    def __init__(self, path: Path, witness: Path, plan: Plan, *, rng: Random) -> None:
        self._path, self._witness, self._plan, self._rng = path, witness, plan, rng
        self.n_kills = 0
        self._spawn(0.0)

    def _spawn(self, elapsed: float) -> None:
        self.process = start(
            "writer",
            *Orders(
                database=self._path,
                witness=self._witness,
                seconds=max(0.0, self._plan.seconds - elapsed),
                seed=self._rng.randrange(1 << 30),
                page_size=self._plan.page_size,
                last=self._plan.last,
                rate=self._plan.rate / self._plan.n_writers,
            ).arguments(),
        )
        self._kill_at = elapsed + self._rng.uniform(*_WRITER_LIVES_SECONDS) if self._plan.kill_writers else float("inf")
        self._n_witnessed_bytes = size_of(self._witness)

    def attend(self, elapsed: float) -> None:
        """Kill it when its time has come and something was committed meanwhile, and start another in its place."""
        made = size_of(self._witness) > self._n_witnessed_bytes  # on a busy machine a process takes its time to start
        if elapsed >= self._kill_at and made and not self.is_done():
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            self.n_kills += 1
            self._spawn(elapsed)

    def is_done(self) -> bool:
        return self.process.poll() is not None


def _finish(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    codes = [process.wait(timeout=_END_SECONDS) for process in processes]
    if any(codes):
        raise AssertionError(f"writers ended with {codes}")


def _settle(path: Path) -> None:
    """Go back to WAL mode, if the crew's end came while the database had left it."""
    with closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)) as connection:
        connection.set_busy_timeout(5000)
        connection.execute("PRAGMA journal_mode = WAL").fetchall()


def committed(path: Path) -> int:
    """Return the number of the last commit in the live database, as the service would read it."""
    with closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)) as connection:
        connection.set_busy_timeout(5000)
        return workload.number_of(connection)


def size_of(path: Path) -> int:
    """Return a file's size, 0 where there is none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
