"""Read a live database's -wal and -shm raw, bounded by what SQLite itself says is committed.

For a process that has no SQLite connection to the database: it opens and closes the files as it likes. A raw scan of the log
can find a valid commit frame that SQLite never committed (its fsync failed); the index header in -shm is what counts.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from continuum_tasks.errors import SourceBusy
from continuum_tasks.wal.format import (
    FRAME_HEADER_BYTES,
    HEADER_BYTES,
    INDEX_BYTES,
    Checksum,
    IndexHeader,
    WalHeader,
    decode_shm_header,
    decode_wal_header,
)
from continuum_tasks.wal.frames import Frames, read_frames

MAX_TRANSACTION_BYTES = 256 * 1024 * 1024  # one transaction is held in memory whole; VACUUM writes the database as one
N_LOOKS = 50  # at a header that somebody is writing: each write of it takes well under a microsecond


class TransactionTooLarge(Exception):
    """One transaction has more frames than capture holds in memory; `frame` is where it begins."""

    def __init__(self, frame: int) -> None:
        super().__init__(f"the transaction from frame {frame} on is larger than {MAX_TRANSACTION_BYTES} bytes")
        self.frame = frame


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureFiles:
    """The files of one database: `path` is resolved."""

    path: Path

    @property
    def wal(self) -> Path:
        return self.path.with_name(f"{self.path.name}-wal")

    @property
    def shm(self) -> Path:
        return self.path.with_name(f"{self.path.name}-shm")

    def identity(self) -> str:
        """Return `device:inode` of the database file, empty when it is not there."""
        return identity_of(self.path)

    def stamp(self) -> str:
        """Return size and time of the last write of the database file, empty when it is not there."""
        try:
            status = self.path.stat()
        except FileNotFoundError:
            return ""
        return f"{status.st_size}:{status.st_mtime_ns}"

    def sync(self) -> None:
        """Have the system write what it holds of the log and the database, in this order, to the disk."""
        for path in (self.wal, self.path):
            with opened(path) as descriptor:
                os.fsync(descriptor)

    def wal_bytes(self) -> int:
        """Return the size of the log, 0 without one."""
        try:
            return self.wal.stat().st_size
        except FileNotFoundError:
            return 0


def identity_of(path: Path) -> str:
    """Return `device:inode` of a file, empty when it is not there."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return ""
    return f"{status.st_dev}:{status.st_ino}"


def read_wal_index(source: CaptureFiles, *, pause: Callable[[], None]) -> IndexHeader:
    """Return what SQLite holds to be committed now. Raises SourceBusy when there is no sound index header to be read."""
    problem = "it is not there"
    for _ in range(N_LOOKS):
        try:
            with opened(source.shm) as descriptor:
                return decode_shm_header(os.pread(descriptor, INDEX_BYTES, 0))
        except FileNotFoundError:
            break
        except ValueError as err:
            problem = str(err)
        pause()
    raise SourceBusy(f"{source.shm}: {problem}", hint="the database may be recovering; capture tries again by itself")


def read_page_size(source: CaptureFiles) -> int:
    """Return the page size (bytes) the database file itself says, 0 when it says none."""
    with opened(source.path) as descriptor:
        stored = int.from_bytes(os.pread(descriptor, 2, 16), "big")
    return 65536 if stored == 1 else stored


def read_header(source: CaptureFiles) -> WalHeader | None:
    """Return the header of the log, None when there is none or it is not whole."""
    try:
        with opened(source.wal) as descriptor:
            return decode_wal_header(os.pread(descriptor, HEADER_BYTES, 0))
    except (FileNotFoundError, ValueError):
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """Frames `after` + 1 to `until` of a log; `before` is the checksum of frame `after` (of the header, when that is 0)."""

    after: int
    before: Checksum
    until: int


def read_committed(source: CaptureFiles, header: WalHeader, stretch: Stretch, *, limit_bytes: int) -> Iterator[Frames]:
    """Yield the frames of a stretch in pieces that end with a commit, each proven to follow the one before it.

    A piece has about `limit_bytes`, more when one
    transaction is larger. Raises ValueError when the log is not what the index header says, TransactionTooLarge.
    """
    with opened(source.wal) as descriptor:
        after, before, until = stretch.after, stretch.before, stretch.until
        step = max(1, limit_bytes // header.frame_bytes)
        while after < until:
            data, n_frames = _piece(descriptor, header, after=after, until=until, step=step)
            frames = read_frames(data, header, first=after + 1, before=before)
            yield frames
            after += n_frames
            before = (int(frames.checksums[-1][0]), int(frames.checksums[-1][1]))


def _piece(descriptor: int, header: WalHeader, *, after: int, until: int, step: int) -> tuple[memoryview, int]:
    """Read about `step` frames, cut behind the last commit among them; more when none ends there."""
    frame_bytes = header.frame_bytes
    data = bytearray()
    while True:
        have = len(data) // frame_bytes
        wanted = min(step, until - after - have)
        if not wanted:
            raise ValueError(f"frame {until} is the last committed one and ends no commit")
        got = os.pread(descriptor, wanted * frame_bytes, HEADER_BYTES + (after + have) * frame_bytes)
        if len(got) != wanted * frame_bytes:
            raise ValueError(f"the log ends inside frame {after + have + len(got) // frame_bytes + 1}")
        data += got
        for at in range(have + wanted - 1, have - 1, -1):
            if any(data[at * frame_bytes + 4 : at * frame_bytes + 8]):
                return memoryview(data)[: (at + 1) * frame_bytes], at + 1
        if len(data) > MAX_TRANSACTION_BYTES:
            raise TransactionTooLarge(after + 1)


def frame_checksum(source: CaptureFiles, header: WalHeader, frame: int) -> Checksum | None:
    """Return the checksum that a frame says it has, None when the log is shorter. Frame 0 is the header."""
    if not frame:
        return header.checksum
    try:
        with opened(source.wal) as descriptor:
            said = os.pread(descriptor, 8, HEADER_BYTES + (frame - 1) * header.frame_bytes + 16)
    except FileNotFoundError:
        return None
    return (int.from_bytes(said[:4], "big"), int.from_bytes(said[4:], "big")) if len(said) == 8 else None


def pgnos(source: CaptureFiles, header: WalHeader, *, until: int) -> Iterator[int]:
    """Yield the page number of each frame up to `until`; 0 for one that is not there."""
    with opened(source.wal) as descriptor:
        for frame in range(1, until + 1):
            yield int.from_bytes(os.pread(descriptor, 4, page_offset(header, frame) - FRAME_HEADER_BYTES), "big")


def page_offset(header: WalHeader, frame: int) -> int:
    """Return where in the log the page of a frame begins."""
    return HEADER_BYTES + (frame - 1) * header.frame_bytes + FRAME_HEADER_BYTES


def first_page(source: CaptureFiles, header: WalHeader | None, *, until: int, page_size: int) -> bytes:
    """Return page 1 as the newest of the frames up to `until` has it, or the database file when none does.

    Sound while a pin keeps frames beyond it from being copied back. Raises ValueError for a file shorter than a page.
    """
    at = None if header is None else _newest_of_page_1(source, header, until=until)
    if header is not None and at is not None:
        with opened(source.wal) as descriptor:
            page = os.pread(descriptor, page_size, HEADER_BYTES + (at - 1) * header.frame_bytes + 24)
    else:
        with opened(source.path) as descriptor:
            page = os.pread(descriptor, page_size, 0)
    if len(page) != page_size:
        raise ValueError(f"{source.path} is shorter than one page")
    return page


def _newest_of_page_1(source: CaptureFiles, header: WalHeader, *, until: int) -> int | None:
    with opened(source.wal) as descriptor:
        for frame in range(until, 0, -1):
            if os.pread(descriptor, 4, HEADER_BYTES + (frame - 1) * header.frame_bytes) == b"\0\0\0\1":
                return frame
    return None


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """Open a file of a database for reading; closing it drops every POSIX lock this process has on it: it must have none."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
