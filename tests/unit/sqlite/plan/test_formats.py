from __future__ import annotations

import gzip
import random
import sqlite3
from pathlib import Path

import pytest

from continuum_tasks.sqlite.plan.formats import DIRECTORIES, SIGNATURES, FileKind, content_refusal, kind_refusal

NOISE = random.Random(3).randbytes(4096)


@pytest.fixture
def database(tmp_path: Path) -> bytearray:
    connection = sqlite3.connect(tmp_path / "a.db")
    connection.executescript("CREATE TABLE t(a); INSERT INTO t VALUES (hex(randomblob(3000)))")
    connection.close()
    return bytearray((tmp_path / "a.db").read_bytes()[:4096])


@pytest.mark.parametrize(("what", "at", "mark", "remedy"), SIGNATURES)
def test_every_format_with_a_mark_is_named_with_its_remedy(what: str, at: int, mark: bytes, remedy: str) -> None:
    found = content_refusal((NOISE[:at] + mark + NOISE)[:4096], "memory.db")
    assert found is not None
    assert what in found.what
    assert found.remedy == remedy


@pytest.mark.parametrize(
    ("start", "name", "what", "remedy"),
    [
        (b"", "a.db", "0 bytes", "create its tables"),
        (NOISE, "a.db", "no SQLite header: it looks encrypted (SQLCipher, SEE)", "decrypt"),
        (NOISE[:16] + b"\x10\x00\x01\x01\x50\x40\x20\x20" + NOISE[24:], "a.db", "SQLite3 Multiple Ciphers", "decrypt"),
        (gzip.compress(NOISE), "a.db", "compressed with gzip", "unpack"),
        (b"BEGIN TRANSACTION;\nCREATE TABLE t(a);\n", "a.db", "an SQL text dump", "sqlite3 NEW.db"),
        (b"-- dump\nINSERT INTO t VALUES (1);\n", "a.sql", "an SQL text dump", "sqlite3 NEW.db"),
        ("größer\n".encode() * 600, "a.db", "not an SQLite database: text", "backup.conf"),
        ("text".encode("utf-16"), "a.db", "UTF-16 text", "backup.conf"),
        (bytes(4096), "a.db", "only zeros", "restore"),
        (b"\x00\x01\x02\x03" * 1024, "a.db", "not an SQLite database", "backup.conf"),
        (NOISE[:50], "a.db", "not an SQLite database", "backup.conf"),
        (("ü" * 3000).encode()[:4095], "a.db", "not an SQLite database: text", "backup.conf"),
        (b"\xc3(" * 2000, "a.db", "not an SQLite database", "backup.conf"),
    ],
)
def test_what_has_no_mark_is_told_by_its_content(start: bytes, name: str, what: str, remedy: str) -> None:
    found = content_refusal(start, name)
    assert found is not None
    assert what in found.what
    assert remedy in found.remedy


@pytest.mark.parametrize(
    ("change", "what", "remedy"),
    [
        ({18: b"\x03\x03"}, "WAL2 mode (file format 3)", "journal_mode=DELETE"),
        ({18: b"\x07\x07"}, "file format version 7", "library that wrote it"),
        ({16: b"\x0b\xad"}, "page size 2989", "restore"),
        ({20: b"\x50", 32: NOISE[32:]}, "encrypted behind a plain header (SQLCipher)", "decrypt"),
    ],
)
def test_an_sqlite_header_that_sqlite_does_not_take_is_named(
    database: bytearray, change: dict[int, bytes], what: str, remedy: str
) -> None:
    for at, data in change.items():
        database[at : at + len(data)] = data
    found = content_refusal(bytes(database[:4096]), "memory.db")
    assert found is not None
    assert what in found.what
    assert remedy in found.remedy


def test_a_header_that_ends_early_is_cut_off(database: bytearray) -> None:
    found = content_refusal(bytes(database[:60]), "memory.db")
    assert found is not None
    assert found.what == "cut off after 60 bytes"


@pytest.mark.parametrize("page_size", [b"\x02\x00", b"\x10\x00", b"\x00\x01"])
def test_a_database_of_any_page_size_and_with_any_content_is_taken(database: bytearray, page_size: bytes) -> None:
    database[16:18] = page_size
    database[100:4096] = NOISE[100:]
    assert content_refusal(bytes(database), "memory.sql") is None


@pytest.mark.parametrize(("what", "names"), DIRECTORIES)
def test_a_directory_of_another_store_is_named(what: str, names: tuple[str, ...]) -> None:
    found = kind_refusal(FileKind.DIRECTORY, {*names, "other"})
    assert found is not None
    assert what in found.what


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        (FileKind.DIRECTORY, "a directory"),
        (FileKind.FIFO, "a FIFO"),
        (FileKind.SOCKET, "a socket"),
        (FileKind.DEVICE, "a device"),
    ],
)
def test_what_is_no_file_is_named(kind: FileKind, what: str) -> None:
    found = kind_refusal(kind)
    assert found is not None
    assert what in found.what
    assert kind_refusal(FileKind.FILE) is None
