"""Write a proven state into a live database, in one transaction, by a process of its own (ADR 10)."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import apsw.sqlite_extra

from continuum_tasks.errors import JobFailed, SourceError, SourceMissing, TargetError, error_from
from continuum_tasks.launch import own_command
from continuum_tasks.restore.install.dbpage import LIBRARY
from continuum_tasks.restore.install.overwrite import Comparison, Order, Written
from continuum_tasks.sqlite.inspect import DatabaseSource, inspect

_INSTEAD = "stop the service and restore without --online"


def check_online(target: Path, *, page_size: int, accepted: Collection[str]) -> DatabaseSource:
    """Refuse what cannot be written online, before a byte is fetched; `accepted` as in `inspect`. Raises TargetError."""
    if target.is_symlink():
        raise TargetError(f"{target}: a symlink", hint=f"give the real path: {os.path.realpath(target)}")
    try:
        source = inspect(target, accepted=accepted)
    except SourceMissing as err:
        raise TargetError(f"{err.message}: --online writes into a live database", hint="run it without --online") from err
    except SourceError as err:
        raise TargetError(f"{err.message}: it cannot be written online", hint=f"{err.hint}; or {_INSTEAD}") from err
    if source.page_size != page_size:
        raise TargetError(
            f"{target}: its page size is {source.page_size} bytes, in the state to be restored it is {page_size}:"
            " open connections cannot go on with that",
            hint=_INSTEAD,
        )
    if not os.access(source.path, os.W_OK):
        raise TargetError(f"{target}: no permission to write", hint=f"run as its owner (uid {source.uid}) or as root")
    page_library()
    return source


def page_library() -> Path:
    """Return the SQLite that can write single pages. Raises TargetError where apsw came without its programs."""
    try:
        library = Path(apsw.sqlite_extra.path("sqlite3_shell")).with_name(LIBRARY)
    except (LookupError, apsw.sqlite_extra.NotAvailable) as err:
        raise _unavailable() from err
    if not library.is_file():
        raise _unavailable()
    return library


class LiveWriter:
    """A process that has compared a live database with a state (`comparison`), and writes that state when told to."""

    def __init__(self, order: Order, process: subprocess.Popen[str]) -> None:
        self._order = order
        self._process = process
        self._send(json.dumps(asdict(order)) + "\n")
        self.comparison = Comparison(**self._answer("compared"))

    @property
    def pid(self) -> int:
        return self._process.pid

    def write(self) -> Written:
        """Write. Raises TargetBusy, NoSpace, TargetError, ProofFailed: the database is then as it was; JobFailed: not known."""
        self._send("write\n")
        return Written(**self._answer("done"))

    def _send(self, text: str) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # one that is dead says so by having no answer
            self._process.stdin.write(text)
            self._process.stdin.flush()

    def _answer(self, wanted: str) -> dict[str, Any]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            found = json.loads(line)
            if "error" in found:
                raise error_from(found["error"], found["message"], found["hint"])
            if wanted in found:
                answer: dict[str, Any] = found[wanted]
                return answer
        raise JobFailed(
            f"{self._order.live}: the process that writes into it ended before it said whether it had committed",
            hint="the database has either the old state or the new one, whole: look at it, then run the restore again",
        )


@contextmanager
def live_writer(order: Order) -> Iterator[LiveWriter]:
    """Start the process and have it compare; it ends with the block. Raises as `LiveWriter.write`."""
    process = subprocess.Popen(  # noqa: S603 (our own program)
        own_command("continuum_tasks.restore.install.overwrite"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield LiveWriter(order, process)
    finally:
        assert process.stdin is not None and process.stdout is not None
        with suppress(BrokenPipeError):
            process.stdin.close()  # it gives up what it was not told to write
        process.stdout.close()
        process.wait()


def _unavailable() -> TargetError:
    return TargetError(
        "--online needs the SQLite of apsw's binary wheel, which is not installed",
        hint=f"pip install --only-binary apsw --force-reinstall apsw; or {_INSTEAD}",
    )
