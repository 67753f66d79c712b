"""What a file is that was given as a database and is none that can be backed up, and what to do."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum

MAGIC = b"SQLite format 3\x00"
HEADER_BYTES = 100
_PAYLOAD_FRACTIONS = b"\x40\x20\x20"  # the only ones SQLite takes, at byte 21
# 4 KiB of ciphertext measure 7.95 bits a byte; text, archives' headers and zeroed files stay below 7.
_CIPHERTEXT_BITS = 7.5
_NEWEST_VERSION = 2  # 1 rollback journal, 2 write-ahead log
_WAL2 = 3
_TEXT_BYTES = bytes([9, 10, 12, 13, 27, *range(32, 127)])


class FileKind(StrEnum):
    """What stands under the name."""

    FILE = "file"
    DIRECTORY = "directory"
    FIFO = "FIFO"
    SOCKET = "socket"
    DEVICE = "device"


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreign:
    """What was found instead of a database that can be backed up, and the remedy."""

    what: str
    remedy: str


_CORRECT = "correct the path, here or in backup.conf"
_OWN_TOOL = "back it up with its own tool: this product reads SQLite 3 databases only"
_UNPACK = "unpack it first and give the file that comes out"
_DECRYPT = (
    "back it up with the library that holds its key (sqlcipher_export, VACUUM INTO), or decrypt it; backups are encrypted"
    " by this product; if it should not be encrypted, correct the path in backup.conf"
)
_MAIN_FILE = "name the database file itself, without the -wal, -journal or -shm behind its name"

# Format, where its mark stands, the mark, what to do.
SIGNATURES: tuple[tuple[str, int, bytes, str], ...] = (
    ("an SQLite write-ahead log (-wal)", 0, b"\x37\x7f\x06\x82", _MAIN_FILE),
    ("an SQLite write-ahead log (-wal)", 0, b"\x37\x7f\x06\x83", _MAIN_FILE),
    ("an SQLite rollback journal (-journal)", 0, b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7", _MAIN_FILE),
    ("an SQLite wal-index (-shm)", 0, b"\x18\xe2\x2d\x00", _MAIN_FILE),
    ("an SQLite wal-index (-shm)", 0, b"\x00\x2d\xe2\x18", _MAIN_FILE),
    ("an SQLite 2 database", 0, b"** This file contains an SQLite 2", "convert it: sqlite OLD .dump | sqlite3 NEW"),
    ("a ZIPVFS database (compressed SQLite)", 0, b"ZV-", "copy it to a plain database with the library that has ZIPVFS"),
    ("a Litestream LTX file", 0, b"LTX1", "name the live database; `litestream restore` makes one from such files"),
    ("a DuckDB database", 8, b"DUCK", _OWN_TOOL),
    ("a Berkeley DB file", 12, b"\x62\x31\x05\x00", _OWN_TOOL),
    ("a Berkeley DB file", 12, b"\x00\x05\x31\x62", _OWN_TOOL),
    ("a Berkeley DB file", 12, b"\x61\x15\x06\x00", _OWN_TOOL),
    ("a Berkeley DB file", 12, b"\x00\x06\x15\x61", _OWN_TOOL),
    ("an LMDB database", 16, b"\xde\xc0\xef\xbe", _OWN_TOOL),
    ("a Realm database", 16, b"T-DB", _OWN_TOOL),
    ("a Microsoft Access database", 4, b"Standard Jet DB", _OWN_TOOL),
    ("a Microsoft Access database", 4, b"Standard ACE DB", _OWN_TOOL),
    ("a MySQL table definition (.frm)", 0, b"\xfe\x01", _OWN_TOOL),
    ("a MyISAM index (.MYI)", 0, b"\xfe\xfe\x07", _OWN_TOOL),
    ("a PostgreSQL dump", 0, b"PGDMP", _OWN_TOOL),
    ("a Redis snapshot (.rdb)", 0, b"REDIS", _OWN_TOOL),
    ("an H2 database", 0, b"H:2,", _OWN_TOOL),
    ("a Parquet file", 0, b"PAR1", _OWN_TOOL),
    ("compressed with gzip", 0, b"\x1f\x8b", _UNPACK),
    ("compressed with zstd", 0, b"\x28\xb5\x2f\xfd", _UNPACK),
    ("compressed with xz", 0, b"\xfd7zXZ\x00", _UNPACK),
    ("compressed with lz4", 0, b"\x04\x22\x4d\x18", _UNPACK),
    ("compressed with bzip2", 0, b"BZh", _UNPACK),
    ("a ZIP archive", 0, b"PK\x03\x04", _UNPACK),
    ("a 7-Zip archive", 0, b"7z\xbc\xaf\x27\x1c", _UNPACK),
    ("a tar archive", 257, b"ustar", _UNPACK),
    ("encrypted with OpenSSL", 0, b"Salted__", "decrypt it first"),
    ("encrypted with age", 0, b"age-encryption.org/", "decrypt it first"),
    ("encrypted with PGP", 0, b"-----BEGIN PGP", "decrypt it first"),
    ("a Git LFS pointer", 0, b"version https://git-lfs", "fetch the file it stands for: git lfs pull"),
    ("UTF-16 text", 0, b"\xff\xfe", _CORRECT),
    ("UTF-16 text", 0, b"\xfe\xff", _CORRECT),
)
# A directory with these entries belongs to a store that is one; the first name alone tells no more than that.
DIRECTORIES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("a LevelDB or RocksDB directory", ("CURRENT", "LOCK")),
    ("an LMDB directory", ("data.mdb",)),
    ("a PostgreSQL data directory", ("PG_VERSION",)),
    ("a MySQL data directory", ("ibdata1",)),
)


def kind_refusal(kind: FileKind, entries: Collection[str] = ()) -> Foreign | None:
    """Say what stands there instead of a regular file; `entries` are the names in a directory. None for a file."""
    if kind is FileKind.FILE:
        return None
    if kind is not FileKind.DIRECTORY:
        return Foreign(what=f"not a regular file but a {kind}", remedy="name the database file itself")
    for what, names in DIRECTORIES:
        if set(names) <= set(entries):
            return Foreign(what=f"a directory: {what}", remedy=_OWN_TOOL)
    return Foreign(what="a directory", remedy="name the database file inside it")


def content_refusal(start: bytes, name: str) -> Foreign | None:
    """Say why a file that begins like that cannot be backed up; None when it is an SQLite 3 database.

    Give some 4 KiB: ciphertext cannot be told from noise, only from what is too regular to be either.
    """
    if not start:
        return Foreign(what="0 bytes", remedy="let the service create its tables first, or correct the path")
    if start.startswith(MAGIC):
        return _sqlite(start)
    for what, at, mark, remedy in SIGNATURES:
        if start[at : at + len(mark)] == mark:
            return Foreign(what=f"not an SQLite database: {what}", remedy=remedy)
    return _unmarked(start, name)


def _sqlite(start: bytes) -> Foreign | None:
    if len(start) < HEADER_BYTES:
        return Foreign(what=f"cut off after {len(start)} bytes", remedy="restore it from a backup")
    stored = int.from_bytes(start[16:18], "big")
    page_size = 65536 if stored == 1 else stored
    if page_size < 512 or page_size & (page_size - 1):
        return Foreign(what=f"header damaged, page size {page_size}", remedy="restore it from a backup")
    version = start[19]
    if version == _WAL2:
        return Foreign(
            what="in WAL2 mode (file format 3), which only a branch of SQLite has",
            remedy="have its service switch to WAL mode (PRAGMA journal_mode=DELETE, then WAL), then back it up",
        )
    if version > _NEWEST_VERSION:
        return Foreign(
            what=f"file format version {version}; SQLite 3 has 1 and 2",
            remedy="copy it to a plain database with the library that wrote it, or restore it if its header is damaged",
        )
    schema_format, encoding = int.from_bytes(start[44:48], "big"), int.from_bytes(start[56:60], "big")
    if (schema_format > 4 or encoding > 3) and _bits_per_byte(start[32:]) > _CIPHERTEXT_BITS:
        return Foreign(what="looks encrypted behind a plain header (SQLCipher)", remedy=_DECRYPT)
    return None


def _unmarked(start: bytes, name: str) -> Foreign:
    if not any(start):
        return Foreign(
            what="not an SQLite database: only zeros",
            remedy="its content is lost: restore it from a backup, or correct the path",
        )
    if start[21:24] == _PAYLOAD_FRACTIONS and len(start) >= HEADER_BYTES:
        return Foreign(
            what="no SQLite header, but its page format: it looks encrypted (SEE, SQLite3 Multiple Ciphers)", remedy=_DECRYPT
        )
    if not start.translate(None, _TEXT_BYTES) or _is_utf8(start):
        if name.lower().endswith(".sql") or start.lstrip().upper().startswith((b"PRAGMA ", b"BEGIN TRANSACTION", b"CREATE ")):
            return Foreign(what="not an SQLite database: an SQL text dump", remedy="load it first: sqlite3 NEW.db < DUMP.sql")
        return Foreign(what="not an SQLite database: text", remedy=_CORRECT)
    if len(start) >= HEADER_BYTES and _bits_per_byte(start) > _CIPHERTEXT_BITS:
        return Foreign(
            what="no SQLite header: it looks encrypted (SQLCipher, SEE) or is not a readable SQLite database", remedy=_DECRYPT
        )
    return Foreign(what="not an SQLite database", remedy=_CORRECT)


def _is_utf8(data: bytes) -> bool:
    if b"\0" in data:
        return False
    try:
        data.decode()
    except UnicodeDecodeError as err:
        return err.start >= len(data) - 3  # a character that the sample cuts in two
    return True


def _bits_per_byte(data: bytes) -> float:
    total = len(data)
    return -sum(n / total * math.log2(n / total) for n in Counter(data).values())
