"""What the timetable queues from the catalog, and what the watchdog measures and says."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from continuum_tasks.config import DatabaseConfig, load_config
from continuum_tasks.errors import KeyMissing, SourceMissing
from continuum_tasks.host.jobs import Job
from continuum_tasks.host.metrics import EACH_MINUTE
from continuum_tasks.model import Backup, DrillRecord, Manifest, Position, Rehearsal, SourceFacts, TimelineId
from continuum_tasks.runtime import Runtime, open_runtime
from continuum_tasks.schedule import queue_due as schedule
from continuum_tasks.tasks.periodic import watch_recovery_points_task
from continuum_tasks.units import microseconds
from tests.support.statuses import TIMELINE, status, tell
from tests.unit.retention.plan.rows import backup

SUNDAY = datetime(2026, 11, 22, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Runtime]:
    (tmp_path / "backup.conf").write_text(f"[continuum]\nhost = h1\n\n[database:memory]\npath = {tmp_path}/memory.db\n")
    (tmp_path / "storage.conf").write_text(f"[storage:local]\ntype = local\npath = {tmp_path}/store\n")
    (tmp_path / "retention.conf").write_text("")
    with open_runtime(load_config(tmp_path)) as opened:
        yield opened


def record(runtime: Runtime, one: Backup) -> Backup:
    source = SourceFacts(path="/x", mode=0o600, uid=0, gid=0, journal_mode="delete")
    fields: dict[str, Any] = {
        "repository_id": "r",
        "wrapped_key": None,
        "objects": (),
        "checked": "quick",
        "tool_version": "",
        "sqlite_version": "",
    }
    runtime.catalog.add(Manifest(backup=one, source=source, **fields))
    return one


def only(runtime: Runtime, **changes: Any) -> Runtime:
    """Return the runtime with one database that wants nothing but what is named."""
    never = dict.fromkeys(("full", "incremental", "verify", "test_restore", "drill"), 0) | changes
    fields = {f"{name}_every_seconds": seconds for name, seconds in never.items()}
    database = replace(DatabaseConfig(name="memory", path=Path("/x"), storage="local"), **fields)
    return replace(runtime, config=replace(runtime.config, databases=(database,)))


def queue_due(runtime: Runtime, *, now: datetime) -> list[Job]:
    return [job for database in runtime.config.databases for job in schedule.queue_due(runtime, database, now=now)]


def kinds(jobs: list[Job]) -> list[str]:
    return [job.kind for job in jobs]


def finish(runtime: Runtime, job: Job, *, at: datetime, error: Exception | None = None) -> None:
    claimed = runtime.jobs.claim(job.id, "w", lease_seconds=60, now=at)
    assert claimed is not None
    if error is None:
        runtime.jobs.finish(job.id, claimed.token, None, now=at)
    else:
        runtime.jobs.fail(job.id, claimed.token, error, retry=False, now=at)


def test_sunday_s_window_begins_with_a_full_and_every_look_of_two_beats_queues_it_once(runtime: Runtime) -> None:
    record(runtime, backup(0, created_at=SUNDAY - timedelta(days=7)))
    weekly = only(runtime, full=7 * 86400, test_restore=7 * 86400)

    first, again, later = (queue_due(weekly, now=SUNDAY + delay) for delay in (timedelta(0), timedelta(seconds=2), MINUTE))

    assert [job.args["strategy"] for job in first] == ["full"]
    assert again == later == []
    assert len(weekly.jobs.unfinished()) == 1


def test_after_the_full_the_test_restore_is_of_that_full(runtime: Runtime) -> None:
    record(runtime, backup(0, created_at=SUNDAY - timedelta(days=7)))
    new = record(runtime, backup(1, created_at=SUNDAY + MINUTE))

    (job,) = queue_due(only(runtime, full=7 * 86400, test_restore=7 * 86400), now=SUNDAY + 2 * MINUTE)

    assert (job.kind, job.args, job.max_attempts) == ("test_restore", {"backup_id": new.id, "storage": "local"}, 1)


def test_the_weekly_verification_reads_every_link(runtime: Runtime) -> None:
    one = record(runtime, backup(0, created_at=SUNDAY - timedelta(hours=3)))

    (job,) = queue_due(only(runtime, verify=86400), now=SUNDAY + MINUTE)

    assert job.args == {"backup_id": one.id, "storage": "local", "level": "restore", "each_link": True}


def test_a_drill_picks_what_was_never_drilled_and_its_record_ends_it_for_a_month(runtime: Runtime) -> None:
    old, other = (record(runtime, backup(n, created_at=SUNDAY - timedelta(days=90 - n))) for n in (0, 1))
    fields = {"database": "memory", "passed": True, "rto_seconds": 1.0, "phases": (), "findings": (), "host": "h1"}
    runtime.catalog.drilled("local", DrillRecord(backup_id=old.id, at=SUNDAY - timedelta(days=60), **fields))
    monthly = only(runtime, drill=30 * 86400)
    now = SUNDAY + timedelta(days=1)

    (job,) = queue_due(monthly, now=now)

    assert (job.kind, job.args["backup_id"]) == ("run_drill", other.id)
    finish(monthly, job, at=now)
    runtime.catalog.drilled("local", DrillRecord(backup_id=other.id, at=now, kind=Rehearsal.DRILL, **fields))
    assert queue_due(monthly, now=now + MINUTE) == []


def test_a_deleted_backup_s_drill_still_counts(runtime: Runtime) -> None:
    gone, _ = (record(runtime, backup(n, created_at=SUNDAY - timedelta(days=90 - n))) for n in (0, 1))
    fields = {"database": "memory", "passed": True, "rto_seconds": 1.0, "phases": (), "findings": (), "host": "h1"}
    runtime.catalog.drilled("local", DrillRecord(backup_id=gone.id, at=SUNDAY, **fields))
    runtime.catalog.forget("local", gone.id)

    assert queue_due(only(runtime, drill=30 * 86400), now=SUNDAY + timedelta(days=1)) == []


def test_what_failed_without_a_verdict_is_tried_a_quarter_of_an_hour_later_not_each_minute(runtime: Runtime) -> None:
    record(runtime, backup(0, created_at=SUNDAY))
    daily = only(runtime, verify=86400)
    now = SUNDAY + timedelta(hours=5)
    (job,) = queue_due(daily, now=now)
    finish(daily, job, at=now, error=KeyMissing("key k1 is not here"))

    assert queue_due(daily, now=now + 14 * MINUTE) == []
    assert kinds(queue_due(daily, now=now + 16 * MINUTE)) == ["verify_backup"]


def test_a_backup_that_failed_is_tried_again_the_next_minute(runtime: Runtime) -> None:
    every = only(runtime, incremental=240)
    (job,) = queue_due(every, now=SUNDAY)
    finish(every, job, at=SUNDAY, error=KeyMissing("key k1 is not here"))

    assert kinds(queue_due(every, now=SUNDAY + MINUTE)) == ["create_backup"]


@pytest.mark.parametrize(("minutes", "late"), [(4, False), (6, True)])
def test_the_watchdog_measures_every_minute_and_speaks_up_when_the_target_is_missed(
    runtime: Runtime, caplog: pytest.LogCaptureFixture, minutes: int, late: bool
) -> None:
    now = SUNDAY + timedelta(minutes=minutes)
    record(runtime, backup(0, created_at=SUNDAY))
    clock = replace(runtime.site.clock, now=lambda: now)

    with caplog.at_level(logging.ERROR):
        watch_recovery_points_task(replace(runtime, site=replace(runtime.site, clock=clock)))

    (sample,) = runtime.site.metrics.series("backup_rpo_seconds")
    assert (sample.value, sample.labels) == (minutes * 60, {"database": "memory", "storage": "local"})
    assert [r.levelname for r in caplog.records] == (["ERROR"] if late else [])
    assert ("6 min old, rpo_target 5 min" in caplog.text) is ("--priority high" in caplog.text) is late


def captured(runtime: Runtime, *, now: datetime, commit: int = 7) -> Runtime:
    """Return the runtime, at `now`, with one database that is captured, and its backup of two hours ago at `commit`."""
    position = Position(timeline=TimelineId(TIMELINE), commit=commit, settled=commit)
    record(runtime, backup(0, created_at=now - timedelta(hours=2), position=position))
    found = only(runtime, incremental=3600)
    databases = tuple(replace(one, continuous=True) for one in found.config.databases)
    site = replace(found.site, clock=replace(found.site.clock, now=lambda: now))
    return replace(found, config=replace(found.config, databases=databases), site=site)


@pytest.mark.parametrize(
    ("changes", "age_seconds", "words"),
    [
        ({}, 5, ""),
        ({"durable_commit": 6, "durable_us": microseconds(SUNDAY - 4 * MINUTE)}, 240, ""),
        (
            {"durable_commit": 6, "durable_us": microseconds(SUNDAY - 6 * MINUTE)},
            360,
            "its commits of the last 6 min are not in the storage, rpo_target 5 min",
        ),
        ({"timeline": ""}, 7200, "is 2 h old, rpo_target 5 min"),
    ],
)
def test_the_recovery_point_of_a_captured_database_is_up_to_when_its_commits_are_in_the_storage(
    runtime: Runtime, caplog: pytest.LogCaptureFixture, changes: dict[str, Any], age_seconds: int, words: str
) -> None:
    runtime = captured(runtime, now=SUNDAY)
    tell(runtime.site.state_dir, status(SUNDAY - timedelta(seconds=8), **changes), heard_at=SUNDAY - timedelta(seconds=5))

    watch_recovery_points_task(runtime)

    assert [sample.value for sample in runtime.site.metrics.series("backup_rpo_seconds")] == [age_seconds]
    assert words in caplog.text if words else not caplog.records


@pytest.mark.parametrize(("commit", "due"), [(7, []), (6, ["create_backup"])])
def test_a_captured_database_owes_no_increment_while_nothing_is_committed(
    runtime: Runtime, commit: int, due: list[str]
) -> None:
    runtime = captured(runtime, now=SUNDAY, commit=commit)
    tell(runtime.site.state_dir, status(SUNDAY), heard_at=SUNDAY)

    assert kinds(queue_due(runtime, now=SUNDAY)) == due


def test_an_idle_captured_database_owes_its_fulls_and_an_increment_once_capture_is_down(runtime: Runtime) -> None:
    runtime = captured(runtime, now=SUNDAY)
    tell(runtime.site.state_dir, status(SUNDAY), heard_at=SUNDAY)
    weekly = replace(runtime.config.databases[0], full_every_seconds=3600)

    (job,) = schedule.queue_due(runtime, weekly, now=SUNDAY)
    assert job.args["strategy"] == "full"
    finish(runtime, job, at=SUNDAY)

    (job,) = queue_due(runtime, now=SUNDAY + 2 * MINUTE)  # its process has not reported since
    assert job.args["strategy"] == "incremental"


def test_the_watchdog_keeps_what_a_capture_says_of_itself(runtime: Runtime) -> None:
    runtime = captured(runtime, now=SUNDAY)
    tell(runtime.site.state_dir, status(SUNDAY), heard_at=SUNDAY)

    watch_recovery_points_task(runtime)

    found = [(name, one.labels, one.value) for name in EACH_MINUTE for one in runtime.site.metrics.series(name)]
    labels = {"database": "memory"}
    assert found == [
        ("backup_rpo_seconds", {**labels, "storage": "local"}, 0),
        ("capture_down", labels, 0),
        ("capture_lag_seconds", {**labels, "quantile": "0.5"}, 0.6),
        ("capture_lag_seconds", {**labels, "quantile": "0.95"}, 1.1),
        ("capture_wal_bytes", labels, 4096),
        ("capture_spool_bytes", labels, 0),
        ("capture_commits_total", labels, 7),
        ("capture_stored_bytes", labels, 1000),
        ("capture_requests", labels, 5),
        ("capture_holes", labels, 0),
    ]


def test_a_database_without_any_backup_misses_its_target(runtime: Runtime, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        watch_recovery_points_task(runtime)

    assert "database memory: no usable backup, rpo_target 5 min" in caplog.text
    caplog.clear()
    watch_recovery_points_task(only(runtime))
    assert not caplog.records  # nothing is scheduled, so nothing was promised


def test_failures_of_commands_in_their_own_processes_keep_no_scheduled_backup_waiting(runtime: Runtime) -> None:
    """A success between them leaves no row, so three of them say nothing about how backups go."""
    record(runtime, backup(0, created_at=SUNDAY))
    now = SUNDAY + timedelta(hours=1)
    for n in range(3):
        args = {"database": "memory", "strategy": "incremental", "storage": "local"}
        error = SourceMissing("/x: no such file")
        runtime.jobs.note_failed("create_backup", args, error, database="memory", now=now - n * MINUTE)

    assert kinds(queue_due(only(runtime, incremental=240), now=now)) == ["create_backup"]
    assert [job.id for job in runtime.jobs.due(now)] == ["due-incremental-memory-202611220200"]
