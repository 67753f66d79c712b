"""Run one program to its end and measure it whole: seconds until its files are durable, and its peak memory."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

KIB = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A program with its words, and what of the environment is its own. `log` gets whatever it says."""

    words: tuple[str | Path, ...]
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    directory: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What one step of one tool took. `seconds` holds `staging_seconds`; `detail` says more, by name and in seconds."""

    seconds: float
    peak_bytes: int
    staging_seconds: float = 0.0
    detail: Mapping[str, float] = field(default_factory=dict)


def run(command: Command, *, settle: Iterable[Path] = ()) -> Step:
    """Run a program, then fsync the files and directories it left in `settle`: no tool is faster for not having done so.

    Raises RuntimeError with the end of its log when it fails.
    """
    began = time.monotonic()
    peak_bytes = _execute(command)
    for path in settle:
        sync(path)
    return Step(seconds=time.monotonic() - began, peak_bytes=peak_bytes)


def staged(staging: Step, work: Step) -> Step:
    """Return a staging copy and the work on it as one step."""
    return Step(
        seconds=staging.seconds + work.seconds,
        peak_bytes=max(staging.peak_bytes, work.peak_bytes),
        staging_seconds=staging.seconds,
        detail=work.detail,
    )


def sync(path: Path) -> None:
    """Fsync a file, or everything below a directory; what is durable already costs next to nothing."""
    for found in (path, *path.rglob("*")):
        if found.is_symlink() or not (found.is_file() or found.is_dir()):
            continue
        descriptor = os.open(found, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def stored_bytes(directory: Path) -> int:
    """Return the length of all files below a directory."""
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file() and not path.is_symlink())


def descendants(pid: int) -> list[int]:
    """Return the process and all its descendants."""
    children: dict[int, list[int]] = {}
    for child in _pids():
        with suppress(OSError):
            parent = int(Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(child)
    found = [pid]
    for one in found:
        found.extend(children.get(one, []))
    return found


def forget_peaks(pids: Sequence[int]) -> None:
    """Let VmHWM of processes begin anew at what they hold now."""
    for pid in pids:
        with suppress(OSError):
            Path(f"/proc/{pid}/clear_refs").write_text("5")


def peak_of(pids: Sequence[int]) -> int:
    """Return the largest VmHWM, in bytes, of processes that still run."""
    peaks = [0]
    for pid in pids:
        with suppress(OSError):
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    peaks.append(int(line.split()[1]) * KIB)
    return max(peaks)


def cpu_seconds(pids: Sequence[int]) -> float:
    """Return the processor time that running processes have taken."""
    ticks = 0
    for pid in pids:
        with suppress(OSError):
            ticks += sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]))
    return ticks / os.sysconf("SC_CLK_TCK")


def _execute(command: Command) -> int:
    words = [str(word) for word in command.words]
    with command.log.open("wb") as log:
        process = subprocess.Popen(
            words,
            env={**os.environ, **command.environment},
            cwd=command.directory,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        end = command.log.read_text(encoding="utf-8", errors="replace")[-2000:]
        raise RuntimeError(f"{' '.join(words)} ended with {process.returncode}:\n{end}")
    return usage.ru_maxrss * KIB  # of this process and of those it waited for, each alone


def _pids() -> Iterator[int]:
    yield from (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal())
