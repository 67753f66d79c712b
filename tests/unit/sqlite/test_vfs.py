"""Reading the raw file must not cost a connection of this process its locks (ADR 2)."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest

from continuum_tasks.sqlite import vfs
from continuum_tasks.sqlite.inspect import inspect
from tests.support import other


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "memory.db"
    other.run(path, other.ROLLBACK)
    return path


def test_a_raw_read_leaves_the_locks_of_this_process_in_place(path: Path) -> None:
    connection = apsw.Connection(str(path))
    connection.execute("BEGIN IMMEDIATE")

    assert vfs.read_start(path, 16) == b"SQLite format 3\x00"
    inspect(path)

    assert other.write(path) == "database is locked"
    connection.close()
    assert other.write(path) == "written"


def test_an_ordinary_open_and_close_loses_them_which_is_why_we_do_not(path: Path) -> None:
    connection = apsw.Connection(str(path))
    connection.execute("BEGIN IMMEDIATE")

    path.read_bytes()

    assert other.write(path) == "written"
    connection.close()


def test_sqlites_layer_without_the_main_db_flag_loses_them_too(path: Path) -> None:
    connection = apsw.Connection(str(path))
    connection.execute("BEGIN IMMEDIATE")

    apsw.VFSFile("unix", str(path), [apsw.SQLITE_OPEN_READONLY, 0]).xClose()

    assert other.write(path) == "written"
    connection.close()


def test_the_exclusive_lock_keeps_every_other_process_out_until_it_is_let_go(path: Path) -> None:
    with vfs.exclusive(path):
        assert other.write(path) == "database is locked"
        with vfs.open_locked_file(path) as again:
            again.xRead(16, 0)
        assert other.write(path) == "database is locked"
    assert other.write(path) == "written"


def test_a_shared_lock_waits_for_a_writer_as_long_as_told_and_no_longer(path: Path) -> None:
    with (
        other.living(path, "c = connect(); c.execute('BEGIN EXCLUSIVE')"),
        pytest.raises(apsw.BusyError),
        vfs.hold_shared(path, wait_seconds=0.1),
    ):
        pass
    with vfs.hold_shared(path, wait_seconds=5):
        pass


def test_a_short_file_reads_short(path: Path) -> None:
    size = path.stat().st_size
    with vfs.open_locked_file(path) as file:
        assert len(file.xRead(100, size - 10)) == 10
        assert file.xRead(100, size + 10) == b""
