"""A lock that is free for moments only is got in one of them; one that is never free is waited for as long as was said."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from continuum_tasks.sqlite.live import wait_for_locks


class Held:
    """A lock and a clock: the database is free between `free` and `taken_again` seconds, and locked at all other times."""

    def __init__(self, path: Path, *, free: float, taken_again: float) -> None:
        self.now = 0.0
        self.n_looks = 0
        self._free, self._taken_again = free, taken_again
        self._writer = apsw.Connection(str(path))
        self._writer.execute("CREATE TABLE t(x); BEGIN EXCLUSIVE")

    def pause(self, seconds: float) -> None:
        self.now += seconds
        self.n_looks += 1
        free = self._free <= self.now < self._taken_again
        if free == self._writer.in_transaction:
            self._writer.execute("COMMIT" if free else "BEGIN EXCLUSIVE")

    def close(self) -> None:
        self._writer.close()


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[apsw.Connection]:
    connection = apsw.Connection(str(tmp_path / "memory.db"))
    yield connection
    connection.close()


def test_a_gap_of_four_milliseconds_between_two_commits_is_enough(tmp_path: Path, reader: apsw.Connection) -> None:
    held = Held(tmp_path / "memory.db", free=0.9, taken_again=0.904)
    wait_for_locks(reader, 5, pause=held.pause, monotonic=lambda: held.now)
    assert reader.execute("SELECT count(*) FROM t").fetchall() == [(0,)]
    assert 0.9 <= held.now < 0.904
    held.close()


def test_what_is_never_free_is_waited_for_as_long_as_was_said_each_time(tmp_path: Path, reader: apsw.Connection) -> None:
    held = Held(tmp_path / "memory.db", free=100, taken_again=101)
    wait_for_locks(reader, 2, pause=held.pause, monotonic=lambda: held.now)
    for n in (1, 2):
        with pytest.raises(apsw.BusyError):
            reader.execute("SELECT count(*) FROM t").fetchall()
        assert 2 * n <= held.now < 2 * n + 0.1
    held.close()
