"""Who has a file open: by name as far as /proc shows, and whether anybody has as the kernel counts."""

from __future__ import annotations

import fcntl
import os
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_HIDDEN = "a process that /proc does not show to this user"
GUARD = "continuum-guard"  # what `guard` calls itself: 15 bytes are all there is room for
_F_SETSIG = 10  # Linux; the module has no name for it
_N_TRIES = 3  # old kernels count a mere look at the name as well


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """A process that has a file open. `pid` is 0 for one that the kernel counts and /proc does not show."""

    pid: int
    command: str

    def __str__(self) -> str:
        if not self.pid:
            return _HIDDEN
        return f"pid {self.pid} ({self.command})" if self.command else f"pid {self.pid}"


def holders(status: os.stat_result) -> tuple[Holder, ...]:
    """Return every process with a descriptor on that inode, this one included, by pid.

    An idle rollback-journal connection holds no lock, so this is the only trace of it. Processes of other users show
    only to root, those of other pid namespaces never; without /proc the answer is empty.
    """
    return tuple(dict.fromkeys(holder for holder, _ in each_holder(status)))


def each_holder(status: os.stat_result) -> Iterator[tuple[Holder, str]]:
    """Yield each of these processes with the name by which it opened the file, once per descriptor."""
    for pid in _pids():
        for _, link, seen in _descriptors(pid):
            if _same(seen, status):
                yield Holder(pid=pid, command=_command(pid)), link


def others(found: Iterable[Holder]) -> tuple[Holder, ...]:
    """Leave this process out."""
    return tuple(holder for holder in found if holder.pid != os.getpid())


def describe_holders(found: Iterable[Holder]) -> str:
    """Return `pid 12 (python3), pid 14 (continuum)`, or words for nobody seen."""
    return ", ".join(map(str, found)) or _HIDDEN


def holders_of_deleted(path: Path) -> tuple[Holder, ...]:
    """Return every process that has a file open which had this name and has none any more.

    It still opens `-journal` and the others by the name: those of whatever bears it then. A guard does not.
    """
    link = f"{path} (deleted)"
    pids = (pid for pid in _pids() if any(name == link and not seen.st_nlink for _, name, seen in _descriptors(pid)))
    found = (Holder(pid=pid, command=_command(pid)) for pid in pids)
    return tuple(holder for holder in found if holder.command != GUARD)


def unseen(status: os.stat_result) -> tuple[Holder, ...]:
    """Return who else has that inode open when a look into /proc has just shown nobody; this process has it open once.

    The kernel grants a write lease only on a file that nobody else has open, whichever namespace they are in. It is given
    back at once: a process that opens the file in between waits microseconds. Empty where that cannot be asked (another
    user's file, a file system without leases).
    """
    for _ in range(_N_TRIES):
        if not is_open_elsewhere(status):
            return ()
        found = others(holders(status))  # it may have come after the first look
        if found:
            return found
    return (Holder(pid=0, command=""),)


def is_open_elsewhere(status: os.stat_result) -> bool | None:
    """Tell whether anybody but this process, which has the inode open once, has it open; None: cannot be told."""
    own = [number for number, _, seen in _descriptors(os.getpid()) if _same(seen, status)]
    if len(own) != 1:
        return None
    for _ in range(_N_TRIES):
        answer = _refuses_lease(own[0])
        if not answer:
            return answer
        time.sleep(0.01)
    return True


def _refuses_lease(descriptor: int) -> bool | None:
    try:
        fcntl.fcntl(descriptor, _F_SETSIG, signal.SIGURG)  # the usual signal would end a process that does not expect it
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    except BlockingIOError:
        return True
    except OSError:
        return None
    fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False


def _pids() -> list[int]:
    if not _PROC.is_dir():
        return []
    return sorted(int(entry.name) for entry in _PROC.iterdir() if entry.name.isdigit())


def _same(seen: os.stat_result, status: os.stat_result) -> bool:
    return (seen.st_dev, seen.st_ino) == (status.st_dev, status.st_ino)


def _descriptors(pid: int) -> Iterator[tuple[int, str, os.stat_result]]:
    """Yield number, name and status of the files a process has open."""
    folder = f"/proc/{pid}/fd"
    try:
        names = os.listdir(folder)  # noqa: PTH208 a Path per descriptor doubles the time on hosts with many
    except OSError:  # gone meanwhile, or another user's
        return
    for name in names:
        try:
            # A stat of a magic link opens nothing, so it drops no lock; links without "/" are sockets and pipes.
            link = os.readlink(f"{folder}/{name}")  # noqa: PTH115 as above
            if link.startswith("/"):
                yield int(name), link, os.stat(f"{folder}/{name}")  # noqa: PTH116 as above
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
