"""Processes that make capture hard: `python -m tests.capture.hostile ROLE DATABASE SECONDS SEED`, each stops by itself."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

from tests.capture.library import RETRIED, connect, quiet_now, tether

_BACK_SECONDS = 10.0


def checkpoint(path: Path, rng: Random) -> None:
    """Checkpoint in a random mode, TRUNCATE as often as the others, after a random pause."""
    with connect(path, busy_ms=200) as connection:
        mode = rng.choice(("PASSIVE", "FULL", "RESTART", "TRUNCATE"))
        connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchall()
    time.sleep(rng.random() * 0.03)


def come_and_go(path: Path, rng: Random) -> None:
    """Open, read and close: in the quiet moments this close is the last one and deletes the WAL."""
    with connect(path, busy_ms=200) as connection:
        connection.execute("SELECT count(*) FROM counters").fetchall()
    time.sleep(rng.random() * 0.004 if quiet_now() else rng.random() * 0.08)


def read_long(path: Path, rng: Random) -> None:
    """Stay inside one read transaction for up to half a second."""
    with connect(path, busy_ms=200) as connection:
        connection.execute("BEGIN")
        connection.execute("SELECT count(*) FROM notes").fetchall()
        time.sleep(rng.random() / 2)
        connection.execute("SELECT count(*) FROM notes").fetchall()
        connection.execute("COMMIT")
    time.sleep(rng.random())


def switch_journal(path: Path, rng: Random) -> None:
    """Leave WAL mode and come back. Works only while nobody else is connected, so never while a pin is held."""
    if not quiet_now():
        time.sleep(0.005)
        return
    with connect(path, busy_ms=5) as connection:
        connection.execute("PRAGMA journal_mode = DELETE").fetchall()
    time.sleep(rng.random() * 0.1)  # some commits of the writers then go through a rollback journal
    _back_to_wal(path)
    time.sleep(rng.random())


def _back_to_wal(path: Path) -> None:
    until = time.monotonic() + _BACK_SECONDS
    while True:
        try:
            with connect(path, busy_ms=50) as connection:
                connection.execute("PRAGMA journal_mode = WAL").fetchall()
        except RETRIED:
            if time.monotonic() > until:
                raise
        else:
            return


ROLES: dict[str, Callable[[Path, Random], None]] = {
    "checkpoint": checkpoint,
    "come_and_go": come_and_go,
    "read_long": read_long,
    "switch_journal": switch_journal,
}


def run(role: str, path: Path, *, seconds: float, seed: int) -> None:
    rng = Random(seed)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            ROLES[role](path, rng)
        except RETRIED:
            time.sleep(0.005)


if __name__ == "__main__":
    tether()
    run(sys.argv[1], Path(sys.argv[2]), seconds=float(sys.argv[3]), seed=int(sys.argv[4]))
