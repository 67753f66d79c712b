"""Have a process of its own (`guard`) hold a database while it is replaced; it stays when this one dies."""

from __future__ import annotations

import json
import select
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from continuum_tasks.errors import NoSpace, TargetBusy, TargetError
from continuum_tasks.launch import own_command
from continuum_tasks.sqlite.holders import Holder
from continuum_tasks.sqlite.raw import identity

_ERRORS = {kind.__name__: kind for kind in (TargetBusy, NoSpace, TargetError)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """The process that holds the old database of `path`."""

    path: Path
    pid: int
    process: subprocess.Popen[bytes]

    def check(self) -> None:
        """Raise TargetError when it is gone: the old database may be in use by now."""
        assert self.process.stdout is not None
        if select.select([self.process.stdout], [], [], 0)[0]:
            raise _gone(self.path)

    def kept_out(self) -> tuple[Holder, ...]:
        """Return who else has the old database open; nobody may read or write it, or another one by its name."""
        answer = _ask(self.process, self.path, b"\n")
        return tuple(Holder(pid=pid, command=command) for pid, command in answer["holders"])


@contextmanager
def guarded(path: Path) -> Iterator[Guard]:
    """Have a database folded into its main file and held exclusively: as `held_folded`, by a process of its own.

    When the block ends and the name has another file, the guard lives on until nobody has the old one open, else it is
    gone. The same when this process is killed. This process must not have the database open.
    Raises TargetBusy naming the processes that use it, NoSpace, TargetError.
    """
    old = identity(path)
    process = _started(path)
    assert process.stdin is not None and process.stdout is not None
    try:
        answer = _ask(process, path, b"")
        if "error" in answer:
            raise _ERRORS[answer["error"]](answer["message"], hint=answer["hint"])
        yield Guard(path=path, pid=answer["pid"], process=process)
    finally:
        with suppress(BrokenPipeError):
            process.stdin.close()
        if identity(path) == old:
            process.stdout.read()  # its end: whoever comes next finds the database free
        process.stdout.close()


def _started(path: Path) -> subprocess.Popen[bytes]:
    try:
        process = subprocess.Popen(  # noqa: S603 our own program and a path
            own_command("continuum_tasks.restore.install.guard", str(path)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            start_new_session=True,
        )
    except OSError as err:
        raise TargetError(f"{path}: the process that is to guard it cannot be started ({err.strerror})") from err
    process.wait()  # it leaves the guard behind, a child of nobody
    return process


def _ask(process: subprocess.Popen[bytes], path: Path, request: bytes) -> dict[str, Any]:
    assert process.stdin is not None and process.stdout is not None
    try:
        if request:
            process.stdin.write(request)
    except BrokenPipeError as err:
        raise _gone(path) from err
    line = process.stdout.readline()
    if not line:
        raise _gone(path)
    answer: dict[str, Any] = json.loads(line)
    return answer


def _gone(path: Path) -> TargetError:
    return TargetError(f"{path}: the process that guards it ended", hint="run the restore again; nothing was replaced")
