"""sqlite/header.py: what the first 100 bytes of a database file say. Pure."""

from __future__ import annotations

import math
import struct
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum

from continuum_tasks.errors import SourceRefused

SAMPLE_BYTES = 4096
_MAGIC = b"SQLite format 3\x00"
_HEADER_BYTES = 100
_WAL_VERSION = 2
# 4 KiB of ciphertext measure 7.95 bits a byte; text, archives' headers and zeroed files stay below 7.
_CIPHERTEXT_BITS = 7.5


class AutoVacuum(StrEnum):
    NONE = "none"
    FULL = "full"
    INCREMENTAL = "incremental"


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseHeader:
    """The header's facts. `n_pages` is 0 when an old SQLite wrote the file last and left the count stale."""

    page_size: int
    n_pages: int
    wal: bool
    change_counter: int
    reserved_bytes: int
    schema_cookie: int
    auto_vacuum: AutoVacuum


def parse_header(data: bytes, *, name: str) -> DatabaseHeader:
    """Read the first bytes of a database file; give `SAMPLE_BYTES` so that encryption can be told from other content.

    Raises SourceRefused for 0 bytes, for a file that is not SQLite or looks encrypted, and for an impossible page size.
    """
    _check_magic(data, name)
    page_size = _page_size(data, name)
    change_counter, n_pages = struct.unpack_from(">II", data, 24)
    (largest_root,) = struct.unpack_from(">I", data, 52)
    (incremental,) = struct.unpack_from(">I", data, 64)
    return DatabaseHeader(
        page_size=page_size,
        n_pages=n_pages if struct.unpack_from(">I", data, 92)[0] == change_counter else 0,
        wal=data[19] == _WAL_VERSION,
        change_counter=change_counter,
        reserved_bytes=data[20],
        schema_cookie=struct.unpack_from(">I", data, 40)[0],
        auto_vacuum=_auto_vacuum(largest_root, incremental),
    )


def _check_magic(data: bytes, name: str) -> None:
    if not data:
        raise SourceRefused(f"{name}: 0 bytes", hint="let the service create its tables first, or correct the path")
    if not data.startswith(_MAGIC):
        if len(data) >= _HEADER_BYTES and _bits_per_byte(data) > _CIPHERTEXT_BITS:
            raise SourceRefused(
                f"{name}: not a readable SQLite database, it looks encrypted (SQLCipher or the like)",
                hint="back it up with the library that holds its key, or decrypt it; backups are encrypted by this tool",
            )
        raise SourceRefused(f"{name}: not an SQLite database", hint="correct the path, here or in backup.conf")
    if len(data) < _HEADER_BYTES:
        raise SourceRefused(f"{name}: cut off after {len(data)} bytes", hint="restore it from a backup")


def _page_size(data: bytes, name: str) -> int:
    (stored,) = struct.unpack_from(">H", data, 16)
    page_size = 65536 if stored == 1 else stored
    if page_size < 512 or page_size & (page_size - 1):
        raise SourceRefused(f"{name}: header damaged, page size {page_size}", hint="restore it from a backup")
    return page_size


def _auto_vacuum(largest_root: int, incremental: int) -> AutoVacuum:
    if not largest_root:
        return AutoVacuum.NONE
    return AutoVacuum.INCREMENTAL if incremental else AutoVacuum.FULL


def _bits_per_byte(data: bytes) -> float:
    total = len(data)
    return -sum(n / total * math.log2(n / total) for n in Counter(data).values())
