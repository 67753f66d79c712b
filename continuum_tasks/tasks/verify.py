"""The task that verifies one backup from its storage, on the verify pool."""

from __future__ import annotations

import logging
import re
from collections.abc import Generator
from typing import Any

from celery import Task, shared_task

from continuum_tasks.host.audit_trail import ASKED_BY
from continuum_tasks.host.jobs import JsonValue
from continuum_tasks.host.routing import VERIFY_BACKUP, VERIFY_PRIORITY
from continuum_tasks.model import BackupId, Level, Progress
from continuum_tasks.runtime import Runtime
from continuum_tasks.tasks.shell import JobContext, perform, runtime_of
from continuum_tasks.verify import verify

KIND = "verify_backup"
_JOB_ID = re.compile(
    r"job-[0-9a-f]{16}|due-verify-[a-z0-9_-]{1,64}-\d{12}", re.ASCII
)  # what makes rows of this kind gives these

_log = logging.getLogger(__name__)


@shared_task(name=VERIFY_BACKUP, bind=True)
def verify_backup(  # noqa: PLR0913 - the words of the message
    self: Task[Any, Any], job_id: str, backup_id: str, level: str, storage: str, *, each_link: bool = False
) -> Any:
    """Verify in threads of its own: the transfer pool is left to backups and restores.

    A machine that helps need not know the row: the message's own words make one, once they are what they should be. Ids
    of other kinds of work are refused, so the worst a forged message can ask for is a verification.
    """
    if not _JOB_ID.fullmatch(str(job_id)):
        _log.warning("job %.80r: not the id of a verification", job_id)
        return None
    args: dict[str, JsonValue] = {
        "backup_id": BackupId(backup_id),
        "level": Level(level).value,
        "storage": storage,
        "each_link": bool(each_link),
        ASKED_BY: "another host",  # where the row is known it says who
    }
    runtime = runtime_of(self)
    runtime.jobs.add(KIND, args, id=job_id, priority=VERIFY_PRIORITY, now=runtime.site.clock.now())
    return perform(self, job_id, kind=KIND, act=_act)


def _act(runtime: Runtime, bench: JobContext) -> Generator[Progress, None, verify.Verified]:
    args = bench.job.args
    request = verify.VerifyRequest(
        backup_id=BackupId(str(args["backup_id"])), level=Level(str(args["level"])), each_link=bool(args.get("each_link"))
    )
    return verify.verify_backup_chain(
        request, repository=runtime.repository(str(args["storage"])), site=runtime.site, fan=runtime.fan()
    )
