"""Work as the audit log names it: the entry of a job's arguments, and an action that is noted as it runs."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import replace
from typing import TypeVar

from continuum_tasks.backup import create
from continuum_tasks.capture import compact
from continuum_tasks.errors import ContinuumError
from continuum_tasks.host import audit
from continuum_tasks.host.audit_trail import BEGUN, DONE, STOPPED, TIMETABLE, AuditEntry, note_entry
from continuum_tasks.host.job_kinds import JobArguments, kind_of
from continuum_tasks.host.site import HostContext
from continuum_tasks.model import Progress
from continuum_tasks.restore import extract, restore, undo
from continuum_tasks.verify import drill, verify

T = TypeVar("T")


def entry_of(work: JobArguments, *, by: str = "") -> AuditEntry | None:
    """Return what this work is in the audit log; None for what is noted as part of something else.

    Without `by` the arguments say who asked, and when they do not say it was the timetable.
    """
    words = kind_of(work).audit
    if words is None:
        return None
    asked_by = by or work.asked_by or getattr(work, "by", "") or TIMETABLE
    subject = "@".join(str(getattr(work, name)) for name in words.subject)
    detail = ", ".join(str(getattr(work, name)) for name in words.details if getattr(work, name))
    return AuditEntry(action=words.action, subject=subject, by=asked_by, detail=detail, only_failures=words.only_failures)


def with_audit(
    action: Generator[Progress, None, T], entry: AuditEntry | None, *, site: HostContext, tell: Callable[[str], None]
) -> Generator[Progress, None, T]:
    """Run an action with a line in the audit log when it begins and one when it ends, however it ends.

    A log that cannot be written is told and stops nothing: a restore is worth more than its line.
    """
    if entry is None:
        return (yield from action)

    def write(outcome: str, detail: str) -> None:
        try:
            note_entry(replace(entry, detail=detail), site=site, outcome=outcome)
        except OSError as err:
            tell(f"{site.state_dir / audit.FILE}: not written ({err.strerror})")

    if not entry.only_failures:
        write(BEGUN, entry.detail)
    try:
        result = yield from action
    except Exception as err:
        write(type(err).__name__, err.message if isinstance(err, ContinuumError) else str(err))
        raise
    except BaseException:  # Ctrl-C, SIGTERM, or nobody follows any more
        write(STOPPED, entry.detail)
        raise
    if not entry.only_failures:
        write(DONE, _ending(result) or entry.detail)
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
