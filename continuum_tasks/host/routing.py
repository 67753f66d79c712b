"""Queues by host, priorities, and the tasks of the timetable. Pure: names only."""

from __future__ import annotations

# Redis has four buckets and serves the lowest number first; a message without a priority counts as 0, the highest.
RESTORE_PRIORITY = 0
BACKUP_PRIORITY = 3
VERIFY_PRIORITY = 6
LOW_PRIORITY = 9
PRIORITY_STEPS = (RESTORE_PRIORITY, BACKUP_PRIORITY, VERIFY_PRIORITY, LOW_PRIORITY)

# The tasks of the timetable, all on the control queue; those that do a job row are named by its kind (`job_kinds`).
RECONCILE = "continuum.reconcile"
SCHEDULE_DUE = "continuum.schedule_due"
HEALTH_CHECK = "continuum.health_check"
RPO_WATCHDOG = "continuum.rpo_watchdog"
RETENTION_DUE = "continuum.retention_due"
WRITE_REPORT = "continuum.write_report"
MEASURE_STORAGES = "continuum.measure_storages"
PERIODIC = (RECONCILE, SCHEDULE_DUE, HEALTH_CHECK, RPO_WATCHDOG, RETENTION_DUE, WRITE_REPORT, MEASURE_STORAGES)


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
