"""Hold read transactions on databases, in a process of its own that does nothing else.

Closing any descriptor of a database drops the POSIX locks its process holds there. So the process that reads `-wal` and
`-shm` raw has no SQLite connection to them, and this one, which has the connections, opens nothing by itself.
It is run as `python -m continuum_tasks.capture.pins.process` and obeys one JSON object a line on standard input:

    {"do": "pin", "path": ..., "id": n}     begin a read transaction; the answer says the journal mode: only wal is held
    {"do": "drop", "id": n}                 end it
    {"do": "copy", "to": ...}               copy what the newest pin sees to this private file, then end it
    {"do": "still", "path": ...}            take the write lock and pin: nobody commits until "go"; nothing is written
    {"do": "go"}                            let it go
    {"do": "advance", "path": ..., "from": m, "id": n}
                                            copy frames back as far as readers allow (PASSIVE: nobody is kept waiting),
                                            then pin anew and end the pin m, in one go: a commit in between undoes it

The end of its input ends it, and with it every lock.
"""

from __future__ import annotations

import json
import sys
from contextlib import closing
from pathlib import Path
from typing import TextIO
from urllib.parse import quote

import apsw

from continuum_tasks.sqlite import reserved

BUSY_MILLISECONDS = 200
WAL_RESET_FIXED = 3_051_003  # older ones can corrupt a database when two checkpoints race: they are not let near one
_STEP_PAGES = 4096


def serve(requests: TextIO, answers: TextIO) -> None:
    """Obey until the input ends."""
    pins: dict[int, apsw.Connection] = {}
    still: list[apsw.Connection] = []
    for line in requests:
        request = json.loads(line)
        try:
            answer = _hold(request, still) if request["do"] in ("still", "go") else _obey(request, pins)
        except (apsw.Error, OSError) as err:
            answer = {"error": f"{type(err).__name__}: {err}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _hold(request: dict[str, object], still: list[apsw.Connection]) -> dict[str, object]:
    while still:
        still.pop().close()
    if request["do"] == "still":
        connection = _open(Path(str(request["path"])), "rw")
        still.append(connection)
        connection.execute("BEGIN IMMEDIATE")
    return {}


def _obey(request: dict[str, object], pins: dict[int, apsw.Connection]) -> dict[str, object]:
    if request["do"] == "drop":
        connection = pins.pop(int(str(request["id"])), None)
        if connection is not None:
            connection.close()
        return {}
    if request["do"] == "copy":
        return _copy(pins.pop(max(pins)), str(request["to"]))
    path = Path(str(request["path"]))
    if request["do"] == "advance":
        return _advance(path, request, pins)
    connection, mode, n_bytes = _pin(path)
    if mode == "wal" and n_bytes:  # its log lacks what its own VFS adds to the file, and we may not copy it back
        connection.close()
        return {"refused": reserved.explained(path, n_bytes)}
    if mode == "wal":
        pins[int(str(request["id"]))] = connection
    else:  # there a reader would keep writers from committing
        connection.close()
    return {"mode": mode}


def _pin(path: Path) -> tuple[apsw.Connection, str, int]:
    connection = _open(path, "ro")
    try:
        connection.execute("BEGIN")
        connection.execute("PRAGMA schema_version").fetchall()  # BEGIN alone takes no lock
        return connection, str(connection.execute("PRAGMA journal_mode").get), reserved.seen_by(connection)
    except apsw.Error:
        connection.close()
        raise


def _copy(pinned: apsw.Connection, to: str) -> dict[str, object]:
    with closing(pinned), closing(apsw.Connection(to, flags=apsw.SQLITE_OPEN_READWRITE)) as copy:
        copy.execute("PRAGMA synchronous=OFF; PRAGMA journal_mode=OFF").fetchall()  # after a crash it is thrown away
        with copy.backup("main", pinned, "main") as backup:
            while not backup.done:
                backup.step(_STEP_PAGES)
    return {}


def _advance(path: Path, request: dict[str, object], pins: dict[int, apsw.Connection]) -> dict[str, object]:
    """Sound when all that the pin `from` sees was read.

    Until the new pin is there the old one keeps frames it does not see from being copied back. So when the new one gets slot 0,
    which takes that all frames are copied back, it sees no frame more; and in any other slot it keeps the log as it is.
    """
    if apsw.SQLITE_VERSION_NUMBER < WAL_RESET_FIXED:
        return {"whole": False, "pinned": False}
    connection = _open(path, "rw")
    try:
        connection.execute("PRAGMA schema_version").fetchall()  # before its first read it does not know of the log
        if reserved.seen_by(connection):
            return {"whole": False, "pinned": False}
        n_frames, n_copied = connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        pins[int(str(request["id"]))], *_ = _pin(path)
        pins.pop(int(str(request["from"]))).close()
    except apsw.BusyError:  # another checkpoint is at work
        return {"whole": False, "pinned": False}
    finally:
        connection.close()
    return {"whole": 0 <= n_frames == n_copied, "pinned": True}


def _open(path: Path, mode: str) -> apsw.Connection:
    flags = apsw.SQLITE_OPEN_URI | (apsw.SQLITE_OPEN_READONLY if mode == "ro" else apsw.SQLITE_OPEN_READWRITE)
    connection = apsw.Connection(f"file:{quote(str(path))}?mode={mode}", flags=flags)
    connection.set_busy_timeout(BUSY_MILLISECONDS)
    # As the last one out we would checkpoint and delete the log: it stays where the user's own processes left it.
    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    return connection


if __name__ == "__main__":
    serve(sys.stdin, sys.stdout)
