"""The process that writes a proven state into a live database, in one transaction (ADR 10).

It reads one JSON document (`Order`) from its input, compares, says what it found, and waits for `write`. It opens the database
through no other SQLite, and ends with its parent: SQLite then undoes what was not committed.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import shutil
import signal
import sys
import time
from array import array
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from continuum_tasks import failpoints
from continuum_tasks.errors import ContinuumError, NoSpace, ProofFailed, TargetBusy, TargetError
from continuum_tasks.layer.format import DIGEST_BYTES, lock_page, page_digest
from continuum_tasks.restore.install.dbpage import Pages
from continuum_tasks.sqlite.raw import sync_directory

LOCK_SECONDS = 30.0  # for the write lock: a service commits many times in between, and SQLite's locks are not fair
_BATCH = 512  # pages read in one transaction while no lock is held: a rollback-journal writer waits for no more than that
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What to write where. `expected` is the file of page digests, `source` the proven file, empty to compare only.

    The pages that are replaced are written into `source`, which so becomes the replaced state, and goes to `quarantine`.
    Without `wait_writers` nothing is written once the lock was held for `window_seconds`. The write lock of others is
    waited for so long as `lock_wait_seconds`.
    """

    library: str
    live: str
    expected: str
    page_size: int
    n_pages: int
    source: str = ""
    quarantine: str = ""
    window_seconds: float = 0.0
    wait_writers: bool = False
    lock_wait_seconds: float = LOCK_SECONDS


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """How a live database differs from a state: pages to be written, and how long comparing all of them took."""

    wal: bool
    n_differ: int
    n_pages_now: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What was written in the one transaction, and how long writers could not begin.

    `first_page` is the digest (hex) of page 1 with the counters SQLite gave it, empty where it could not be read again.
    """

    n_pages_written: int
    n_pages_before: int
    locked_seconds: float
    first_page: str = ""


class _Overwrite:
    def __init__(self, order: Order, pages: Pages, expected: mmap.mmap) -> None:
        self._order = order
        self._pages = pages
        self._expected = expected
        self._lock_page = lock_page(order.page_size)
        self._locked_at = 0.0
        self._version = ""
        self._differ = array("I")
        self.kept_replaced = False

    def compare(self) -> Comparison:
        """Compare page by page without keeping anyone waiting; what is found may be out of date by the next commit."""
        begun, order = time.monotonic(), self._order
        self._version = self._pages.ask("PRAGMA data_version")
        live_first, proven_first = self._pages.read(1), self._first_page()
        _check_fits(live_first, proven_first, order)
        n_now = self._pages.n_pages()
        self._differ = array("I")
        for first in range(1, order.n_pages + 1, _BATCH):
            self._pages.execute("BEGIN")
            self._differ.extend(self._differing(range(first, min(first + _BATCH, order.n_pages + 1))))
            self._pages.execute("COMMIT")
            _say(phase="compare", n=first)
        if proven_first and self._is_there(_first_page(proven_first, live_first, n_pages=order.n_pages), live_first, n_now):
            self._differ = array("I")
        n_differ = len(self._differ) or int(n_now != order.n_pages)
        wal = self._pages.ask("PRAGMA journal_mode") == "wal"
        return Comparison(wal=wal, n_differ=n_differ, n_pages_now=n_now, seconds=time.monotonic() - begun)

    def write(self) -> Written:
        """Write what differs, prove it, keep what it replaces, commit."""
        self._pages.wait(self._order.lock_wait_seconds)
        self._pages.execute("BEGIN IMMEDIATE")
        self._locked_at = time.monotonic()
        self._bound_waits()
        failpoints.reach("online.locked")
        old_n, live_first = self._pages.n_pages(), self._pages.read(1)
        first = _first_page(self._first_page(), live_first, n_pages=self._order.n_pages)
        if self._pages.ask("PRAGMA data_version") != self._version:  # somebody committed since: all of it again
            _check_fits(live_first, first, self._order)
            self._differ = array("I", self._differing(range(1, self._order.n_pages + 1)))
        if self._is_there(first, live_first, old_n):
            self._pages.roll_back()
            return self._written(0, old_n)
        self._replace(live_first, old_n)
        self._prove()
        failpoints.reach("online.written")
        self._replace_first(first, live_first)
        if old_n > self._order.n_pages:
            self._pages.cut(self._order.n_pages)
        self._pages.execute(f"PRAGMA schema_version = {_next_schema(live_first)}")
        self._keep_replaced(old_n)
        self._check_window()
        failpoints.reach("online.replaced_kept")
        self._bound_waits()
        self._pages.execute("COMMIT")
        failpoints.reach("online.committed")
        return self._written(len(self._differ), old_n)

    def _is_there(self, first: bytes, live_first: bytes, n_now: int) -> bool:
        """Tell whether the database has that very state already, but for the counters in page 1."""
        same = first[:40] + first[44:] == live_first[:40] + live_first[44:]
        return same and n_now == self._order.n_pages and list(self._differ) in ([], [1])

    def _bound_waits(self) -> None:
        """Wait for readers (of a rollback-journal database) no longer than writers may be kept waiting."""
        if not self._order.wait_writers:
            self._pages.wait(self._order.window_seconds - (time.monotonic() - self._locked_at))

    def _replace(self, live_first: bytes, old_n: int) -> None:
        """Swap all pages that differ but page 1, which comes last."""
        if self._pages.ask("PRAGMA auto_vacuum") == "1":  # full: the commit would move pages, by counts that are not its own
            self._pages.execute("PRAGMA auto_vacuum = 2")
        order, size = self._order, self._order.page_size
        self._differ = array("I", sorted({1, *self._differ, *self._new_pages(old_n)}))
        with Path(order.source).open("rb+", buffering=0) as file:
            _put(file.fileno(), live_first, 0)
            for pgno in self._differ[1:]:
                new = os.pread(file.fileno(), size, (pgno - 1) * size)
                if pgno <= old_n:
                    _put(file.fileno(), self._pages.read(pgno), (pgno - 1) * size)
                self._pages.write(pgno, new)
                self._check_window()
            for pgno in range(order.n_pages + 1, old_n + 1):
                if pgno != self._lock_page:
                    _put(file.fileno(), self._pages.read(pgno), (pgno - 1) * size)
                    self._check_window()
        if old_n < order.n_pages:  # SQLite takes the number of pages from page 1, here for those behind its end
            self._pages.write(1, live_first[:28] + order.n_pages.to_bytes(4, "big") + live_first[32:])
            self._pages.execute("SAVEPOINT counted")
            self._pages.execute("RELEASE counted")

    def _replace_first(self, first: bytes, live_first: bytes) -> None:
        """Write page 1 with the schema number that it has: this connection must not read another schema by what it knows."""
        page = first[:40] + live_first[40:44] + first[44:]
        self._pages.write(1, page)
        if self._pages.read(1) != page:
            raise self._misread(1)

    def _new_pages(self, old_n: int) -> Iterator[int]:
        return (pgno for pgno in range(old_n + 1, self._order.n_pages + 1) if pgno != self._lock_page)

    def _prove(self) -> None:
        """Read what was written back: of all other pages the digests were just compared, in this same transaction."""
        for pgno in self._differ[1:]:
            if page_digest(self._pages.read(pgno)) != self._digest(pgno):
                raise self._misread(pgno)
            self._check_window()

    def _misread(self, pgno: int) -> ProofFailed:
        return ProofFailed(f"{self._order.live}: page {pgno} is not as it was written; nothing was", hint="check the disk")

    def _keep_replaced(self, old_n: int) -> None:
        source, quarantine, live = (Path(p) for p in (self._order.source, self._order.quarantine, self._order.live))
        status = live.stat()
        with source.open("rb+") as file:
            file.truncate(old_n * self._order.page_size)
            with suppress(PermissionError):
                os.fchown(file.fileno(), status.st_uid, status.st_gid)
            os.fchmod(file.fileno(), status.st_mode & 0o777)
            os.fsync(file.fileno())
        quarantine.mkdir(mode=0o700)
        self.kept_replaced = True
        source.rename(quarantine / live.name)
        sync_directory(quarantine)
        sync_directory(quarantine.parent)

    def _written(self, n_written: int, old_n: int) -> Written:
        locked = time.monotonic() - self._locked_at
        return Written(n_pages_written=n_written, n_pages_before=old_n, locked_seconds=round(locked, 3))

    def _check_window(self) -> None:
        window = self._order.window_seconds
        if not self._order.wait_writers and self._locked_at and time.monotonic() - self._locked_at > window:
            raise TargetBusy(
                f"{self._order.live}: writers would wait longer than the busy window ({window:g} s); nothing was written",
                hint="--wait-writers lets them wait; or stop the service and restore without --online",
            )

    def _differing(self, pgnos: range) -> Iterator[int]:
        n_now = self._pages.n_pages()
        for pgno in pgnos:
            if pgno == self._lock_page:
                continue
            if pgno > n_now or page_digest(self._pages.read(pgno)) != self._digest(pgno):
                yield pgno
            self._check_window()

    def _digest(self, pgno: int) -> bytes:
        return self._expected[(pgno - 1) * DIGEST_BYTES : pgno * DIGEST_BYTES]

    def _first_page(self) -> bytes:
        if not self._order.source:
            return b""
        with Path(self._order.source).open("rb") as file:
            return file.read(self._order.page_size)


def main() -> int:
    """Do what the order on the input says; every answer is one line of JSON."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    order = Order(**json.loads(sys.stdin.readline()))
    failpoints.arm(os.environ.get("CONTINUUM_FAILPOINTS", ""))
    try:
        _carry_out(order)
    except ContinuumError as err:
        _say(error=type(err).__name__, message=err.message, hint=err.hint)
        return 1
    except OSError as err:
        _say(
            error=NoSpace.__name__,
            message=f"{err.filename or order.source}: {err.strerror}; nothing was written",
            hint="free space",
        )
        return 1
    return 0


def _carry_out(order: Order) -> None:
    left_log = _has_log(order)
    with closing(Pages(Path(order.library), Path(order.live), busy_seconds=LOCK_SECONDS)) as pages:
        if left_log:
            pages.leave_log()
        with Path(order.expected).open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as expected:
            overwrite = _Overwrite(order, pages, expected)
            _say(compared=asdict(overwrite.compare()))
            if sys.stdin.readline() != "write\n":
                return
            try:
                done = overwrite.write()
            except BaseException:
                pages.roll_back()
                if overwrite.kept_replaced:
                    shutil.rmtree(order.quarantine, ignore_errors=True)
                raise
    _say(done={**asdict(done), "first_page": _read_first(order)})


def _has_log(order: Order) -> bool:
    wal = Path(f"{order.live}-wal")
    return wal.exists() and wal.stat().st_size > 0


def _read_first(order: Order) -> str:
    """Read page 1 as others see it now; it is committed, whoever has the database locked meanwhile."""
    with suppress(ContinuumError), closing(Pages(Path(order.library), Path(order.live), busy_seconds=1)) as pages:
        if _has_log(order):
            pages.leave_log()
        return page_digest(pages.read(1)).hex()
    return ""


def _next_schema(live_first: bytes) -> int:
    """Return the schema's next number. None that a connection has seen, or it would go on with the schema it knows."""
    return int.from_bytes(live_first[40:44], "big", signed=True) + 1


def _first_page(proven: bytes, live: bytes, *, n_pages: int) -> bytes:
    """Return page 1 as it is to be written: journal mode and counters stay the live file's, which SQLite steps from there."""
    page = bytearray(proven)
    page[18:20], page[24:28], page[92:100] = live[18:20], live[24:28], live[92:100]
    page[28:32] = n_pages.to_bytes(4, "big")
    return bytes(page)


def _check_fits(live: bytes, proven: bytes, order: Order) -> None:
    """Refuse what the connections that are open could not go on with. `proven` is empty when nothing is to be written."""
    if len(live) != order.page_size:
        _refuse(order.live, "page size", f"{len(live)} bytes", f"{order.page_size}")
    if not proven:
        return
    if not proven.startswith(b"SQLite format 3\0"):
        raise TargetError(f"{order.live}: the state to be restored is no readable database", hint="restore it to another path")
    if live[20] != proven[20]:
        _refuse(order.live, "reserved bytes per page", str(live[20]), str(proven[20]))
    encodings = [max(1, int.from_bytes(page[56:60], "big")) for page in (live, proven)]
    if encodings[0] != encodings[1]:
        _refuse(order.live, "text encoding", *(("UTF-8", "UTF-16le", "UTF-16be")[n - 1 if n <= 3 else 0] for n in encodings))


def _refuse(live: str, what: str, now: str, then: str) -> None:
    raise TargetError(
        f"{live}: its {what} is {now}, in the state to be restored it is {then}: open connections cannot go on with that",
        hint="stop the service and restore without --online",
    )


def _put(descriptor: int, page: bytes, offset: int) -> None:
    view = memoryview(page)
    while view:
        n = os.pwrite(descriptor, view, offset)
        view, offset = view[n:], offset + n


def _say(**words: Any) -> None:
    sys.stdout.write(json.dumps(words) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
