"""SQLite's write-ahead log and the header of its index, as bytes. Pure.

Sources: "WAL-Mode File Format" (https://sqlite.org/walformat.html) and section 4 of the file format document. Everything
here raises ValueError for bytes that are not what they should be.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Literal

HEADER_BYTES = 32
FRAME_HEADER_BYTES = 24
INDEX_HEADER_BYTES = 48
INDEX_BYTES = 2 * INDEX_HEADER_BYTES + 36
"""What is read of a -shm file: the header twice, how many frames have been copied back, readers, how many were tried."""

_MAGIC_LITTLE, _MAGIC_BIG = 0x377F0682, 0x377F0683
_VERSION = 3007000
_WAL = struct.Struct(">IIII8sII")
_INDEX = struct.Struct("=IIIBBHII2I8s2I")
_CHECKED_BYTES = INDEX_HEADER_BYTES - 8
_ATTEMPTED_AT = INDEX_BYTES - 4  # behind nBackfill come five read marks and eight bytes of locks

Checksum = tuple[int, int]
ByteOrder = Literal["<", ">"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WalHeader:
    """The first 32 bytes of a -wal: `salts` as they stand in the file, `checksum` seeds the first frame's.

    `sequence` is 0 when the connection that wrote it had never restarted a log: then it drew both salts.
    """

    page_size: int
    order: ByteOrder
    salts: bytes
    checksum: Checksum
    sequence: int = 0

    @property
    def frame_bytes(self) -> int:
        return FRAME_HEADER_BYTES + self.page_size


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexHeader:
    """What SQLite holds to be committed: frames up to `max_frame`, the database then `n_pages` long.

    `checksum` is the one of frame `max_frame` (of an older log when that is 0), `n_copied` the frames that checkpoints have
    copied back into the database, `n_attempted` those that one began to copy. `change` grows with every commit. Of a log that
    was never written, page size, pages and salts are 0: they say nothing, and the salts are not its name.
    """

    max_frame: int
    n_pages: int
    page_size: int
    salts: bytes
    checksum: Checksum
    change: int
    n_copied: int
    n_attempted: int = 0


def wal_checksum(data: bytes | memoryview, seed: Checksum, order: ByteOrder) -> Checksum:
    """Return SQLite's WAL checksum over `data` (a multiple of 8 bytes): for short data, word by word."""
    one, two = seed
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    for at in range(0, len(words), 2):
        one = (one + words[at] + two) & 0xFFFFFFFF
        two = (two + words[at + 1] + one) & 0xFFFFFFFF
    return one, two


def decode_wal_header(data: bytes | memoryview) -> WalHeader:
    """Read the first 32 bytes of a -wal file."""
    if len(data) < HEADER_BYTES:
        raise ValueError(f"{len(data)} bytes where a WAL header has {HEADER_BYTES}")
    magic, version, page_size, sequence, salts, one, two = _WAL.unpack_from(data)
    if magic not in (_MAGIC_LITTLE, _MAGIC_BIG) or version != _VERSION:
        raise ValueError(f"no WAL: magic {magic:#x}, version {version}")
    order: ByteOrder = ">" if magic == _MAGIC_BIG else "<"
    if wal_checksum(bytes(data[: HEADER_BYTES - 8]), (0, 0), order) != (one, two):
        raise ValueError("the WAL header does not match its checksum")
    if not _is_page_size(page_size):
        raise ValueError(f"page size {page_size} in the WAL header")
    return WalHeader(page_size=page_size, order=order, salts=salts, checksum=(one, two), sequence=sequence)


def decode_shm_header(data: bytes | memoryview) -> IndexHeader:
    """Read the first 132 bytes of a -shm file, in the byte order of this machine.

    Raises ValueError when its two copies differ or the checksum is wrong: somebody was just writing it, look again.
    """
    if len(data) < INDEX_BYTES:
        raise ValueError(f"{len(data)} bytes where a WAL index has {INDEX_BYTES}")
    first, second = bytes(data[:INDEX_HEADER_BYTES]), bytes(data[INDEX_HEADER_BYTES : 2 * INDEX_HEADER_BYTES])
    if first != second:
        raise ValueError("the two copies of the WAL index header differ")
    version, _, change, is_init, _, size, max_frame, n_pages, one, two, salts, *own = _INDEX.unpack(first)
    if version != _VERSION or not is_init:
        raise ValueError(f"WAL index of version {version}, initialised: {is_init}")
    if wal_checksum(first[:_CHECKED_BYTES], (0, 0), _native()) != tuple(own):
        raise ValueError("the WAL index header does not match its checksum")
    page_size = 65536 if size == 1 else size
    if not _is_page_size(page_size) and (page_size or max_frame):
        raise ValueError(f"page size {page_size} in the WAL index")
    return IndexHeader(
        max_frame=max_frame,
        n_pages=n_pages,
        page_size=page_size,
        salts=salts,
        checksum=(one, two),
        change=change,
        n_copied=struct.unpack_from("=I", data, 2 * INDEX_HEADER_BYTES)[0],
        n_attempted=struct.unpack_from("=I", data, _ATTEMPTED_AT)[0],
    )


def _is_page_size(size: int) -> bool:
    return 512 <= size <= 65536 and not size & (size - 1)


def _native() -> ByteOrder:
    return "<" if struct.pack("=H", 1) == struct.pack("<H", 1) else ">"
