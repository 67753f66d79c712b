"""Which queue and priority each task has. Pure: names only."""

from __future__ import annotations

from dataclasses import dataclass

# Redis has four buckets and serves the lowest number first; a message without a priority counts as 0, the highest.
RESTORE_PRIORITY = 0
BACKUP_PRIORITY = 3
VERIFY_PRIORITY = 6
LOW_PRIORITY = 9
PRIORITY_STEPS = (RESTORE_PRIORITY, BACKUP_PRIORITY, VERIFY_PRIORITY, LOW_PRIORITY)

CREATE_BACKUP = "continuum.create_backup"
RESTORE_BACKUP = "continuum.restore_backup"
VERIFY_BACKUP = "continuum.verify_backup"
SEAL_CHUNK = "continuum.seal_chunk"
FETCH_CHUNK = "continuum.fetch_chunk"
RECONCILE = "continuum.reconcile"
SCHEDULE_DUE = "continuum.schedule_due"
HEALTH_CHECK = "continuum.health_check"
RUN_DRILL = "continuum.run_drill"
TEST_RESTORE = "continuum.test_restore"
RPO_WATCHDOG = "continuum.rpo_watchdog"
APPLY_RETENTION = "continuum.apply_retention"
RETENTION_DUE = "continuum.retention_due"
COMPACT_SEGMENTS = "continuum.compact_segments"
WRITE_REPORT = "continuum.write_report"
MEASURE_STORAGES = "continuum.measure_storages"

# Work that needs no row: the storage holds all it needs and gets the verdict. Its message carries the arguments too, so a
# machine that is told to serve this host's queue can do it.
ANYWHERE = frozenset({VERIFY_BACKUP})


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Where a task goes when its job row names no priority of its own."""

    task: str
    queue: str
    priority: int


def agent_queue(host: str) -> str:
    """Return the queue of the one pool that may touch the databases of `host`."""
    return f"agent.{host}"


def transfer_queue(host: str) -> str:
    """Return the queue of the pool that moves chunks beside that agent."""
    return f"transfer.{host}"


def verify_queue(host: str) -> str:
    """Return the queue of verifications that `host` asks for: of storages as its own configuration names them."""
    return f"verify.{host}"


def control_queue(host: str) -> str:
    """Return the queue of the pool that keeps the rows of `host`: timetable, reconciliation, health."""
    return f"control.{host}"


def route(task: str, *, host: str) -> Route:
    """Return where a task of that name goes for a database of `host`. An unknown name is a RuntimeError."""
    routes = {
        CREATE_BACKUP: (agent_queue(host), BACKUP_PRIORITY),
        RESTORE_BACKUP: (agent_queue(host), RESTORE_PRIORITY),
        VERIFY_BACKUP: (verify_queue(host), VERIFY_PRIORITY),
        SEAL_CHUNK: (transfer_queue(host), BACKUP_PRIORITY),
        FETCH_CHUNK: (transfer_queue(host), RESTORE_PRIORITY),
        RECONCILE: (control_queue(host), RESTORE_PRIORITY),
        SCHEDULE_DUE: (control_queue(host), BACKUP_PRIORITY),
        HEALTH_CHECK: (control_queue(host), LOW_PRIORITY),
        RUN_DRILL: (verify_queue(host), VERIFY_PRIORITY),
        TEST_RESTORE: (verify_queue(host), VERIFY_PRIORITY),
        RPO_WATCHDOG: (control_queue(host), BACKUP_PRIORITY),
        APPLY_RETENTION: (control_queue(host), LOW_PRIORITY),
        RETENTION_DUE: (control_queue(host), LOW_PRIORITY),
        COMPACT_SEGMENTS: (control_queue(host), LOW_PRIORITY),
        WRITE_REPORT: (control_queue(host), LOW_PRIORITY),
        MEASURE_STORAGES: (control_queue(host), LOW_PRIORITY),
    }
    if task not in routes:
        raise RuntimeError(f"no route for task {task!r}")
    queue, priority = routes[task]
    return Route(task=task, queue=queue, priority=priority)
