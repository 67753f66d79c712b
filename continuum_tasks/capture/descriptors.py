"""How many databases the limit of open files carries.

SQLite keeps a closed descriptor of a database open for as long as its process has a lock there, and uses it again. So the
process that holds pins has for each database two of a pin and the next one, two of the connections that copy frames back, its
`-wal` and its `-shm`. The process that reads has no more for one: the pipes of the process that copies its first state.
"""

from __future__ import annotations

import resource
from dataclasses import dataclass
from pathlib import Path

EACH = 6
SPARE = 64  # the storage, logs, what a process begins with; and the second `-wal` of each connection that comes and goes
_MOST = Path("/proc/sys/fs/nr_open")


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """A limit of open files, and how many databases one process can capture under it, at least one."""

    n_files: int

    @property
    def n_databases(self) -> int:
        return max(1, (self.n_files - SPARE) // EACH)


def raise_limit() -> Capacity:
    """Let this process, and those it starts, open as many files as the system allows it; returns what that carries."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    soft = int(_MOST.read_text(encoding="ascii")) if hard == resource.RLIM_INFINITY else hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return Capacity(n_files=soft)
