"""Run child processes: started alike, restarted with growing pauses, and never outliving this process."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_PR_SET_PDEATHSIG = 1
_FIRST_PAUSE_SECONDS = 0.2
_LONGEST_PAUSE_SECONDS = 30.0
_STEADY_SECONDS = 60.0  # having lived that long, a child starts its next life without the pauses of the earlier ones


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What to run: its output goes to `log` (0600), it starts in `directory`, and it keeps the descriptors of `kept`."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    directory: Path
    log: Path
    kept: tuple[int, ...] = ()


@dataclass(slots=True, kw_only=True)
class Child:
    """One program and its present process."""

    program: Program
    process: subprocess.Popen[bytes]
    started: float
    n_deaths: int = 0
    restart_at: float | None = None

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    @property
    def end(self) -> str:
        """Say how the process ended."""
        code = self.process.poll()
        if code is None:
            return "running"
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"


@dataclass(slots=True, kw_only=True)
class Supervisor:
    """The children of this process, in the order they were started. Use it from the main thread alone."""

    say: Callable[[str], None]
    children: list[Child] = field(default_factory=list)

    def start(self, program: Program) -> Child:
        """Start a program and look after it from now on."""
        child = Child(program=program, process=_spawn(program), started=time.monotonic())
        self.children.append(child)
        return child

    def tend(self) -> None:
        """Restart the children that died and whose pause is over."""
        for child in self.children:
            if child.alive:
                continue
            now = time.monotonic()
            if child.restart_at is None:
                child.n_deaths = 1 if now - child.started > _STEADY_SECONDS else child.n_deaths + 1
                pause = min(_FIRST_PAUSE_SECONDS * 2 ** (child.n_deaths - 1), _LONGEST_PAUSE_SECONDS)
                child.restart_at = now + pause
                self.say(f"{child.program.name}: {child.end}, restarting in {pause:g} s (see {child.program.log})")
            if now >= child.restart_at:
                child.process, child.started, child.restart_at = _spawn(child.program), now, None

    def stop(self, children: Iterable[Child], *, limit_seconds: float) -> None:
        """Ask these children to end; kill those that have not when the limit is over or a stop signal comes again."""
        stopping = [child for child in children if child.alive]
        for child in stopping:
            child.process.terminate()
        deadline = time.monotonic() + limit_seconds
        while any(child.alive for child in stopping) and time.monotonic() < deadline:
            if wait_for_signal(0.05):
                break
        for child in stopping:
            if child.alive:
                self.say(f"{child.program.name}: killed")
                child.process.kill()
            child.process.wait()


def block_signals() -> None:
    """Hold stop signals back from now on; `wait_for_signal` takes them. No handler runs between two statements of ours."""
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)


def wait_for_signal(seconds: float) -> bool:
    """Wait so long; True as soon as a stop signal has come."""
    return signal.sigtimedwait(STOP_SIGNALS, seconds) is not None


def _spawn(program: Program) -> subprocess.Popen[bytes]:
    prctl = ctypes.CDLL(None).prctl
    parent = os.getpid()

    def begin() -> None:
        # Between fork and exec: the kernel kills this child when its parent dies, however that happens.
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)

    log = os.open(program.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        return subprocess.Popen(  # noqa: S603 (our own command lines)
            program.command,
            env=dict(program.environment),
            cwd=program.directory,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=program.kept,
            start_new_session=True,  # Ctrl-C in a terminal reaches the stack alone, which stops the rest in order
            preexec_fn=begin,
        )
    finally:
        os.close(log)
