"""Name a process so that another one can tell whether it still lives."""

from __future__ import annotations

import os
from pathlib import Path


def worker_id(host: str) -> str:
    """Name this process so that another can tell whether it still lives: host, boot, pid namespace, pid, start time."""
    return f"{host}/{_boot_id()}/{_pid_namespace()}/{os.getpid()}/{_started(os.getpid())}"


def pid_of(worker: str) -> int:
    """Return the process number in a `worker_id`, 0 when it is none."""
    parts = worker.rsplit("/", 4)
    return int(parts[3]) if len(parts) == 5 and parts[3].isdecimal() else 0


def parent_of(pid: int) -> int:
    """Return the number of the process that a process of this namespace was started by, 0 when it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(stat.rpartition(")")[2].split()[1])


def holder_died(worker: str) -> bool:
    """Tell whether the process a `worker_id` names is known to be gone; False when it cannot be known from here."""
    parts = worker.rsplit("/", 4)
    if len(parts) != 5:
        return False
    _, boot, namespace, pid, started = parts
    if boot != _boot_id():
        return True  # this file never leaves its machine, so another boot id means that the machine restarted
    return namespace == _pid_namespace() and _started(int(pid)) != started


def seen_from_this_process(worker: str) -> bool:
    """Tell whether a `worker_id` names a process by a number that means the same here: this boot, this pid namespace."""
    parts = worker.rsplit("/", 4)
    return len(parts) == 5 and parts[1:3] == [_boot_id(), _pid_namespace()]


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")[:8]


def _pid_namespace() -> str:
    # Containers of one machine share its boot id but not its pids: there a lease ends by its time alone.
    return str(Path("/proc/self/ns/pid").stat().st_ino)


def _started(pid: int) -> str:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""
    fields = stat.rpartition(")")[2].split()
    return "" if fields[0] in "ZX" else fields[19]
