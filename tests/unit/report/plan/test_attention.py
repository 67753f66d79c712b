"""What a report says somebody should look at, and how bad it is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from continuum_tasks.findings import Finding, Severity, Trouble
from continuum_tasks.report.plan.attention import attention
from continuum_tasks.report.plan.report import Declared
from continuum_tasks.report.plan.usage import StorageReading, UsagePoint, add_up_usage
from tests.unit.report.plan.reports import captured, drill, expired, failed, report, verdict
from tests.unit.retention.plan.rows import NOW, ago, backup

WARNING, CRITICAL = Severity.WARNING, Severity.CRITICAL
GOOD = {
    "databases": (Declared(name="memory", target_seconds=86_400),),
    "backups": tuple(
        backup(9 - n, base_id=backup(9 - n).id, created_at=ago(days=n), finished_at=ago(days=n), verified_at=ago(days=n))
        for n in range(9)
    ),
    "expired": (),
    "failed": (),
    "verdicts": (),
    "drills": (drill(1, at=ago(days=3), seconds=5),),
    "decisions": (),
    "storages": (),
}


def found(**changes: Any) -> list[Finding]:
    return list(attention(report(**{**GOOD, **changes})))


def only(**changes: Any) -> Finding:
    (one,) = found(**changes)
    assert one.hint
    return one


def test_a_good_week_asks_for_nothing() -> None:
    assert found() == []


def test_a_database_without_a_recovery_point_is_critical() -> None:
    one = only(backups=())
    assert (one.severity, one.subject, one.text) == (CRITICAL, "database memory", "no recovery point")


def test_a_late_recovery_point_is_critical_and_a_gap_that_is_over_a_warning() -> None:
    late = found(backups=GOOD["backups"][2:])
    assert [(f.severity, f.text) for f in late] == [(CRITICAL, "its last recovery point was 2 d old, target 1 d")]
    gap = only(backups=(*GOOD["backups"][:2], *GOOD["backups"][4:]))
    assert (gap.severity, gap.text) == (
        WARNING,
        "1 gap in its recovery points, 2 d over the target in all, worst age 3 d",
    )


def test_what_is_not_declared_any_more_is_nobody_s_concern() -> None:
    assert [f.subject for f in found(databases=())] == []


def test_backups_that_nobody_verified_lately_are_a_warning() -> None:
    never = tuple(replace(b, verified_at=None) for b in GOOD["backups"])
    assert only(backups=never).text == "none of its backups is verified"
    long_ago = tuple(replace(b, verified_at=ago(days=8)) for b in GOOD["backups"])
    assert only(backups=long_ago).text == "its last verified backup was proven 8 d ago"


def test_holes_and_time_that_was_not_captured_are_warnings() -> None:
    def said(**changes: Any) -> list[str]:
        return [one.text for one in found(captures=(captured(**changes),)) if "gap" not in one.text]

    assert said() == [
        "1 hole in what was captured, the last between 2026-11-22 06:00:00 and 2026-11-22 06:01:00 UTC: the log was restarted",
        "for 2 d 1 h its commits were not captured or not in the storage (31.94 % covered)",
    ]
    every_minute = tuple((ago(minutes=m), 0.0) for m in range(100, 0, -1))
    assert said(down=every_minute, holes=()) == []


def test_failed_backups_and_other_jobs_are_told_apart_and_parts_of_jobs_are_not_told() -> None:
    runs = (
        failed(at=ago(hours=3), message="first"),
        failed(at=ago(hours=1), message="last"),
        failed(at=ago(hours=2), kind="run_drill", message="no space"),
        failed(at=ago(hours=2), kind="seal_chunk"),
    )
    texts = [(f.subject, f.text) for f in found(failed=runs)]
    assert texts == [
        ("backups", "2 runs failed, the last: last"),
        ("jobs", "1 other job failed, the last: run_drill: no space"),
    ]


def test_a_failed_verification_is_critical_and_names_the_last() -> None:
    one = only(verdicts=(verdict(1, passed=False, at=ago(days=1)), verdict(2, passed=False, at=ago(days=2))))
    assert one.severity is CRITICAL and one.text == f"2 verifications failed, the last of {backup(1).id}"


def test_suspects_come_with_the_first_reason_of_the_last() -> None:
    runs = tuple(expired(at=ago(days=n), suspect_reasons=(f"anomaly: {n}",)) for n in (1, 2))
    assert only(expired=runs).text == "2 backups suspect, the last incremental: anomaly: 1"


def test_drills_that_fail_are_critical_and_ones_that_are_missing_a_warning() -> None:
    one = only(drills=(drill(1, at=ago(days=1), seconds=5, passed=False),))
    assert (one.severity, one.text) == (CRITICAL, f"1 drill failed, the last of {backup(1).id}: invariant: no")
    mute = replace(drill(1, at=ago(days=1), seconds=5), passed=False)
    assert only(drills=(mute,)).text.endswith("no finding was noted")
    assert only(drills=()).text == "no drill was ever made"
    assert only(drills=(drill(1, at=ago(days=36), seconds=5),)).text == "the last one was 36 d ago"


@pytest.mark.parametrize(("later", "texts"), [(12.5, []), (13, ["restores take 30 % longer than before"]), (5, [])])
def test_restores_that_became_slower_are_a_warning(later: float, texts: list[str]) -> None:
    made = tuple(drill(n, at=ago(days=9 - n), seconds=10 if n < 4 else later) for n in range(8))
    assert [f.text for f in found(drills=made)] == texts


def test_a_storage_that_fills_within_a_month_is_critical_and_one_in_trouble_a_warning() -> None:
    growing = tuple(UsagePoint(at=ago(days=n), n_bytes=(10 - n) * 1024**2) for n in range(10, -1, -1))
    filling = add_up_usage(StorageReading(name="local", free_bytes=5 * 1024**2, measured=growing), [], now=NOW)
    filling = replace(filling, fills_at=ago(days=-5))
    one = only(storages=(filling,))
    assert (one.severity, one.text) == (CRITICAL, "full in 5 d at this growth, 5.0 MiB free")
    assert found(storages=(replace(filling, fills_at=ago(days=-31)),)) == []
    away = replace(filling, fills_at=None, trouble=Trouble(message="away", hint="mount it"))
    assert [(f.severity, f.text, f.hint) for f in found(storages=(away,))] == [(WARNING, "away", "mount it")]


def test_the_worst_comes_first() -> None:
    order = [f.severity for f in found(failed=(failed(at=ago(hours=1)),), backups=(), drills=())]
    assert order == [CRITICAL, WARNING, WARNING]
