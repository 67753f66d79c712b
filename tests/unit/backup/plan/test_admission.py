from __future__ import annotations

from datetime import timedelta

import pytest

from continuum_tasks.backup.plan import admission
from continuum_tasks.backup.plan.admission import EndedRun
from continuum_tasks.model import BackupSchedule, BackupStatus
from tests.unit.retention.plan.rows import NOW, ago, backup

ODD = {"status": BackupStatus.SUSPECT, "suspect_reasons": ("anomaly: rows lost: many",)}


def runs(*errors: str, seconds_ago: float = 60) -> list[EndedRun]:
    return [EndedRun(at=NOW - timedelta(seconds=seconds_ago + 60 * n), error=error) for n, error in enumerate(errors)]


@pytest.mark.parametrize(("age", "refused"), [(0, True), (299, True), (300, False), (-30, False)])
def test_a_backup_is_recent_while_it_is_younger_than_the_interval(age: int, refused: bool) -> None:
    rows = [backup(1, created_at=ago(seconds=age)), backup(0, created_at=ago(days=1))]
    assert (admission.recent(rows, min_interval_seconds=300, now=NOW) is not None) is refused
    assert admission.recent(rows, min_interval_seconds=0, now=NOW) is None


def test_a_backup_from_the_future_hides_no_recent_one() -> None:
    rows = [backup(1, created_at=ago(days=-1)), backup(0, created_at=ago(seconds=10))]
    refusal = admission.recent(rows, min_interval_seconds=60, now=NOW)
    assert refusal is not None and "10 s old, and min_interval is 1 min" in refusal.text and "--force" in refusal.hint


def test_an_anomaly_that_holds_refuses_and_names_the_first_and_what_to_accept() -> None:
    rows = [backup(3, **ODD), backup(2, **ODD), backup(1)]
    refusal = admission.anomalous(rows)
    assert refusal is not None
    assert rows[1].id in refusal.text and "anomaly: rows lost: many" in refusal.text and "1 more" in refusal.text
    assert f"accept {rows[0].id}" in refusal.hint and "--force" in refusal.hint
    assert "more" not in admission.anomalous(rows[1:]).text  # type: ignore[union-attr]
    assert admission.anomalous([backup(4), *rows]) is None


def test_fulls_wait_while_an_anomaly_holds_unless_nothing_else_is_scheduled() -> None:
    rhythm = BackupSchedule(full_every_seconds=7, incremental_every_seconds=1, verify_every_seconds=0)
    rows = [backup(2, **ODD), backup(1)]
    assert admission.rhythm_now(rhythm, rows).full_every_seconds == 0
    assert admission.rhythm_now(rhythm, rows).incremental_every_seconds == 1
    assert admission.rhythm_now(rhythm, rows[1:]) == rhythm
    fulls_only = BackupSchedule(full_every_seconds=7, incremental_every_seconds=0, verify_every_seconds=0)
    assert admission.rhythm_now(fulls_only, rows) == fulls_only


def test_three_failures_alike_make_the_schedule_wait_a_quarter_of_an_hour() -> None:
    refusal = admission.failing(runs("KeyMissing", "KeyMissing", "KeyMissing", ""), now=NOW)
    assert refusal is not None and "KeyMissing" in refusal.text and "14 min" in refusal.text
    assert admission.failing(runs("KeyMissing", "KeyMissing", "KeyMissing", seconds_ago=900), now=NOW) is None
    assert admission.failing(runs("KeyMissing", "KeyMissing", "KeyMissing", seconds_ago=-5), now=NOW) is None


@pytest.mark.parametrize("errors", [(), ("A", "A"), ("A", "B", "A"), ("", "A", "A"), ("A", "", "A"), ("", "", "")])
def test_fewer_failures_others_or_a_success_between_do_not(errors: tuple[str, ...]) -> None:
    assert admission.failing(runs(*errors), now=NOW) is None


def test_what_time_heals_is_tried_each_time() -> None:
    transient = [EndedRun(at=ago(minutes=n), error="StorageUnreachable", transient=True) for n in range(3)]
    assert admission.failing(transient, now=NOW) is None
