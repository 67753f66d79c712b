"""Tell the rest of the host that a pool serves its queue: one row in `metadata.db`, every 2 seconds.

The connection lives for one beat, in the thread that also forks, so no child process ever inherits it.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime

from continuum_tasks.config import Config
from continuum_tasks.errors import ContinuumError
from continuum_tasks.host.jobs import open_jobs
from continuum_tasks.host.metadata import METADATA

BEAT_SECONDS = 2.0
BEAT_POOL = "beat"

_log = logging.getLogger(__name__)


def report_pool(config: Config, pool: str, *, queue: str) -> None:
    """Write one beat. A beat that cannot be written is logged: four more follow before anyone counts the pool as gone."""
    try:
        jobs = open_jobs(config.state_dir / METADATA)
        try:
            jobs.beat(pool, queue, host=config.host, now=datetime.now(UTC))
        finally:
            jobs.close()
    except ContinuumError as err:
        _log.warning("pool %s: heartbeat not written: %s", pool, err.message)


def leave_pool(config: Config, pool: str) -> None:
    """Take the pool's row away; a row that stays shows as not alive."""
    try:
        jobs = open_jobs(config.state_dir / METADATA)
        try:
            jobs.leave(pool, host=config.host)
        finally:
            jobs.close()
    except ContinuumError as err:
        _log.warning("pool %s: last heartbeat not removed: %s", pool, err.message)
