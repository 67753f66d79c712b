from __future__ import annotations

import random
import struct
from pathlib import Path

import pytest

from continuum_tasks.errors import SourceRefused
from continuum_tasks.sqlite.header import AutoVacuum, parse_header
from tests.support import other


@pytest.fixture
def data(tmp_path: Path) -> bytearray:
    other.run(tmp_path / "a.db", other.ROLLBACK)
    return bytearray((tmp_path / "a.db").read_bytes())


@pytest.mark.parametrize("page_size", [512, 4096, 65536])
@pytest.mark.parametrize("auto_vacuum", list(AutoVacuum))
def test_the_header_says_what_sqlite_was_told(tmp_path: Path, page_size: int, auto_vacuum: AutoVacuum) -> None:
    path = tmp_path / "a.db"
    other.sql(path, f"PRAGMA page_size={page_size}; PRAGMA auto_vacuum={auto_vacuum}; CREATE TABLE t(x)")

    header = parse_header(path.read_bytes(), name="a.db")

    assert (header.page_size, header.auto_vacuum, header.wal) == (page_size, auto_vacuum, False)
    assert header.n_pages == path.stat().st_size // page_size
    assert (header.schema_cookie, header.reserved_bytes) == (1, 0)


def test_a_page_count_an_old_sqlite_left_stale_is_not_believed(data: bytearray) -> None:
    struct.pack_into(">I", data, 24, 999)
    assert parse_header(bytes(data), name="a.db").n_pages == 0


def test_wal_mode_shows(data: bytearray) -> None:
    data[18:20] = b"\x02\x02"
    assert parse_header(bytes(data), name="a.db").wal


@pytest.mark.parametrize(
    ("start", "message"),
    [
        (b"", "0 bytes"),
        (b"hello world, this is a text file" * 200, "not an SQLite database"),
        (bytes(4096), "not an SQLite database"),
        (random.Random(1).randbytes(4096), "looks encrypted"),
        (b"SQLite format 3\x00" + bytes(20), "cut off"),
        (b"SQLite format 3\x00" + b"\x0b\xad" + bytes(200), "page size 2989"),
        (b"SQLite format 3\x00" + b"\x00\x00" + bytes(200), "page size 0"),
        (b"SQLite format 3\x00" + b"\x01\x00" + bytes(200), "page size 256"),
    ],
)
def test_what_is_not_a_database_is_refused_by_name_and_with_a_remedy(start: bytes, message: str) -> None:
    with pytest.raises(SourceRefused, match=f"memory.db.*{message}") as refused:
        parse_header(start, name="memory.db")
    assert refused.value.hint
