"""The timetable as data: which task runs when, on which queue, when a late message is worthless, and why.

Each host runs its own beat. Two of them change nothing: a task looks at rows and finds nothing left to do.
`{host}` in a queue is the name of the host that runs beat.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from celery.schedules import crontab


@dataclass(frozen=True, slots=True, kw_only=True)
class TimetableEntry:
    """One line of the timetable. `every`: seconds, or a crontab. A message not started `expires_seconds` later is dropped."""

    name: str
    task: str
    every: float | crontab
    queue: str
    expires_seconds: float
    why: str


TIMETABLE = (
    TimetableEntry(
        name="reconcile",
        task="continuum.reconcile",
        every=15.0,
        queue="control.{host}",
        expires_seconds=14.0,
        why="the broker may lose or repeat anything; rows that are due or whose worker died are rung again",
    ),
    TimetableEntry(
        name="schedule-due",
        task="continuum.schedule_due",
        every=60.0,
        queue="control.{host}",
        expires_seconds=55.0,
        why="backups, verifications, test restores and drills are due by what was done, so a minute is the most that one"
        " starts late; Sunday's window (01:00 to 03:00 UTC) is known to plan/schedule.py",
    ),
    TimetableEntry(
        name="rpo-watchdog",
        task="continuum.rpo_watchdog",
        every=60.0,
        queue="control.{host}",
        expires_seconds=55.0,
        why="a target of minutes is missed by minutes; the catalog alone is asked, so it costs next to nothing",
    ),
    TimetableEntry(
        name="health-check",
        task="continuum.health_check",
        every=crontab(minute="*/5"),
        queue="control.{host}",
        expires_seconds=290.0,
        why="the alert on the age of the last backup is 5 minutes; a finding is never older than that",
    ),
    TimetableEntry(
        name="measure-storages",
        task="continuum.measure_storages",
        every=3600.0,
        queue="control.{host}",
        expires_seconds=3500.0,
        why="when a storage fills is told from how it grew; what expires leaves the catalog, so it is measured as it goes",
    ),
    TimetableEntry(
        name="write-report",
        task="continuum.write_report",
        every=crontab(minute="30", hour="3", day_of_week="sun"),
        queue="control.{host}",
        expires_seconds=7 * 86_400.0 - 3600.0,
        why="half an hour after Sunday's window: the week with its full backup, verification and test restore",
    ),
    TimetableEntry(
        name="retention-due",
        task="continuum.retention_due",
        every=900.0,
        queue="control.{host}",
        expires_seconds=870.0,
        why="once a day after 01:00 UTC, in the runbook's window on Sundays; looking often makes up for a host that was off",
    ),
)


def beat_schedule(host: str) -> dict[str, dict[str, Any]]:
    """Return the timetable as Celery's `beat_schedule` for the beat of `host`."""
    return {
        entry.name: {
            "task": entry.task,
            "schedule": entry.every,
            "options": {"queue": entry.queue.format(host=host), "expires": entry.expires_seconds},
        }
        for entry in TIMETABLE
    }
