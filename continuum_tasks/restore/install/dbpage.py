"""The pages of a live database, read and written through SQLite's pager (`sqlite_dbpage`), by ctypes.

apsw's own SQLite has no `sqlite_dbpage`; the one that apsw ships for SQLite's command line programs has. It is loaded only in
a process of its own (`overwrite.py`), which has no other SQLite: two of them on one file would drop each other's locks.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from urllib.parse import quote

from continuum_tasks.errors import ContinuumError, NoSpace, TargetBusy, TargetError

LIBRARY = "libsqlite3_tool.so"
_OK, _BUSY, _LOCKED, _CORRUPT, _FULL, _PROTOCOL, _NOTADB, _ROW, _DONE = 0, 5, 6, 11, 13, 15, 26, 100, 101
_OPEN_READWRITE, _OPEN_URI = 0x2, 0x40
_NO_CHECKPOINT_ON_CLOSE = 1006
_STATIC = ctypes.c_void_p(0)


class Pages:
    """One connection to a live database. Every error is one of the TargetError family."""

    def __init__(self, library: Path, path: Path, *, busy_seconds: float) -> None:
        self._path = path
        self._sqlite = _declared(ctypes.CDLL(str(library)))
        self._database = ctypes.c_void_p()
        self._statements: dict[str, ctypes.c_void_p] = {}
        uri = f"file:{quote(str(path))}?mode=rw".encode()
        self._check(
            self._sqlite.sqlite3_open_v2(uri, ctypes.byref(self._database), _OPEN_READWRITE | _OPEN_URI, None), "opened"
        )
        self.wait(busy_seconds)
        # A damaged schema is what a restore is for: nothing of it is used.
        self.execute("PRAGMA writable_schema = ON")
        self.execute("PRAGMA temp_store = MEMORY")
        self.execute("PRAGMA cache_size = -65536")
        # Checkpoints are the service's: they would keep its writers waiting, and our frames stay beside its own.
        self.execute("PRAGMA wal_autocheckpoint = 0")

    def wait(self, busy_seconds: float) -> None:
        """Wait that long for locks of others from now on."""
        self._sqlite.sqlite3_busy_timeout(self._database, max(1, int(busy_seconds * 1000)))

    def leave_log(self) -> None:
        """Leave the log as it is when this happens to be the last connection that closes."""
        self._sqlite.sqlite3_db_config(self._database, _NO_CHECKPOINT_ON_CLOSE, ctypes.c_int(1), ctypes.c_void_p(0))

    def execute(self, sql: str) -> None:
        """Run one statement, its rows left alone."""
        self.ask(sql)

    def ask(self, sql: str) -> str:
        """Run one statement; returns the first column of its first row, empty without one."""
        statement = self._prepared(sql)
        try:
            if self._step(statement) != _ROW:
                return ""
            text = ctypes.string_at(self._sqlite.sqlite3_column_text(statement, 0)).decode()
            while self._step(statement) == _ROW:
                pass
            return text
        finally:
            self._sqlite.sqlite3_reset(statement)

    def n_pages(self) -> int:
        """Return how many pages the database has, as this connection sees it now."""
        return int(self.ask("PRAGMA page_count"))

    def read(self, pgno: int) -> bytes:
        """Return one page; raises TargetError when there is none."""
        statement = self._prepared("SELECT data FROM sqlite_dbpage('main') WHERE pgno = ?1")
        self._sqlite.sqlite3_bind_int64(statement, 1, pgno)
        try:
            if self._step(statement) != _ROW:
                raise TargetError(f"{self._path}: has no page {pgno}", hint="stop the service and restore without --online")
            at = self._sqlite.sqlite3_column_blob(statement, 0)
            return ctypes.string_at(at, self._sqlite.sqlite3_column_bytes(statement, 0))
        finally:
            self._sqlite.sqlite3_reset(statement)

    def write(self, pgno: int, page: bytes) -> None:
        """Write one page, also one behind the end, inside the transaction that was begun."""
        statement = self._prepared("INSERT INTO sqlite_dbpage(pgno, data, schema) VALUES (?1, ?2, 'main')")
        self._sqlite.sqlite3_bind_int64(statement, 1, pgno)
        self._sqlite.sqlite3_bind_blob(statement, 2, page, len(page), _STATIC)
        try:
            self._step(statement)
        finally:
            self._sqlite.sqlite3_reset(statement)

    def cut(self, n_pages: int) -> None:
        """Have the transaction end the database after so many pages. Nothing may be written after this."""
        self.execute(f"INSERT INTO sqlite_dbpage(pgno, data, schema) VALUES ({n_pages + 1}, NULL, 'main')")  # noqa: S608 (a number)

    def roll_back(self) -> None:
        """End the transaction, if there is one, with nothing changed."""
        if not self._sqlite.sqlite3_get_autocommit(self._database):
            self.execute("ROLLBACK")

    def close(self) -> None:
        for statement in self._statements.values():
            self._sqlite.sqlite3_finalize(statement)
        self._sqlite.sqlite3_close_v2(self._database)

    def _prepared(self, sql: str) -> ctypes.c_void_p:
        found = self._statements.get(sql)
        if found is None:
            found = ctypes.c_void_p()
            text = sql.encode()
            self._check(
                self._sqlite.sqlite3_prepare_v2(self._database, text, len(text), ctypes.byref(found), None), "read or written"
            )
            self._statements[sql] = found
        return found

    def _step(self, statement: ctypes.c_void_p) -> int:
        code = int(self._sqlite.sqlite3_step(statement))
        if code not in (_ROW, _DONE):
            self._check(code, "read or written")
        return code

    def _check(self, code: int, what: str) -> None:
        if code != _OK:
            raise self._error(code & 0xFF, what)

    def _error(self, code: int, what: str) -> ContinuumError:
        said = self._sqlite.sqlite3_errmsg(self._database).decode(errors="replace")
        if code in (_BUSY, _LOCKED, _PROTOCOL):
            return TargetBusy(
                f"{self._path}: locked by others for too long; nothing was written", hint="try when it is quieter"
            )
        if code == _FULL:
            return NoSpace(f"{self._path}: disk full; nothing was written", hint=f"free space on {self._path.parent}")
        if code in (_CORRUPT, _NOTADB):
            hint = "stop the service and restore without --online"
            return TargetError(f"{self._path}: too damaged to be written through SQLite ({said})", hint=hint)
        hint = "run as its owner or as root, on a file system that is not read-only"
        return TargetError(f"{self._path}: cannot be {what} ({said}); nothing was written", hint=hint)


def _declared(sqlite: ctypes.CDLL) -> ctypes.CDLL:
    handle, number, text = ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p
    for name, result, arguments in (
        ("sqlite3_open_v2", number, (text, handle, number, text)),
        ("sqlite3_close_v2", number, (handle,)),
        ("sqlite3_busy_timeout", number, (handle, number)),
        ("sqlite3_get_autocommit", number, (handle,)),
        ("sqlite3_errmsg", text, (handle,)),
        ("sqlite3_prepare_v2", number, (handle, text, number, handle, handle)),
        ("sqlite3_bind_int64", number, (handle, number, ctypes.c_int64)),
        ("sqlite3_bind_blob", number, (handle, number, text, number, handle)),
        ("sqlite3_step", number, (handle,)),
        ("sqlite3_reset", number, (handle,)),
        ("sqlite3_finalize", number, (handle,)),
        ("sqlite3_column_text", handle, (handle, number)),
        ("sqlite3_column_blob", handle, (handle, number)),
        ("sqlite3_column_bytes", number, (handle, number)),
    ):
        function = getattr(sqlite, name)
        function.restype, function.argtypes = result, arguments
    return sqlite
