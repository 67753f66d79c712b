"""Every number of a report against the rows it was made of."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from continuum_tasks.model import BackupStatus
from continuum_tasks.report.plan.report import PERIODS, Period, build_report
from continuum_tasks.report.plan.usage import UsagePoint
from tests.unit.report.plan.reports import WEEK, drill, expired, failed, report, rows, verdict
from tests.unit.retention.plan.rows import NOW, ago, backup, identify

FOUND = report()
MEMORY, ARCHIVE, OLD = FOUND.databases


@pytest.mark.parametrize(("name", "days"), [("day", 1), ("week", 7), ("month", 30)])
def test_a_period_ends_now_and_holds_its_ends(name: str, days: int) -> None:
    period = Period.ending(NOW, name=name)
    assert (period.until, period.until - period.since) == (NOW, timedelta(days=days))
    assert period.holds(period.since) and period.holds(NOW)
    assert not period.holds(NOW + timedelta(seconds=1)) and not period.holds(period.since - timedelta(seconds=1))
    assert (period.bar(period.since), period.bar(NOW)) == (0, PERIODS[name][1] - 1)


def test_what_was_made_in_the_period_counts_whether_it_expired_since_or_not() -> None:
    assert FOUND.n_made == 6
    assert (MEMORY.n_made, ARCHIVE.n_made, OLD.n_made) == (5, 1, 0)
    assert MEMORY.by_strategy == (("full", 1), ("incremental", 4))
    assert MEMORY.stored_bytes == 3 * 1000 + 2 * 30
    assert FOUND.stored_bytes == sum(database.stored_bytes for database in FOUND.databases)
    assert MEMORY.median_seconds == 4 and OLD.median_seconds is None


def test_only_failed_backups_count_as_failed_but_every_failed_job_is_listed_newest_first() -> None:
    assert (FOUND.n_failed, MEMORY.n_failed, ARCHIVE.n_failed) == (1, 1, 0)
    assert [run.kind for run in FOUND.failed] == ["create_backup", "verify_backup"]


def test_suspects_are_named_with_their_reasons_newest_first() -> None:
    assert [(run.backup_id, run.suspect_reasons) for run in FOUND.suspects] == [
        (identify(4), ("anomaly: 61 % of the pages changed",)),
        ("", ("gone",)),
    ]
    assert MEMORY.n_suspect == 2
    unexplained = backup(7, created_at=ago(hours=1), finished_at=ago(hours=1), status=BackupStatus.SUSPECT)
    assert report(backups=(unexplained,), expired=()).suspects[0].suspect_reasons == ("suspect",)


def test_the_bars_add_up_to_the_totals() -> None:
    assert len(FOUND.bars) == 28
    assert sum(bar.n_made for bar in FOUND.bars) == FOUND.n_made
    assert sum(bar.n_failed for bar in FOUND.bars) == FOUND.n_failed
    assert sum(bar.n_suspect for bar in FOUND.bars) == len(FOUND.suspects)
    assert FOUND.bars[0].begins_at == WEEK.since
    assert FOUND.bars[-1].n_made == 2 and FOUND.bars[-1].n_failed == 1


def test_the_recovery_point_is_that_of_good_backups_and_of_good_ones_that_expired_since() -> None:
    exposure = MEMORY.exposure
    assert exposure.last_seconds == 2 * 3600  # the suspect one an hour ago is no recovery point
    assert exposure.worst_seconds == pytest.approx(4 * 86_400 + 4 - 4, abs=10)
    assert [round(gap.age_seconds or 0) for gap in exposure.gaps] == [4 * 86_400]
    without = report(expired=()).databases[0].exposure
    assert without.worst_seconds == pytest.approx(6 * 86_400 + 6)


def test_a_database_that_is_not_declared_any_more_is_shown_and_nothing_is_expected_of_it() -> None:
    assert (OLD.name, OLD.declared, OLD.exposure.target_seconds, OLD.exposure.gaps) == ("old", False, 0, ())


def test_coverage_counts_recovery_points_and_chains_that_were_test_restored() -> None:
    found = MEMORY.coverage
    assert (found.n_points, found.n_verified, found.n_chains, found.n_chains_proven) == (3, 2, 2, 2)
    assert found.last_verified_at == ago(hours=1)
    assert (found.n_passed, found.n_failed) == (1, 0)  # one of the period at the level that counts
    assert (ARCHIVE.coverage.n_chains_proven, ARCHIVE.coverage.last_verified_at) == (0, None)


def test_failed_verdicts_of_the_period_are_listed_at_any_level() -> None:
    found = report(verdicts=(verdict(2, passed=False, at=ago(days=1)), verdict(1, passed=False, at=ago(days=9))))
    assert [v.attestation.backup_id for v in found.bad_verdicts] == [identify(2)]
    assert found.databases[0].coverage.n_failed == 1


def test_drills_reach_back_before_the_period_but_only_its_own_count() -> None:
    assert [d.rto_seconds for d in FOUND.drills.in_period] == [12]
    assert [d.rto_seconds for d in FOUND.drills.history] == [10, 12]
    assert (FOUND.drills.change, FOUND.drills.n_failed) == (None, 0)


def test_the_trend_of_drills_is_of_the_last_dozen_that_passed() -> None:
    slower = [drill(n, at=ago(days=7 * (20 - n)), seconds=10 if n < 14 else 20) for n in range(20)]
    bad = drill(1, at=ago(days=3), seconds=999, passed=False)
    ahead = drill(1, at=ago(days=-3), seconds=999)
    found = report(drills=(*slower, bad, ahead)).drills
    assert len(found.history) == 12 and found.history[-1] is bad
    assert found.change == pytest.approx(1.0)
    assert found.n_failed == 1


def test_decisions_and_storage_levels_are_those_of_the_period() -> None:
    assert [decision.action for decision in FOUND.decisions] == ["expire"]
    local, s3 = FOUND.storages
    assert local.points[0] == UsagePoint(at=WEEK.since, n_bytes=1000)  # the level it began at
    assert all(WEEK.holds(point.at) for point in local.points)
    assert local.used_bytes == 5 * 1000 and s3.used_bytes == 1000
    assert [p.at for p in s3.points] == [ago(days=1)]


def test_the_same_rows_in_another_order_give_the_same_report() -> None:
    given = rows()
    turned = replace(
        given,
        expired=given.expired[::-1],
        failed=given.failed[::-1],
        decisions=given.decisions[::-1],
        drills=given.drills[::-1],
    )
    assert build_report(turned, WEEK, host="h1") == build_report(given, WEEK, host="h1")


def test_nothing_at_all_makes_a_report_of_nothing() -> None:
    empty = rows(databases=(), backups=(), expired=(), failed=(), verdicts=(), drills=(), decisions=(), storages=())
    found = build_report(empty, WEEK, host="h1")
    assert (found.n_made, found.n_failed, found.databases, found.storages, found.attention) == (0, 0, (), (), ())
    assert sum(bar.n_made for bar in found.bars) == 0


def test_runs_and_failures_outside_the_period_change_nothing() -> None:
    given = rows()
    more = replace(given, expired=(*given.expired, expired(at=ago(days=29))), failed=(*given.failed, failed(at=ago(days=7.01))))
    assert build_report(more, WEEK, host="h1") == build_report(given, WEEK, host="h1")
