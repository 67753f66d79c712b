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

from continuum_tasks.model import Progress

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
