"""Read a `-wal` and `-shm` with struct alone, for processes without an SQLite connection to the database."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

WAL_HEADER = 32
FRAME_HEADER = 24
MASK = 0xFFFFFFFF


@dataclass(frozen=True, slots=True, kw_only=True)
class WalHead:
    """The header of a -wal. `salts` as stored; `big_endian` tells how its checksums take words."""

    page_size: int
    checkpoint: int
    salts: bytes
    checksum: tuple[int, int]
    big_endian: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ShmHead:
    """What is committed: frames 1 to `n_frames` of the WAL with these salts, the last one with this checksum."""

    n_frames: int
    n_pages: int
    salts: bytes
    checksum: tuple[int, int]
    n_backfilled: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """A frame's header; `n_pages` is not 0 in the last frame of a commit."""

    pgno: int
    n_pages: int
    salts: bytes
    checksum: tuple[int, int]


def read_wal_head(wal: Path) -> WalHead | None:
    """Return the header, or None while there is none."""
    try:
        with wal.open("rb") as file:
            raw = file.read(WAL_HEADER)
    except FileNotFoundError:
        return None
    if len(raw) < WAL_HEADER:
        return None
    magic, _, page_size, checkpoint = struct.unpack_from(">4I", raw)
    if magic & ~1 != 0x377F0682:
        return None
    return WalHead(
        page_size=page_size,
        checkpoint=checkpoint,
        salts=raw[16:24],
        checksum=struct.unpack_from(">2I", raw, 24),
        big_endian=bool(magic & 1),
    )


def read_shm_head(shm: Path) -> ShmHead | None:
    """Return the wal-index header, or None while it is missing, being written or to be recovered."""
    try:
        with shm.open("rb") as file:
            raw = file.read(136)
    except FileNotFoundError:
        return None
    if len(raw) < 136 or raw[:48] != raw[48:96] or not raw[12]:
        return None
    n_frames, n_pages, sum_1, sum_2 = struct.unpack_from("=4I", raw, 16)
    if checksum(raw[:40], (0, 0), byte_order="=") != struct.unpack_from("=2I", raw, 40):
        return None
    (n_backfilled,) = struct.unpack_from("=I", raw, 96)
    return ShmHead(n_frames=n_frames, n_pages=n_pages, salts=raw[32:40], checksum=(sum_1, sum_2), n_backfilled=n_backfilled)


def parse_frame(raw: bytes) -> Frame:
    pgno, n_pages, _, _, sum_1, sum_2 = struct.unpack(">6I", raw[:FRAME_HEADER])
    return Frame(pgno=pgno, n_pages=n_pages, salts=raw[8:16], checksum=(sum_1, sum_2))


def checksum(data: bytes, seed: tuple[int, int], *, byte_order: str) -> tuple[int, int]:
    """Return SQLite's checksum of words in that byte order, going on from `seed`."""
    one, two = seed
    words = struct.unpack(f"{byte_order}{len(data) // 4}I", data)
    for first, second in zip(words[::2], words[1::2], strict=True):
        one = (one + first + two) & MASK
        two = (two + second + one) & MASK
    return one, two


def valid_commits(wal: Path) -> list[int]:
    """Return the frame numbers (from 1) at which a scan of the file alone, checksums and salts, would see a commit."""
    head = read_wal_head(wal)
    if head is None:
        return []
    raw = wal.read_bytes()
    order = ">" if head.big_endian else "<"
    at, running, found = WAL_HEADER, head.checksum, []
    size = FRAME_HEADER + head.page_size
    for number in range(1, (len(raw) - WAL_HEADER) // size + 1):
        frame = parse_frame(raw[at : at + FRAME_HEADER])
        running = checksum(raw[at : at + 8], running, byte_order=order)
        running = checksum(raw[at + FRAME_HEADER : at + size], running, byte_order=order)
        if frame.salts != head.salts or frame.checksum != running:
            break
        if frame.n_pages:
            found.append(number)
        at += size
    return found
