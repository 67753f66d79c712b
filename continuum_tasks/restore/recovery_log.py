"""What was brought back on this host, by restore, undo or extract: one JSON line each in `state_dir/recoveries.jsonl`.

`verify-recovery` proves the newest line. Losing the file loses that proof and nothing else.
"""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from continuum_tasks.host.site import HostContext
from continuum_tasks.model import BackupId, CommitRef, TimelineId
from continuum_tasks.repository.documents import from_json, to_json

FILE = "recoveries.jsonl"


class RecoveryKind(StrEnum):
    RESTORE = "restore"
    UNDO = "undo"
    EXTRACT = "extract"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """One thing brought back. `root` is the digest over all pages that was proven before the install.

    `change_counter` and `modified_ns` are the installed file's own; they tell whether it was written since.
    `commit` on `timeline` is the one after which the state was, 0 = the backup's own state.
    `table`, `where` and `n_rows` are an extract's: what was asked for and how many rows came back.
    """

    kind: RecoveryKind
    at: datetime
    target: str
    backup_id: BackupId | None
    database: str
    storage: str
    region: str = ""
    root: str = ""
    page_size: int = 0
    n_pages: int = 0
    wal: bool = False
    change_counter: int = 0
    modified_ns: int = 0
    quarantine: str = ""
    table: str = ""
    where: str = ""
    n_rows: int = 0
    timeline: str = ""
    commit: int = 0

    @property
    def commit_ref(self) -> CommitRef | None:
        return CommitRef(timeline=TimelineId(self.timeline), number=self.commit) if self.commit else None


def note_recovery(recovery: Recovery, *, site: HostContext) -> tuple[str, ...]:
    """Append one recovery, durably; what cannot be written comes back as a warning.

    The recovery itself is done by now: reporting it as failed would be wrong.
    """
    try:
        _append(site.state_dir / FILE, json.dumps(to_json(recovery), sort_keys=True))
    except OSError as err:
        return (f"{site.state_dir / FILE}: not written ({err.strerror}), so verify-recovery will not know of this",)
    return ()


def read_recoveries(site: HostContext) -> list[Recovery]:
    """Return what was noted, oldest first; a line that cannot be read, as after a power cut, is left out."""
    path = site.state_dir / FILE
    if not path.exists():
        return []
    found = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            found.append(from_json(Recovery, json.loads(line)))
        except (ValueError, TypeError, KeyError):
            continue
    return found


def _append(path: Path, line: str) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        os.write(descriptor, b"\n" + line.encode() + b"\n")  # never behind a line that a power cut left torn
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
