"""Hold the old database exclusively while it is replaced, and until nobody has it open any more (ADR 8).

SQLite opens `-wal`, `-shm` and `-journal` by name, and takes a SHARED lock on the database it opened before that. Who opened
the old file in the last instant would, once the name is another database's, open that one's; kept from the SHARED lock of
the old file it opens neither.

A process of its own, because the lock must outlive the one that restores, however that ends, and because closing any
descriptor of a file drops every lock its process has there: this one opens the old database once and closes it never.
It is run as `python -m continuum_tasks.restore.install.guard PATH` and prints one JSON object a line:

    {"pid": ...}                        the old database is folded into its main file and held; or, and then it ends,
    {"error": ..., "message": ..., "hint": ...}
    {"holders": [[pid, command], ...]}  once per line of input: who else has it open

The end of its input says that the restoring process is done or dead. When the name still has the old file, nothing was
replaced and it lets go at once. Else it stays until nobody has the old file open.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from continuum_tasks.errors import ContinuumError
from continuum_tasks.restore.install.fold import held_folded
from continuum_tasks.sqlite.holders import GUARD, each_holder, holders, is_open_elsewhere, others, unseen
from continuum_tasks.sqlite.raw import identity

LEAST_SECONDS = 1.0  # who found the old file by its name a moment ago, and does not have it open yet, has it then
BLIND_SECONDS = 60.0  # where the kernel does not count, and processes of other pid namespaces are not seen
_LONGEST_PAUSE_SECONDS = 5.0
_PR_SET_NAME = 15


def guard(path: Path) -> None:
    """Hold the database at `path`, obey the input, then keep late openers out; ends the process."""
    status = path.stat()
    try:
        with held_folded(path):
            try:
                _obey(path, status)
            finally:
                if _is_replaced(path, status):
                    # Not by the way a connection is closed: it may delete a -journal by a name that is another database's.
                    os._exit(0)
    except ContinuumError as err:
        _say({"error": type(err).__name__, "message": err.message, "hint": err.hint})


def _obey(path: Path, status: os.stat_result) -> None:
    _say({"pid": os.getpid()})
    counted_none = False
    for _ in _lines():
        found = others(holders(status)) or unseen(status)
        counted_none = not found and is_open_elsewhere(status) is False
        _say({"holders": [[holder.pid, holder.command] for holder in found]})
    if _is_replaced(path, status):
        _release_pipes()
        _await_closed(path, status, counted_none=counted_none)


def _is_replaced(path: Path, status: os.stat_result) -> bool:
    return identity(path) != (status.st_dev, status.st_ino)


def _await_closed(path: Path, status: os.stat_result, *, counted_none: bool) -> None:
    """Return when nobody has the old file open but who came by its name in the quarantine: there its sidecars are its own.

    The kernel's count tells no names apart, so it must have been none (`counted_none`) once since the rename.
    """
    begun = time.monotonic()
    while True:
        since = time.monotonic() - begun
        late = [holder for holder, link in each_holder(status) if holder.pid != os.getpid() and not _is_quarantined(link, path)]
        elsewhere = is_open_elsewhere(status)
        if elsewhere is None:
            closed = not late and since >= BLIND_SECONDS
        else:
            counted_none = counted_none or not elsewhere
            closed = counted_none and not late and since >= LEAST_SECONDS
        if closed:
            return
        time.sleep(min(_LONGEST_PAUSE_SECONDS, 0.1 + since / 20))


def _is_quarantined(link: str, path: Path) -> bool:
    return Path(link).parent.name.startswith(f".{path.name}.quarantine-") and not link.endswith(" (deleted)")


def _lines() -> Iterator[bytes]:
    pending = b""
    while data := os.read(0, 4096):
        *whole, pending = (pending + data).split(b"\n")
        yield from whole


def _say(answer: dict[str, object]) -> None:
    with suppress(BrokenPipeError):  # who restores is dead: the end of the input says so next
        os.write(1, json.dumps(answer).encode() + b"\n")


def _release_pipes() -> None:
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1):
        os.dup2(nowhere, number)


def _detach() -> None:
    """Become a process that nobody waits for and no terminal or service manager ends politely."""
    if os.fork():
        os._exit(0)
    ctypes.CDLL(None).prctl(_PR_SET_NAME, GUARD.encode())
    os.chdir("/")
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


if __name__ == "__main__":
    _detach()
    guard(Path(sys.argv[1]))
