"""Which rows somebody must be told of again, and which were settled elsewhere."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import datetime, timedelta

from continuum_tasks.errors import ContinuumError, ProofFailed
from continuum_tasks.host.job_kinds import VERIFY_BACKUP
from continuum_tasks.host.jobs import Job
from continuum_tasks.model import Attestation
from continuum_tasks.process import worker_id
from continuum_tasks.repository.documents import to_json
from continuum_tasks.runtime import Runtime
from continuum_tasks.verify import verify

RING_AGAIN_AFTER = timedelta(seconds=30)
RING_ANYWHERE_AGAIN_AFTER = timedelta(minutes=15)
KEEP_ENDED_FOR = timedelta(days=30)

_log = logging.getLogger(__name__)


def rows_to_ring(runtime: Runtime, *, now: datetime) -> Iterator[Job]:
    """Fail rows that are out of attempts, forget old ones, and yield those the broker forgot or whose worker died."""
    runtime.jobs.abandon(now)
    runtime.jobs.forget(now - KEEP_ENDED_FOR)
    for job in runtime.jobs.due(now, not_rung_since=now - RING_AGAIN_AFTER):
        if job.kind != VERIFY_BACKUP.word or (not _is_settled(runtime, job, now) and _is_forgotten(job, now)):
            yield job


def _is_forgotten(job: Job, now: datetime) -> bool:
    """Tell whether nobody can still be at it: a helping machine's worker leaves no trace here but its verdict."""
    return job.rung_at is None or now - job.rung_at > RING_ANYWHERE_AGAIN_AFTER


def _is_settled(runtime: Runtime, job: Job, now: datetime) -> bool:
    """As `_settled_elsewhere`; a storage that cannot be asked answers no, and the rows behind this one have their turn."""
    try:
        return _settled_elsewhere(runtime, job, now)
    except ContinuumError as err:
        _log.warning("job %s: cannot look for a verdict: %s", job.id, err.message)
        return False


def _settled_elsewhere(runtime: Runtime, job: Job, now: datetime) -> bool:
    """End the row of a verification whose verdict another machine has stored beside the backup since."""
    if job.rung_at is None:
        return False
    backup_id, repository = str(job.args["backup_id"]), runtime.repository(str(job.args["storage"]))
    # A row that a message made names no database.
    database = job.database or runtime.catalog.find(backup_id, storage=repository.name).database
    for _, verdict in repository.attestations(database, backup_id):
        if isinstance(verdict, Attestation) and verdict.level == job.args["level"] and verdict.at >= job.created_at:
            backup = runtime.catalog.find(backup_id, storage=repository.name)
            return _settle(runtime, job, verify.Verified(backup=backup, attestation=verdict), now)
    return False


def _settle(runtime: Runtime, job: Job, verified: verify.Verified, now: datetime) -> bool:
    claimed = runtime.jobs.claim(job.id, worker_id(runtime.config.host), lease_seconds=RING_AGAIN_AFTER.seconds, now=now)
    if claimed is None:
        return False
    runtime.catalog.attest(verified.backup.storage, verified.attestation)
    if verified.attestation.passed:
        runtime.jobs.finish(job.id, claimed.token, to_json(verified), now=now)
    else:
        error = ProofFailed(f"backup {verified.backup.id}: {'; '.join(verified.attestation.findings)}")
        runtime.jobs.fail(job.id, claimed.token, error, retry=False, now=now)
    return True
