"""Commit the workload as one of several processes that take turns, on one short connection per commit.

`python -m tests.capture.writer DATABASE WITNESS SECONDS SEED PAGE_SIZE LAST RATE`: stops after the seconds or at commit LAST.
A line in WITNESS says that COMMIT returned for that number, and when (nanoseconds since 1970). It is one unbuffered write,
which survives the SIGKILLs of these tests; an fsync would only help against a power cut, and keep writers from saturating.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from random import Random

import apsw

from tests.capture import workload
from tests.capture.library import RETRIED, connect, quiet_now, tether


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """What one writer is to do. `last` of 0 means no end but the time; `rate` of 0 means as fast as it goes."""

    database: Path
    witness: Path
    seconds: float
    seed: int
    page_size: int
    last: int = 0
    rate: float = 0.0

    def arguments(self) -> list[str]:
        numbers = (self.seconds, self.seed, self.page_size, self.last, self.rate)
        return [str(self.database), str(self.witness), *map(str, numbers)]

    @classmethod
    def parse(cls, words: list[str]) -> Orders:
        database, witness, seconds, seed, page_size, last, rate = words
        return cls(
            database=Path(database),
            witness=Path(witness),
            seconds=float(seconds),
            seed=int(seed),
            page_size=int(page_size),
            last=int(last),
            rate=float(rate),
        )


def run(orders: Orders) -> None:
    rng = Random(orders.seed)
    descriptor = os.open(orders.witness, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    began = time.monotonic()
    n_made = 0
    while time.monotonic() < began + orders.seconds:
        if quiet_now() or (orders.rate and n_made > (time.monotonic() - began) * orders.rate):
            time.sleep(0.003)
            continue
        try:
            n = _commit(orders, rng, descriptor)
        except RETRIED:
            time.sleep(0.001)
            continue
        if n is None:
            break
        n_made += 1
    os.close(descriptor)


def _commit(orders: Orders, rng: Random, descriptor: int) -> int | None:
    """Make the next commit and say so; None when the last is made. What a killed one leaves is the next one's to recover."""
    with connect(orders.database) as connection:
        connection.execute("PRAGMA synchronous = OFF")  # nobody cuts the power here
        connection.execute(f"PRAGMA wal_autocheckpoint = {rng.choice((0, 60, 1000, 1000))}").fetchall()
        connection.execute("BEGIN IMMEDIATE")
        n = workload.number_of(connection) + 1
        if orders.last and n > orders.last:
            return None
        if workload.aborts_before(n):
            workload.spill(connection, orders.page_size)
            connection.execute("ROLLBACK")
            connection.execute("BEGIN IMMEDIATE")
            n = workload.number_of(connection) + 1
        workload.apply(connection, n, orders.page_size)
        connection.execute("COMMIT")
        os.write(descriptor, b"%d %d\n" % (n, time.time_ns()))
        if workload.vacuums_after(n):
            _vacuum(connection)
    return n


def _vacuum(connection: apsw.Connection) -> None:
    connection.set_busy_timeout(300)
    try:
        connection.execute("VACUUM")
    except RETRIED:
        return


if __name__ == "__main__":
    tether()
    run(Orders.parse(sys.argv[1:]))
