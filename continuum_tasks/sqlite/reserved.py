"""Databases that reserve bytes at the end of every page for what only their own VFS computes (ADR 12).

SQLite without that VFS copies these bytes and never computes them, so what it writes into such a file has wrong ones. One
format is documented and can be computed here: eight bytes, the page checksum of SQLite's cksumvfs. That VFS computes it as
it writes into the database file; the pages of its log have old checksums, or none.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import apsw
import numpy as np

from continuum_tasks.errors import SourceRefused, TargetError
from continuum_tasks.sqlite import vfs
from continuum_tasks.sqlite.pages import read_runs
from continuum_tasks.wal.weights import Words, weights

SUM_BYTES = 8
_MAGIC = b"SQLite format 3\x00"
_AT = 20
_N_READS = 3
_NOOP_SINCE = 3_051_000  # older ones take this mode for PASSIVE, which writes
CHECKPOINT = "have the service copy its log back (PRAGMA wal_checkpoint(TRUNCATE), or stop it cleanly)"


def explained(name: object, n_bytes: int) -> str:
    """Return what a refusal begins with."""
    return (
        f"{name}: {n_bytes} bytes are reserved on every page (page checksums or another VFS), which only its own VFS computes"
    )


def in_file(path: Path) -> int:
    """Return how many bytes the database file reserves on every page; 0 for what is no database or cannot be read."""
    try:
        return in_page(vfs.read_start(path, _AT + 1))
    except apsw.Error:
        return 0


def in_page(page: bytes) -> int:
    """Return how many bytes page 1 (its first 21 bytes or more) says are reserved, 0 when it is no page 1."""
    return page[_AT] if page.startswith(_MAGIC) and len(page) > _AT else 0


def seen_by(connection: apsw.Connection) -> int:
    """Return how many bytes are reserved in the state that a connection has begun to read, the log included."""
    found = ctypes.c_int(-1)
    connection.file_control("main", apsw.SQLITE_FCNTL_RESERVE_BYTES, ctypes.addressof(found))
    return found.value


def check_folded(path: Path) -> None:
    """Raise TargetError where SQLite would have to bring a log or journal into such a database before it is replaced."""
    n_bytes = in_file(path)
    pending = _pending(path) if n_bytes else ""
    if pending:
        raise TargetError(
            f"{explained(path, n_bytes)}, and {pending} would have to be written into it before it is replaced",
            hint="start and stop the service once, so that it does; or move the file away with its -wal and -journal",
        )


def is_copied_back(path: Path) -> bool:
    """Tell whether the file has all of its log; then it keeps still while a read transaction that began before is held."""
    if apsw.SQLITE_VERSION_NUMBER < _NOOP_SINCE:
        return False
    uri = f"file:{quote(str(path))}?mode=ro"
    connection = apsw.Connection(uri, flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)
    try:
        connection.execute("PRAGMA schema_version").fetchall()  # before its first read it does not know of the log
        n_frames, n_copied = connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP)
    except apsw.BusyError:
        return False
    finally:
        connection.close()
    return 0 <= n_frames == n_copied


def check_computable(path: Path, *, page_size: int, n_bytes: int) -> None:
    """Raise SourceRefused unless the reserved bytes are page checksums: page 1 of the file then has the right one."""
    if n_bytes == SUM_BYTES and any(not len(_wrong(_page_1(path, page_size), page_size)) for _ in range(_N_READS)):
        return  # read more than once: a checkpoint may be writing it in this moment
    raise SourceRefused(
        f"{explained(path, n_bytes)}; its last commits are in its -wal alone, without what that VFS adds to the file",
        hint=f"{CHECKPOINT}, then back up again",
    )


def complete(copy: Path, source: Path, *, page_size: int, n_pages: int) -> tuple[int, ...]:
    """Compute the checksum of every page of `copy` that came from the log of `source`; returns those that `source` has wrong.

    `copy` was made under a read transaction that is still held: a page that is not as in the file came from the log, where
    frames have checksums of their own. Page 1 is computed anyway: the backup API counts in it.
    """
    wrong = []
    with vfs.open_locked_file(source) as file, copy.open("r+b", buffering=0) as out:
        for pgno, page in _pages_with_wrong_sums(copy, page_size, n_pages):
            at = (pgno - 1) * page_size
            if pgno > 1 and file.xRead(page_size, at) == page:
                wrong.append(pgno)
                continue
            out.seek(at + page_size - SUM_BYTES)
            out.write(_sums(page, page_size).astype("<u4").tobytes())
    return tuple(wrong)


def findings(path: Path) -> tuple[str, ...]:
    """Return what is wrong with the page checksums of a private file, nothing where it does not seem to have any."""
    if in_file(path) != SUM_BYTES:
        return ()
    stored = int.from_bytes(vfs.read_start(path, 18)[16:], "big")
    page_size = 65536 if stored == 1 else stored
    if page_size < 512 or page_size & (page_size - 1):
        return ()
    n_pages = path.stat().st_size // page_size
    wrong = [pgno for pgno, _ in _pages_with_wrong_sums(path, page_size, n_pages)]
    if not wrong or not _has_sums(path, page_size, n_pages):
        return ()
    return mismatch_findings(tuple(wrong))


def mismatch_findings(wrong: tuple[int, ...]) -> tuple[str, ...]:
    """Return the finding that these pages make, none for none."""
    if len(wrong) == 1:
        return (f"page {wrong[0]} does not match its page checksum (cksumvfs)",)
    return (f"page {wrong[0]} and {len(wrong) - 1} more do not match their page checksums (cksumvfs)",) if wrong else ()


def _pending(path: Path) -> str:
    for suffix in ("-wal", "-journal"):
        try:
            with path.with_name(path.name + suffix).open("rb") as file:  # no lock of SQLite's is on these
                first = file.read(1)
        except FileNotFoundError:
            continue
        except OSError:
            return f"its {suffix}"
        if first.strip(b"\0"):  # a journal that ended is empty or begins with zeros
            return f"its {suffix}"
    return ""


def _page_1(path: Path, page_size: int) -> bytes:
    return vfs.read_start(path, page_size).ljust(page_size, b"\0")


def _has_sums(path: Path, page_size: int, n_pages: int) -> bool:
    for _, run in read_runs(path, page_size=page_size, pages=range(1, n_pages + 1)):
        right = _sums(run, page_size)
        if ((right == _said_sums(run, page_size)).all(axis=1) & right.any(axis=1)).any():
            return True
    return False


def _pages_with_wrong_sums(path: Path, page_size: int, n_pages: int) -> Iterator[tuple[int, bytes]]:
    for first, run in read_runs(path, page_size=page_size, pages=range(1, n_pages + 1)):
        for at in _wrong(run, page_size):
            yield first + int(at), bytes(run[at * page_size : (at + 1) * page_size])


def _wrong(pages: bytes | memoryview, page_size: int) -> list[int]:
    differ = (_sums(pages, page_size) != _said_sums(pages, page_size)).any(axis=1)
    return [int(at) for at in np.flatnonzero(differ)]


def _sums(pages: bytes | memoryview, page_size: int) -> Words:
    words = np.frombuffer(pages, dtype="<u4").astype(np.uint32, copy=False).reshape(-1, page_size // 4)
    found, _ = weights(page_size // 4 - SUM_BYTES // 4)
    total: Words = np.einsum("pw,kw->pk", words[:, : -SUM_BYTES // 4], found)
    return total


def _said_sums(pages: bytes | memoryview, page_size: int) -> Words:
    words = np.frombuffer(pages, dtype="<u4").astype(np.uint32, copy=False).reshape(-1, page_size // 4)
    return words[:, -SUM_BYTES // 4 :]
