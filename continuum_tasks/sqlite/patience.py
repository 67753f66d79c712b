"""sqlite/patience.py: wait for a lock the way one gets it from a busy writer."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import apsw

_SHORTEST_SECONDS, _LONGEST_SECONDS = 0.000_5, 0.003


def wait_for_locks(
    connection: apsw.Connection,
    seconds: float,
    *,
    pause: Callable[[float], object] = time.sleep,
    monotonic: Callable[[], float] = time.monotonic,
) -> None:
    """Let a connection try again for so long whenever a lock is taken, instead of SQLite's own busy timeout.

    That one looks every 100 ms in the end. A writer that commits all the time, in rollback-journal mode, leaves gaps of a
    few milliseconds: looking every 2 ms a reader is in after 10 ms at most, where the busy timeout took up to 2.7 s of 5.
    """
    deadline = 0.0

    def again(n_tries: int) -> bool:
        nonlocal deadline
        if n_tries == 0:
            deadline = monotonic() + seconds
        if monotonic() >= deadline:
            return False
        pause(random.uniform(_SHORTEST_SECONDS, _LONGEST_SECONDS))  # noqa: S311 - spreads contenders, guards nothing
        return True

    connection.set_busy_handler(again)
