"""Which pages changed, by the digests of every page of two staged copies."""

from __future__ import annotations

import os
from array import array
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from continuum_tasks.errors import ProofFailed
from continuum_tasks.layer.format import DIGEST_BYTES, ZERO_DIGEST, digest_root, digests_of, lock_page

# Two threads over 1 GB of 4 KiB pages from the page cache: 0.085 s at 4 MiB a read, 0.13 s at 1 MiB, 0.25 s at 256 KiB.
_READ_BYTES = 4 * 1024 * 1024
_COMPARE_BYTES = 64 * 1024


def digest_file(path: Path, out: Path, *, page_size: int, n_pages: int, n_threads: int) -> str:
    """Write 16 bytes per page of a private file to `out` (0600, durable, whole or not at all) and return the root in hex.

    Memory is bounded by 8 MiB a thread. Raises ProofFailed when the file is not exactly `n_pages` long.
    """
    size_bytes = path.stat().st_size
    if size_bytes != n_pages * page_size:
        raise ProofFailed(f"{path}: {size_bytes} bytes, not {n_pages} pages of {page_size}", hint="stage it again")
    part = out.with_name(out.name + ".part")
    part.unlink(missing_ok=True)
    fd = os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        found = digest_root(_written(file.write, _digests(path, page_size, n_pages, n_threads)))
        file.flush()
        os.fsync(file.fileno())
    part.rename(out)
    return found


def changed_pages(old: Path, new: Path) -> array[int]:
    """Return the pgnos, ascending, whose digest in `new` differs from `old` or that lie beyond its end; never the lock page.

    Raises ProofFailed when either file of digests is torn.
    """
    changed = array("I")
    for file in (old, new):
        if file.stat().st_size % DIGEST_BYTES:
            raise ProofFailed(f"{file}: torn file of page digests", hint="delete it; the next backup is a full one")
    with old.open("rb") as before, new.open("rb") as after:
        pgno = 1
        while now := after.read(_COMPARE_BYTES):
            was = before.read(_COMPARE_BYTES)
            if now != was:
                changed.extend(pgno + at for at in _differing(was, now))
            pgno += len(now) // DIGEST_BYTES
    return changed


def _differing(was: bytes, now: bytes) -> Iterator[int]:
    for at in range(0, len(now), DIGEST_BYTES):
        digest = now[at : at + DIGEST_BYTES]
        if digest != was[at : at + DIGEST_BYTES] and digest != ZERO_DIGEST:
            yield at // DIGEST_BYTES


def _digests(path: Path, page_size: int, n_pages: int, n_threads: int) -> Iterator[bytes]:
    """Yield the digests in page order while at most two reads a thread are in flight."""
    step = max(1, _READ_BYTES // page_size)
    locked = lock_page(page_size)
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def digest(first: int) -> bytes:
        n = min(step, n_pages + 1 - first)
        found = digests_of(os.pread(fd, n * page_size, (first - 1) * page_size), page_size)
        if first <= locked < first + n:
            at = (locked - first) * DIGEST_BYTES
            found = found[:at] + ZERO_DIGEST + found[at + DIGEST_BYTES :]
        if len(found) != n * DIGEST_BYTES:
            raise ProofFailed(f"{path}: cut off while read", hint="stage it again")
        return found

    waiting: deque[Future[bytes]] = deque()
    with ThreadPoolExecutor(n_threads) as threads:
        try:
            for first in range(1, n_pages + 1, step):
                waiting.append(threads.submit(digest, first))
                if len(waiting) >= 2 * n_threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            threads.shutdown(cancel_futures=True)
            os.close(fd)


def _written(write: object, pieces: Iterator[bytes]) -> Iterator[bytes]:
    assert callable(write)
    for piece in pieces:
        write(piece)
        yield piece
