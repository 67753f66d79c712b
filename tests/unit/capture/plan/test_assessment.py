"""How far back a captured database would go, and what is said about its capture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from continuum_tasks.capture.plan.assessment import (
    Capture,
    capture_findings,
    captured_until,
    figures,
    fresh,
    has_nothing_new,
    measured,
)
from continuum_tasks.capture.plan.continuity import BYPASSED
from continuum_tasks.findings import Finding, Severity
from continuum_tasks.health.plan import health
from continuum_tasks.health.plan.protection import Protection, last_backup, protection_findings
from continuum_tasks.history.timeline import since
from continuum_tasks.model import BackupSchedule, BackupStatus, Position, TimelineId
from continuum_tasks.units import instant
from tests.unit.report.plan.captures import MIB, capture, hole, standing, us
from tests.unit.retention.plan.rows import NOW, ago, backup

OK, WARNING, CRITICAL = Severity.OK, Severity.WARNING, Severity.CRITICAL
RHYTHM = BackupSchedule(full_every_seconds=7 * 86_400, incremental_every_seconds=3600, verify_every_seconds=86_400)
BASE = standing(1, 4000, created_at=ago(hours=2))


def findings(late: bool = False, **changes: Any) -> list[Finding]:
    return list(capture_findings("memory", capture(**changes), late=late, now=NOW))


def bad(late: bool = False, **changes: Any) -> Finding:
    (found,) = [one for one in findings(late, **changes) if one.severity is not OK]
    return found


def protection(found: Capture | None, *backups: Any) -> Protection:
    return Protection(database="memory", storage="local", rhythm=RHYTHM, backups=backups or (BASE,), capture=found)


def test_when_everything_is_in_the_storage_the_recovery_point_is_the_last_look() -> None:
    assert captured_until(capture(), [BASE]) == ago(seconds=3)


@pytest.mark.parametrize("changes", [{"commit": 4712}, {"spool_segments": 1}])
def test_while_something_waits_here_it_is_the_last_commit_that_is_in_the_storage(changes: dict[str, Any]) -> None:
    assert captured_until(capture(durable_us=us(seconds=40), **changes), [BASE]) == ago(seconds=40)


@pytest.mark.parametrize(
    ("changes", "backups"),
    [
        ({"base_after": 4500}, [BASE]),
        ({"durable_us": 0}, [BASE]),
        ({}, []),
        ({}, [backup(1)]),
        ({}, [replace(BASE, storage="s3")]),
        ({}, [replace(BASE, position=Position(timeline=TimelineId("timeline-20260101-000000-00000000"), commit=1, settled=1))]),
    ],
)
def test_commits_without_a_backup_to_write_them_over_are_no_recovery_point(
    changes: dict[str, Any], backups: Sequence[Any]
) -> None:
    assert captured_until(capture(**changes), backups) is None


def test_the_age_of_the_recovery_point_is_that_of_the_capture_or_of_a_newer_backup() -> None:
    last = last_backup(protection(capture()), now=NOW)
    assert (last.backup, last.age_seconds, last.late, last.target_seconds) == (BASE, 3, False, 300)
    assert last.captured_until == last.point_at == ago(seconds=3)

    newer = standing(2, 4711, created_at=ago(seconds=1))
    last = last_backup(protection(capture(), newer, BASE), now=NOW)
    assert (last.age_seconds, last.captured_until, last.point_at) == (1, None, newer.created_at)

    last = last_backup(protection(Capture()), now=NOW)
    assert (last.age_seconds, last.late, last.captured_until) == (7200, True, None)
    assert last_backup(replace(protection(Capture()), backups=()), now=NOW).point_at is None


def test_a_captured_database_says_up_to_when_and_what_is_late() -> None:
    said = list(protection_findings(protection(capture()), now=NOW))
    assert [(one.severity, one.subject, one.text) for one in said[:2]] == [
        (OK, "database memory", "every commit up to 3 s ago can be restored, target 5 min"),
        (OK, "capture of memory", "every commit up to 4,711, lag p50 0.6 s, p95 1.0 s, log 3.0 MiB"),
    ]
    behind = capture(commit=5000, durable_us=us(minutes=6), spool_segments=5, trouble="not shipped: no connection")
    late, waits, *_ = protection_findings(protection(behind), now=NOW)
    assert (late.severity, late.text) == (CRITICAL, "every commit up to 6 min ago can be restored, target 5 min")
    assert (waits.severity, waits.text) == (
        WARNING,
        "289 commits of the last 6 min wait on this host: not shipped: no connection",
    )
    assert "test-storage" in waits.hint


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"state": "", "running": False, "heard_at": None, "commit": 0}, "continuous = yes, but it never ran on this host"),
        ({"state": "stopped", "running": False, "detail": "its process is gone"}, "stopped: its process is gone"),
        ({"state": "waiting", "running": False}, "waiting; commits since are only in the database"),
        ({"state": "stopped", "running": False, "detail": "stopped"}, "stopped; commits since"),
        ({"heard_at": ago(minutes=5)}, "its process has not reported for 5 min"),
        ({"heard_at": None}, "its process has not reported"),
        ({"running": False, "journal": True, "state": "journal", "heard_at": ago(days=1)}, "not reported for 1 d"),
    ],
)
def test_a_capture_that_should_run_and_does_not_is_a_warning_at_once_and_critical_when_the_target_is_missed(
    changes: dict[str, Any], text: str
) -> None:
    early, late = bad(**changes), bad(late=True, **changes)

    assert (early.severity, late.severity) == (WARNING, CRITICAL)
    assert text in early.text
    assert "continuum" in early.hint


def test_a_fenced_capture_is_critical_and_says_how_to_go_on() -> None:
    found = bad(fenced=True, running=False, state="fenced", detail="segment 5 is another one")

    assert (found.severity, found.text) == (CRITICAL, "stopped: segment 5 is another one")
    assert found.hint.endswith("`continuum backup create --strategy continuous --database memory`")


def test_a_rollback_journal_database_is_told_what_it_lacks() -> None:
    (found,) = findings(running=False, journal=True, state="journal")
    assert (found.severity, "enable-wal" in found.text) == (OK, True)


def test_a_capture_whose_first_segment_is_on_its_way_is_well() -> None:
    (found,) = findings(durable_us=0, durable_commit=0)
    assert found.severity is OK


def test_what_fails_although_it_runs_is_a_warning() -> None:
    found = bad(trouble="the backup it needs failed: no key")
    assert (found.severity, found.text) == (WARNING, "it runs, but the backup it needs failed: no key")


def test_a_long_log_and_a_full_spool_are_warnings() -> None:
    log, spool = bad(wal_alarm=True, wal_bytes=300 * MIB), bad(spool_bytes=51 * MIB)

    assert (log.severity, log.text) == (WARNING, "the write-ahead log has 300.0 MiB, more than wal_alarm_bytes")
    assert (spool.severity, spool.text) == (
        WARNING,
        "51.0 MiB wait in the spool, more than half of spool_limit_bytes (100.0 MiB)",
    )
    assert [one.severity for one in findings(spool_bytes=50 * MIB)] == [OK]


def test_holes_of_the_last_day_are_a_warning_with_the_edges_of_the_last() -> None:
    old = hole(10, from_us=us(days=3), to_us=us(hours=25))
    one = hole(20, from_us=us(hours=26), to_us=us(hours=23))
    two = hole(30, from_us=us(minutes=3), to_us=us(minutes=2), reason="the process was stopped")

    assert [found.severity for found in findings(holes=(old,))] == [OK]
    found = bad(holes=(old, one))
    assert found.subject == "holes of memory"
    assert found.text == (
        "hole in the last 24 h: between 2026-11-22 10:00:00 and 2026-11-22 13:00:00 UTC (the log was restarted);"
        " commit 20 is the first after it"
    )
    assert bad(holes=(old, one, two)).text.startswith(
        "2 holes in the last 24 h, the last between 2026-11-23 11:57:00 and 2026-11-23 11:58:00 UTC (the process was stopped)"
    )


def test_a_hole_behind_files_that_sqlite_did_not_write_is_critical() -> None:
    one = hole(20, from_us=us(minutes=3), to_us=us(minutes=2), reason=f"{BYPASSED}the -wal was deleted")
    assert bad(holes=(one,)).severity is Severity.CRITICAL


def test_a_hole_that_no_backup_stands_behind_for_long_is_a_warning() -> None:
    young, old = (hole(4500, from_us=us(minutes=n + 1), to_us=us(minutes=n)) for n in (9, 11))

    def said(**changes: Any) -> list[str]:
        return [one.text for one in findings(**changes) if "has no backup" in one.text]

    assert said(base_after=4500, holes=(young,)) == []
    assert said(base_after=4500, holes=(old,)) == [
        "commit 4500 of 11 min ago has no backup: what was committed since cannot be restored"
    ]
    assert said(base_after=1) == ["commit 1 of 2 h ago has no backup: what was committed since cannot be restored"]


def test_the_service_s_check_warns_of_a_capture_in_trouble_and_is_silent_about_one_that_is_well() -> None:
    def said(found: Capture) -> list[tuple[Severity, str]]:
        return [(one.severity, one.subject) for one in health.service_findings((), (protection(found),), now=NOW)]

    assert said(capture()) == [(OK, "database memory")]
    assert said(capture(fenced=True)) == [(OK, "database memory"), (WARNING, "capture of memory")]


@pytest.mark.parametrize(
    ("found", "backups", "idle"),
    [
        (capture(), [standing(1, 4711)], True),
        (capture(), [standing(2, 4711, status=BackupStatus.SUSPECT, suspect_reasons=("anomaly: rows lost",)), BASE], True),
        (capture(), [standing(2, 4711, status=BackupStatus.SUSPECT, suspect_reasons=("unreadable",)), BASE], False),
        (capture(), [standing(2, 4711, failed_at=NOW), standing(1, 4711)], False),
        (capture(), [], False),
        (capture(), [standing(1, 4710)], False),
        (capture(), [backup(1)], False),
        (capture(), [standing(1, 4711, storage="s3")], False),
        (capture(timeline="timeline-20261123-110000-00000000"), [standing(1, 4711)], False),
        (capture(running=False), [standing(1, 4711)], False),
        (capture(heard_at=ago(minutes=2)), [standing(1, 4711)], False),
        (capture(spool_segments=1), [standing(1, 4711)], False),
    ],
)
def test_nothing_is_new_only_when_all_is_captured_and_the_newest_backup_stands_there(
    found: Capture, backups: Sequence[Any], idle: bool
) -> None:
    assert has_nothing_new(found, backups, now=NOW) is idle


def test_what_a_capture_says_is_measured_each_minute_while_commits_come() -> None:
    found = capture(
        durable_us=us(minutes=9), shipped_bytes=10, n_requests=3, holes=(hole(9, from_us=us(hours=2), to_us=us(hours=1)),)
    )

    assert measured(found, now=ago(minutes=1)) == (
        ("capture_down", "", 0.0),
        ("capture_lag_seconds", "0.5", 0.62),
        ("capture_lag_seconds", "0.95", 1.04),
        ("capture_wal_bytes", "", 3.0 * MIB),
        ("capture_spool_bytes", "", 0.0),
        ("capture_commits_total", "", 4711.0),
        ("capture_stored_bytes", "", 10.0),
        ("capture_requests", "", 3.0),
        ("capture_holes", "", 1.0),
    )


@pytest.mark.parametrize(
    ("changes", "n"),
    [
        ({}, 0),
        ({"durable_us": us(minutes=5)}, 9),
        ({"spool_segments": 1}, 9),
        ({"wal_alarm": True}, 9),
        ({"running": False, "state": "stopped"}, 9),
        ({"running": False, "state": "journal", "journal": True}, 0),
        ({"running": False, "state": "journal", "journal": True, "heard_at": ago(hours=2)}, 9),
    ],
)
def test_a_capture_at_rest_is_measured_every_ten_minutes(changes: dict[str, Any], n: int) -> None:
    assert len(measured(capture(**changes), now=ago(minutes=1) + timedelta(seconds=50))) == n
    assert len(measured(capture(heard_at=NOW, **{k: v for k, v in changes.items() if k != "heard_at"}), now=NOW)) == 9


def test_of_a_capture_that_never_ran_only_that_it_is_down_is_measured() -> None:
    assert measured(Capture(), now=ago(minutes=1)) == (("capture_down", "", 1.0),)


def test_of_a_capture_that_is_down_nothing_else_is_fresh() -> None:
    assert fresh(capture(), now=NOW) == figures(capture(), now=NOW)
    assert fresh(capture(heard_at=ago(hours=1)), now=NOW) == (("capture_down", "", 1.0),)


def test_holes_are_told_newest_first_and_measured_within_a_period() -> None:
    first, second = hole(2, from_us=us(hours=5), to_us=us(hours=3)), hole(9, from_us=us(hours=2), to_us=us(hours=1))

    assert since((first, second), ago(hours=3)) == (second, first)
    assert since((first, second), ago(hours=2)) == (second,)
    assert first.seconds_within(ago(hours=4), NOW) == 3600
    assert first.seconds_within(ago(hours=2), NOW) == 0
    assert instant(first.from_us + 1) == ago(hours=5) + timedelta(microseconds=1)
    assert isinstance(first.begins_at, datetime)
