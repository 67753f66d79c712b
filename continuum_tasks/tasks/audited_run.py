"""Work as the audit log names it: from a job row's kind and arguments to a deed, and an action that is noted as it runs."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from continuum_tasks.backup import create
from continuum_tasks.capture import compact
from continuum_tasks.errors import ContinuumError
from continuum_tasks.host import audit
from continuum_tasks.host.audit_trail import ASKED_BY, BEGUN, DONE, STOPPED, TIMETABLE, AuditEntry, note_entry
from continuum_tasks.host.site import HostContext
from continuum_tasks.model import Progress
from continuum_tasks.restore import extract, restore, undo
from continuum_tasks.verify import drill, verify

T = TypeVar("T")

RETENTION = "apply-retention"  # notes what it did itself, backup by backup; here only that it could not
_SUBJECTS: Mapping[str, tuple[str, str, tuple[str, ...]]] = {  # kind: action, the argument that is its subject, details
    "create_backup": ("create", "database", ("strategy", "storage")),
    "restore_backup": ("restore", "target", ("backup_id", "storage")),
    "verify_backup": ("verify", "backup_id", ("level", "storage")),
    "run_drill": ("drill", "backup_id", ("storage",)),
    "test_restore": ("test-restore", "backup_id", ("storage",)),
    "compact_segments": ("compact", "database", ("storage",)),
    "apply_retention": (RETENTION, "database", ("storage",)),
}


def of_row(kind: str, args: Mapping[str, Any], *, by: str = "") -> AuditEntry | None:
    """Return what a row of that kind and arguments does; None for the parts of a fan-out.

    Without `by` the row says who asked, and a row that does not say was queued by the timetable.
    """
    if kind not in _SUBJECTS:
        return None
    action, subject, details = _SUBJECTS[kind]
    asked_by = by or str(args.get(ASKED_BY) or args.get("by") or TIMETABLE)
    about = str(args[subject])
    if action == RETENTION:
        about = f"{about}@{args['storage']}"
    detail = ", ".join(str(args[name]) for name in details if args.get(name))
    return AuditEntry(action=action, subject=about, by=asked_by, detail=detail)


def with_audit(
    action: Generator[Progress, None, T], deed: AuditEntry | None, *, site: HostContext, tell: Callable[[str], None]
) -> Generator[Progress, None, T]:
    """Run an action with a line in the audit log when it begins and one when it ends, however it ends.

    A log that cannot be written is told and stops nothing: a restore is worth more than its line.
    """
    if deed is None:
        return (yield from action)

    def write(outcome: str, detail: str) -> None:
        try:
            note_entry(replace(deed, detail=detail), site=site, outcome=outcome)
        except OSError as err:
            tell(f"{site.state_dir / audit.FILE}: not written ({err.strerror})")

    if deed.action != RETENTION:
        write(BEGUN, deed.detail)
    try:
        result = yield from action
    except Exception as err:
        write(type(err).__name__, err.message if isinstance(err, ContinuumError) else str(err))
        raise
    except BaseException:  # Ctrl-C, SIGTERM, or nobody follows any more
        write(STOPPED, deed.detail)
        raise
    if deed.action != RETENTION:
        write(DONE, _ending(result) or deed.detail)
    return result


def _ending(result: object) -> str:
    """Say what came of it, in the words that the audit log keeps."""
    match result:
        case create.Finished():
            made = result.backup
            return f"{made.id}, {made.status}, {made.storage}: {result.reason}"
        case restore.Restored():
            kept = f", replaced file kept in {result.quarantine}" if result.quarantine else ""
            of = f", commit {result.commit.number} of {result.commit.timeline}" if result.commit else ""
            return f"{result.backup.id}, {result.backup.storage}{of}{kept}"
        case undo.Undone():
            return f"{result.put_back}{f', replaced file kept in {result.quarantine}' if result.quarantine else ''}"
        case extract.Extracted():
            return f"{result.backup.id}, {_rows(result)}"
        case verify.Verified():
            return f"{result.attestation.level}, passed"
        case compact.Compacted():
            n_parts = sum(merged.n_segments for merged in result.merges)
            return f"{n_parts} segments into {len(result.merges)}, {result.freed_bytes} bytes freed"
        case drill.Drilled():
            return f"ready after {result.record.rto_seconds:.2f} s"
        case _:
            return ""


def _rows(done: extract.Extracted) -> str:
    if done.brought is not None:
        return f"{done.brought.n_inserted} rows of {done.table} inserted, {done.brought.n_replaced} replaced"
    return f"{done.n_rows} rows of {done.table} read"
