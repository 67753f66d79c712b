"""The tasks that do a job row, one for each kind of work."""

from __future__ import annotations

import logging
import re
from typing import Any

from celery import Task, shared_task

from continuum_tasks.host import job_kinds as kinds
from continuum_tasks.host.job_kinds import VerifyBackup, encode_arguments
from continuum_tasks.model import BackupId, Level
from continuum_tasks.tasks.shell import perform, runtime_of

# What makes rows of verifications gives these ids.
_VERIFY_ID = re.compile(r"job-[0-9a-f]{16}|due-verify-[a-z0-9_-]{1,64}-\d{12}", re.ASCII)

_log = logging.getLogger(__name__)


@shared_task(name=kinds.CREATE_BACKUP.task, bind=True)
def create_backup_task(self: Task[Any, Any], job_id: str) -> Any:
    """Back up, on the agent pool of the host that has the database."""
    return perform(self, job_id, kind=kinds.CREATE_BACKUP)


@shared_task(name=kinds.RESTORE_BACKUP.task, bind=True)
def restore_backup_task(self: Task[Any, Any], job_id: str) -> Any:
    """Restore, on the agent pool of the host that gets the file."""
    return perform(self, job_id, kind=kinds.RESTORE_BACKUP)


@shared_task(name=kinds.VERIFY_BACKUP.task, bind=True)
def verify_backup(  # noqa: PLR0913 - the words of the message
    self: Task[Any, Any], job_id: str, backup_id: str, level: str, storage: str, *, each_link: bool = False
) -> Any:
    """Verify, on the verify pool of any machine that was told to help.

    It need not know the row: the message's own words make one, once they are what they should be. Ids of other kinds of work
    are refused, so the worst a forged message can ask for is a verification.
    """
    if not _VERIFY_ID.fullmatch(str(job_id)):
        _log.warning("job %.80r: not the id of a verification", job_id)
        return None
    work = VerifyBackup(
        backup_id=BackupId(backup_id),
        level=Level(level),
        storage=storage,
        each_link=bool(each_link),
        asked_by="another host",  # where the row is known it says who
    )
    runtime, kind = runtime_of(self), kinds.VERIFY_BACKUP
    runtime.jobs.add(kind.word, encode_arguments(work), id=job_id, priority=kind.priority, now=runtime.site.clock.now())
    return perform(self, job_id, kind=kind)


@shared_task(name=kinds.TEST_RESTORE.task, bind=True)
def run_test_restore(self: Task[Any, Any], job_id: str) -> Any:
    """Restore to scratch, prove and measure, on the verify pool."""
    return perform(self, job_id, kind=kinds.TEST_RESTORE)


@shared_task(name=kinds.RUN_DRILL.task, bind=True)
def run_drill(self: Task[Any, Any], job_id: str) -> Any:
    """As a test restore, with the checks of [drill] and a line in the drill log."""
    return perform(self, job_id, kind=kinds.RUN_DRILL)


@shared_task(name=kinds.APPLY_RETENTION.task, bind=True)
def run_retention(self: Task[Any, Any], job_id: str) -> Any:
    """Expire backups, on the control pool."""
    return perform(self, job_id, kind=kinds.APPLY_RETENTION)


@shared_task(name=kinds.COMPACT_SEGMENTS.task, bind=True)
def compact_segments_task(self: Task[Any, Any], job_id: str) -> Any:
    """Merge captured segments, on the control pool."""
    return perform(self, job_id, kind=kinds.COMPACT_SEGMENTS)


@shared_task(name=kinds.PROVE_CAPTURE.task, bind=True)
def prove_capture_task(self: Task[Any, Any], job_id: str) -> Any:
    """Compare a live database with what was captured of it, on the verify pool of its host.

    The message says only which row: a machine that helps to verify does not have it, and leaves it alone. It is rung again.
    """
    return perform(self, job_id, kind=kinds.PROVE_CAPTURE)


@shared_task(name=kinds.SEAL_CHUNK.task, bind=True)
def seal_chunk_task(self: Task[Any, Any], job_id: str) -> Any:
    """Seal and store one chunk of a backup, on the transfer pool."""
    return perform(self, job_id, kind=kinds.SEAL_CHUNK)


@shared_task(name=kinds.FETCH_CHUNK.task, bind=True)
def fetch_chunk_task(self: Task[Any, Any], job_id: str) -> Any:
    """Fetch and write one chunk of a restore, on the transfer pool."""
    return perform(self, job_id, kind=kinds.FETCH_CHUNK)
