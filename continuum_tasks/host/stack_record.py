"""Which `continuum up` runs on a state directory: the file `stack`, which it keeps locked for as long as it lives.

A lock ends with its process, however that ends, so the file never names one that is gone. Who asks takes a shared lock for an
instant; whether a second stack may start is decided by another lock, in `workers/broker.py`.
"""

from __future__ import annotations

import fcntl
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from continuum_tasks.errors import LockError
from continuum_tasks.process import holder_died, pid_of, seen_from_this_process, worker_id

RECORD = "stack"
_STARTING, _READY = "starting", "ready   "  # of one length: a change is one write
_POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningStack:
    """A stack that lives: its process by `worker_id`, and whether everything of it is ready."""

    worker: str
    ready: bool

    @property
    def pid(self) -> int:
        return pid_of(self.worker)


@contextmanager
def hold_stack_record(state_dir: Path, *, host: str) -> Iterator[int]:
    """Say that this process is the stack; yields the descriptor for `mark_ready`. The caller is the only stack there."""
    descriptor = os.open(state_dir / RECORD, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        text = f"{_STARTING} {worker_id(host)}".encode()
        os.pwrite(descriptor, text, 0)  # before the lock: whoever finds it locked reads this process
        os.ftruncate(descriptor, len(text))
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def mark_ready(descriptor: int) -> None:
    """Say that everything is ready."""
    os.pwrite(descriptor, _READY.encode(), 0)


def running_stack(state_dir: Path) -> RunningStack | None:
    """Return the stack that runs on a state directory, or None."""
    try:
        descriptor = os.open(state_dir / RECORD, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        state, _, worker = os.pread(descriptor, 1024, 0).decode(errors="replace").partition(" ")
        return RunningStack(worker=worker.strip(), ready=state == _READY.strip())
    finally:
        os.close(descriptor)
    return None


def stop_stack(stack: RunningStack, *, timeout_seconds: float) -> bool:
    """Ask a stack to end and wait for that; False when it still runs after `timeout_seconds`.

    Raises LockError where its process cannot be signalled from this one: another container, or another user.
    """
    if not seen_from_this_process(stack.worker):
        raise LockError(
            f"{stack.worker}: runs in another container or pid namespace", hint="stop it there, or stop its container"
        )
    try:
        process = os.pidfd_open(stack.pid)
    except ProcessLookupError:
        return True
    try:
        if holder_died(stack.worker):
            return True  # the number belongs to another process by now
        signal.pidfd_send_signal(process, signal.SIGTERM)
    except ProcessLookupError:
        return True
    except PermissionError as err:
        raise LockError(f"process {stack.pid}: belongs to another user", hint="stop it as that user, or as root") from err
    finally:
        os.close(process)
    deadline = time.monotonic() + timeout_seconds
    while not holder_died(stack.worker):
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True
