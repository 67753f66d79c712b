"""Put into the audit log who did what, and how it ended: the one way there, for every action and command."""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from continuum_tasks.host import audit
from continuum_tasks.host.site import HostContext

TIMETABLE = "timetable"  # who asks when no person does
BEGUN, DONE, STOPPED = "begun", "done", "stopped"
MAX_DETAIL = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """Something done: `action` a verb of the product, `subject` what it is done to, `by` a user or the timetable.

    `only_failures`: the action notes by itself what it did, so only that it could not is noted.
    """

    action: str
    subject: str
    by: str
    detail: str = ""
    only_failures: bool = False


def note_entry(deed: AuditEntry, *, site: HostContext, outcome: str = DONE) -> None:
    """Append a deed to the audit log of this host, durable on return. Raises OSError naming the file."""
    record_entry(deed, state_dir=site.state_dir, host=site.host, at=site.clock.now(), outcome=outcome)


def record_entry(deed: AuditEntry, *, state_dir: Path, host: str, at: datetime, outcome: str = DONE) -> None:
    """As `note_entry`, for those who act without a site."""
    event = audit.Event(
        at=at,
        user=deed.by,
        host=host,
        action=deed.action,
        subject=_short(deed.subject),
        outcome=outcome,
        detail=_short(deed.detail),
    )
    audit.append_event(state_dir / audit.FILE, event)


def user() -> str:
    """Return the name of the user this process runs as, as the system knows it; the number where it has no name."""
    uid = os.getuid()
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _short(text: str) -> str:
    return text if len(text) <= MAX_DETAIL else f"{text[: MAX_DETAIL - 3]}..."
