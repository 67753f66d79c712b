"""sqlite/holders.py: which processes have a file open, as far as /proc shows them to this user."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    pid: int
    command: str

    def __str__(self) -> str:
        return f"pid {self.pid} ({self.command})" if self.command else f"pid {self.pid}"


def holders(status: os.stat_result) -> tuple[Holder, ...]:
    """Return every process with a descriptor on that inode, this one included, by pid.

    An idle rollback-journal connection holds no lock, so this is the only trace of it. Processes of other users show
    only to root, those of other pid namespaces never; without /proc the answer is empty.
    """
    if not _PROC.is_dir():
        return ()
    pids = sorted(int(entry.name) for entry in _PROC.iterdir() if entry.name.isdigit())
    return tuple(Holder(pid=pid, command=_command(pid)) for pid in pids if _holds(pid, status))


def holders_of_deleted(path: Path) -> tuple[Holder, ...]:
    """Return every process that has a file open which was deleted at this (resolved) path, as far as `holders` sees them."""
    if not _PROC.is_dir():
        return ()
    pids = sorted(int(entry.name) for entry in _PROC.iterdir() if entry.name.isdigit())
    return tuple(Holder(pid=pid, command=_command(pid)) for pid in pids if f"{path} (deleted)" in _links(pid))


def others(found: Iterable[Holder]) -> tuple[Holder, ...]:
    """Leave this process out."""
    return tuple(holder for holder in found if holder.pid != os.getpid())


def describe(found: Iterable[Holder]) -> str:
    """Return `pid 12 (python3), pid 14 (continuum)`, or words for nobody seen."""
    return ", ".join(map(str, found)) or "a process that /proc does not show to this user"


def _holds(pid: int, status: os.stat_result) -> bool:
    return any((seen.st_dev, seen.st_ino) == (status.st_dev, status.st_ino) for seen in _descriptors(pid))


def _descriptors(pid: int) -> Iterator[os.stat_result]:
    folder = f"/proc/{pid}/fd"
    try:
        names = os.listdir(folder)  # noqa: PTH208 a Path per descriptor doubles the time on hosts with many
    except OSError:  # gone meanwhile, or another user's
        return
    for name in names:
        try:
            # A stat of a magic link opens nothing, so it drops no lock; links without "/" are sockets and pipes.
            if os.readlink(f"{folder}/{name}").startswith("/"):  # noqa: PTH115 as above
                yield os.stat(f"{folder}/{name}")  # noqa: PTH116 as above
        except OSError:
            continue


def _links(pid: int) -> Iterator[str]:
    folder = f"/proc/{pid}/fd"
    try:
        names = os.listdir(folder)  # noqa: PTH208 as above
    except OSError:
        return
    for name in names:
        with suppress(OSError):
            yield os.readlink(f"{folder}/{name}")  # noqa: PTH115 as above


def _command(pid: int) -> str:
    try:
        return (_PROC / str(pid) / "comm").read_text(errors="replace").strip()
    except OSError:
        return ""
