"""What one capturing process takes for many databases: CPU, memory, descriptors, lag; and what an idle one costs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import report
from benchmarks.places import BENCH, continuum
from benchmarks.report import MIB
from continuum_tasks.launch import own_command

PLACE = BENCH / "fleet"
_WRITE = """
import random, sqlite3, sys, time
paths, rate, seconds = sys.argv[3:], float(sys.argv[1]), float(sys.argv[2])
begun, n = time.monotonic(), 0
while time.monotonic() - begun < seconds:
    for path in paths:
        connection = sqlite3.connect(path, timeout=5)
        connection.execute("INSERT INTO t(x) VALUES (?)", (random.randbytes(400),))
        connection.commit()
        connection.close()
        n += 1
    time.sleep(max(0.0, begun + n / len(paths) / rate - time.monotonic()))
print(n)
"""
_MAKE = """
import sqlite3, sys
for path in sys.argv[1:]:
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("CREATE TABLE t(n INTEGER PRIMARY KEY, x)")
    connection.close()
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What the processes took over a stretch of time, and their requests to the storage."""

    seconds: float
    cpu_seconds: float
    resident_bytes: int
    n_descriptors: int
    n_requests: int
    p50_seconds: float
    p95_seconds: float


def run(*, n_databases: int = 200, n_busy: int = 20, seconds: float = 60.0, rate: float = 10.0) -> str:
    """Capture `n_databases`, `n_busy` of them written to at `rate` commits a second each; return a table."""
    shutil.rmtree(PLACE, ignore_errors=True)
    PLACE.mkdir(parents=True)
    names = [f"d{number:03}" for number in range(n_databases)]
    try:
        _prepare(names)
        with _capturing() as process:
            _await(names)
            idle = _measure(process, names, lambda: time.sleep(seconds / 2))
            busy = _measure(process, names, lambda: _write(names[:n_busy], rate, seconds))
    finally:
        shutil.rmtree(PLACE, ignore_errors=True)
    rows: list[tuple[str, ...]] = [
        ("", "CPU of a core", "memory MiB", "descriptors", "requests a second", "lag p50 s", "p95 s")
    ]
    rows += [_row(f"{n_databases} databases, idle", idle), _row(f"{n_busy} of them at {rate:g} commits/s", busy)]
    return report.table(rows)


def _row(name: str, found: Figures) -> tuple[str, ...]:
    return (
        name,
        f"{100 * found.cpu_seconds / found.seconds:.1f} %",
        f"{found.resident_bytes / MIB:.0f}",
        f"{found.n_descriptors}",
        f"{found.n_requests / found.seconds:.2f}",
        f"{found.p50_seconds:.2f}",
        f"{found.p95_seconds:.2f}",
    )


def _prepare(names: list[str]) -> None:
    words = [str(continuum()), "init", "--config-dir", str(PLACE / "etc"), "--yes"]
    words += ["--database", str(PLACE / "d000.db"), "--storage", str(PLACE / "storage")]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    subprocess.run([sys.executable, "-c", _MAKE, *(str(PLACE / f"{name}.db") for name in names)], check=True)
    conf = PLACE / "etc" / "backup.conf"
    text = (
        conf.read_text(encoding="utf-8")
        .split("[database:", 1)[0]
        .replace("default_database = memory", "default_database = d000")
    )
    sections = (f"[database:{name}]\npath = {PLACE / name}.db\nstorage = local\ncontinuous = yes\n" for name in names)
    conf.write_text(text + "\n".join(sections), encoding="utf-8")


@contextmanager
def _capturing() -> Iterator[subprocess.Popen[bytes]]:
    environment = {**os.environ, "CONTINUUM_CONFIG_DIR": str(PLACE / "etc")}
    process = subprocess.Popen(own_command("workers.capture"), env=environment, stdout=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def _await(names: list[str]) -> None:
    """Wait until every one is captured and has a backup behind it."""
    waiting = list(names)
    while waiting:
        time.sleep(1)
        waiting = [name for name in waiting if not _is_settled(_status(name))]


def _is_settled(status: dict[str, object]) -> bool:
    return status.get("state") == "running" and status.get("base_after") == 0


def _status(name: str) -> dict[str, object]:
    path = PLACE / "etc" / "state" / "capture" / name / "status.json"
    found: dict[str, object] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return found


def _write(names: list[str], rate: float, seconds: float) -> None:
    words = [sys.executable, "-c", _WRITE, str(rate), str(seconds), *(str(PLACE / f"{name}.db") for name in names)]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)


def _measure(process: subprocess.Popen[bytes], names: list[str], meanwhile: Callable[[], None]) -> Figures:
    pids = [process.pid, *_children(process.pid)]
    cpu, begun, requests = sum(map(_cpu_seconds, pids)), time.monotonic(), _requests(names)
    meanwhile()
    seconds = time.monotonic() - begun
    lags = [status for status in map(_status, names) if status.get("lag_p50_seconds")]
    return Figures(
        seconds=seconds,
        cpu_seconds=sum(map(_cpu_seconds, pids)) - cpu,
        resident_bytes=sum(map(_resident_bytes, pids)),
        n_descriptors=sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in pids),
        n_requests=_requests(names) - requests,
        p50_seconds=_mean(lags, "lag_p50_seconds"),
        p95_seconds=_mean(lags, "lag_p95_seconds"),
    )


def _mean(statuses: list[dict[str, object]], field: str) -> float:
    return sum(float(str(status[field])) for status in statuses) / len(statuses) if statuses else 0.0


def _requests(names: list[str]) -> int:
    return sum(int(str(_status(name).get("n_requests", 0))) for name in names)


def _children(pid: int) -> list[int]:
    return [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
