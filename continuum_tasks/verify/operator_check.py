"""Run the operator's own command: without a shell, with a time limit, its output kept, and never outliving this process."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import apsw

from continuum_tasks.model import Progress
from continuum_tasks.sqlite.check import opened_unchanging

PHASE = "command"
GRACE_SECONDS = 5.0
LOOK_SECONDS = 0.1
KEPT_BYTES = 1024 * 1024
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorCommand:
    """What to run: `additions` are added to this process's environment, `output` is the new file for what it says."""

    words: Sequence[str]
    additions: Mapping[str, str]
    directory: Path
    limit_seconds: float
    output: Path


def run_operator_check(command: OperatorCommand, *, monotonic: Callable[[], float]) -> Generator[Progress, None, str]:
    """Run a command to its end and return what speaks against it: empty when it exited with 0. Yields progress.

    When the limit is over, or this generator is closed, the command and everything it started are ended.
    """
    yield Progress(phase=PHASE, detail=command.words[0])
    begun = monotonic()
    try:
        process = _start(command)
    except (OSError, ValueError) as err:
        return f"the command {command.words[0]!r} cannot be run: {getattr(err, 'strerror', None) or err}"
    try:
        while process.poll() is None:
            if monotonic() - begun > command.limit_seconds:
                return f"the command took longer than {command.limit_seconds:g} s"
            with suppress(subprocess.TimeoutExpired):
                process.wait(LOOK_SECONDS)
            yield Progress(phase=PHASE, detail=f"{command.words[0]}, {monotonic() - begun:.0f} s")
    finally:
        _end(process)
    return _judge(process.returncode)


def _judge(code: int) -> str:
    if code < 0:
        return f"the command was killed by {_name(-code)}"
    return f"the command exited with {code}" if code else ""


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # most real-time signals have none
        return f"signal {number}"


def tail(path: Path) -> bytes:
    """Return the last MiB of a file, nothing when there is none."""
    if not path.exists():
        return b""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - KEPT_BYTES))
        return file.read()


def _start(command: OperatorCommand) -> subprocess.Popen[bytes]:
    prctl, parent = ctypes.CDLL(None).prctl, os.getpid()

    def begin() -> None:
        # Between fork and exec: the kernel kills the command when this process dies, however that happens.
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    with command.output.open("xb") as output:
        return subprocess.Popen(  # noqa: S603 - the operator's own words, split and never given to a shell
            list(command.words),
            env={**os.environ, **command.additions},  # handed on as it is; nothing is read from it
            cwd=command.directory,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a group of its own, which is ended as one
            preexec_fn=begin,
        )


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the command's whole group: asked first, then killed. What it left running in the background goes too."""
    for sent in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, sent)
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_SECONDS)


_STEPS_BETWEEN_LOOKS = 100_000


_SHOWN_CHARACTERS = 200


def objection(path: Path, sql: str, *, limit_seconds: float, monotonic: Callable[[], float]) -> str:
    """Return what speaks against it, empty when the question is answered yes.

    Yes is no row at all (no counter-example), or one row of one expression that is 1. A row whose one column is a bare
    column of a table is a counter-example, also where it holds a 1: as in `SELECT id FROM orphans`.
    """
    deadline = monotonic() + limit_seconds
    try:
        with opened_unchanging(path) as connection:
            connection.limit(apsw.SQLITE_LIMIT_ATTACHED, 0)
            connection.set_progress_handler(lambda: monotonic() > deadline, _STEPS_BETWEEN_LOOKS)
            return _read(connection.execute(sql))
    except apsw.InterruptError:
        return f"no answer in {limit_seconds:g} s"
    except apsw.Error as err:
        return str(err)


def _read(cursor: apsw.Cursor) -> str:
    try:
        columns = cursor.description_full
    except apsw.ExecutionCompleteError:  # there is no first row
        return ""
    row, *more = (row for _, row in zip(range(2), cursor, strict=False))
    shown = repr(row)[:_SHOWN_CHARACTERS]
    if more:
        return f"answers with rows, the first {shown}"
    if len(row) != 1 or row[0] != 1:
        return f"answers {shown}"
    origin = columns[0][4]
    return f"answers with a row of a table, {shown}: write an expression such as `{origin} = 1`" if origin else ""
