"""What is due, from what was done."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from continuum_tasks.host import job_kinds
from continuum_tasks.host.job_kinds import CREATE_BACKUP, RUN_DRILL, VERIFY_BACKUP
from continuum_tasks.model import Backup, BackupSchedule, BackupStatus, DrillRecord, Rehearsal, Strategy
from continuum_tasks.schedule.plan.schedule import AGAIN_AFTER, Due, History, due, in_window, window_before
from tests.unit.retention.plan.rows import NOW, ago, backup

RHYTHM = BackupSchedule(full_every_seconds=7 * 86400, incremental_every_seconds=240, verify_every_seconds=86400)
QUIET = BackupSchedule(full_every_seconds=0, incremental_every_seconds=0, verify_every_seconds=0)
FULL, INCREMENTAL = Strategy.FULL, Strategy.INCREMENTAL


def made(strategy: Strategy, at: datetime, **changes: object) -> Backup:
    return backup(0, strategy=strategy, created_at=at, **changes)


NAMES = {VERIFY_BACKUP: "verify", job_kinds.TEST_RESTORE: "test-restore", RUN_DRILL: "drill"}


def kinds(found: tuple[Due, ...]) -> list[str]:
    return [NAMES[one.kind] if one.strategy is None else one.strategy.value for one in found]


def history(*backups: Backup, rehearsals: tuple[DrillRecord, ...] = ()) -> History:
    newest_first = sorted(backups, key=lambda b: b.created_at, reverse=True)
    return History(backups=newest_first, rehearsals=rehearsals)


def owed(backups: list[Backup], rhythm: BackupSchedule = RHYTHM) -> list[str]:
    return kinds(due(history(*backups), rhythm, now=NOW))


VERIFIED = {"verified_at": ago(hours=1)}


def test_without_any_backup_a_full_is_due() -> None:
    found = due(history(), RHYTHM, now=NOW)

    assert found == (Due(kind=CREATE_BACKUP, strategy=FULL, reason="no full yet"),)


def test_nothing_is_due_when_all_was_done_in_time() -> None:
    assert owed([made(FULL, ago(days=1), **VERIFIED), made(INCREMENTAL, ago(seconds=200))]) == []


def test_an_increment_is_due_at_the_look_nearest_to_its_interval() -> None:
    full = made(FULL, ago(days=1), **VERIFIED)

    assert owed([full, made(INCREMENTAL, ago(seconds=210))]) == ["incremental"]
    assert owed([full, made(INCREMENTAL, ago(seconds=209))]) == []
    for every, early in ((1, 1), (2, 1), (40, 30), (60, 45), (90, 67)):
        rhythm = replace(RHYTHM, incremental_every_seconds=every)
        assert owed([full, made(INCREMENTAL, ago(seconds=early))], rhythm) == ["incremental"]
        assert owed([full, made(INCREMENTAL, ago(seconds=early) + timedelta(seconds=0.1))], rhythm) == []


def test_where_nothing_was_committed_since_no_increment_is_due_and_all_else_is() -> None:
    def unchanged(full: Backup) -> list[str]:
        return kinds(due(replace(history(full, made(INCREMENTAL, ago(hours=2))), unchanged=True), RHYTHM, now=NOW))

    assert unchanged(made(FULL, ago(days=1), **VERIFIED)) == []
    assert unchanged(made(FULL, ago(days=8), **VERIFIED)) == ["full"]
    assert unchanged(made(FULL, ago(days=3), verified_at=ago(days=2))) == ["verify"]


@given(
    every=st.sampled_from([60, 120, 180, 240, 600]),
    lags=st.lists(st.floats(0, 14), min_size=1, max_size=5),
    jitters=st.lists(st.floats(-0.5, 0.5), min_size=1, max_size=5),
)
def test_looks_each_minute_keep_increments_at_their_interval_whatever_a_snapshot_takes_to_begin(
    every: int, lags: list[float], jitters: list[float]
) -> None:
    """Four minutes must not become five: that is the whole target of the recovery point."""
    backups = [made(FULL, NOW, **VERIFIED)]
    for look in range(1, 61):
        at = NOW + timedelta(seconds=60 * look + jitters[look % len(jitters)])
        if kinds(due(history(*backups), replace(QUIET, incremental_every_seconds=every), now=at)):
            backups.append(made(INCREMENTAL, at + timedelta(seconds=lags[look % len(lags)])))

    ages = [(later.created_at - earlier.created_at).total_seconds() for earlier, later in pairwise(backups)]
    assert len(backups) - 1 == 3600 // every
    assert max(ages) <= every + 15


def test_a_full_is_due_at_its_interval_instead_of_an_increment() -> None:
    increment = made(INCREMENTAL, ago(hours=1), **VERIFIED)

    assert owed([made(FULL, ago(days=7), **VERIFIED), increment]) == ["full"]
    assert owed([made(FULL, ago(days=7) + timedelta(seconds=1), **VERIFIED), increment]) == ["incremental"]


def test_reasons_name_the_last_one() -> None:
    backups = [made(INCREMENTAL, ago(minutes=5), **VERIFIED), made(FULL, ago(days=1))]

    assert due(history(*backups), RHYTHM, now=NOW)[0].reason == "last backup at 11:55:00 UTC"
    weekly = replace(RHYTHM, full_every_seconds=3600)
    assert due(history(*backups), weekly, now=NOW)[0].reason == "last full at 2026-11-22 12:00:00 UTC"


def test_a_day_without_beat_is_caught_up_by_one_backup() -> None:
    assert owed([made(FULL, ago(days=1), **VERIFIED)]) == ["incremental"]


def test_never_means_never() -> None:
    nothing = BackupSchedule(full_every_seconds=0, incremental_every_seconds=0, verify_every_seconds=0)

    assert owed([], nothing) == []
    assert owed([made(FULL, ago(days=400))], nothing) == []


def test_increments_without_scheduled_fulls_begin_by_themselves() -> None:
    """With nothing to build on an incremental becomes a full; without this a new database would never be backed up."""
    assert owed([], replace(RHYTHM, full_every_seconds=0)) == ["incremental"]


def test_a_verification_is_due_for_the_newest_completed_backup() -> None:
    suspect = made(INCREMENTAL, ago(seconds=10), status=BackupStatus.SUSPECT)
    good = made(FULL, ago(seconds=60))

    found = due(history(suspect, good), RHYTHM, now=NOW)

    assert [one.backup for one in found] == [good]
    assert found[0].reason == "nothing verified yet"


def test_a_verification_counts_from_the_last_verdict_good_or_bad() -> None:
    for verdict in ("verified_at", "failed_at"):
        assert owed([made(FULL, ago(seconds=5), **{verdict: ago(hours=23)})]) == []
        found = due(history(made(FULL, ago(seconds=5), **{verdict: ago(hours=24)})), RHYTHM, now=NOW)
        assert [one.reason for one in found] == ["last verified 2026-11-22 12:00 UTC"]


def test_suspect_backups_alone_are_not_verified() -> None:
    assert owed([made(FULL, ago(seconds=5), status=BackupStatus.SUSPECT)]) == []


FAR = NOW + timedelta(days=365)


@pytest.mark.parametrize("ahead", [timedelta(days=30), timedelta(days=365)])
def test_a_full_stamped_far_in_the_future_is_followed_by_one_full_not_by_one_each_minute(ahead: timedelta) -> None:
    future = made(FULL, NOW + ahead)
    assert owed([future]) == ["full", "verify"]

    assert owed([future, made(FULL, ago(seconds=60), **VERIFIED)]) == []


def test_an_increment_stamped_far_in_the_future_is_followed_by_one_not_by_one_each_minute() -> None:
    past = [made(FULL, ago(days=1), **VERIFIED)]
    future = made(INCREMENTAL, FAR)
    assert owed([future, *past]) == ["incremental"]

    assert owed([future, made(INCREMENTAL, ago(seconds=60)), *past]) == []


def test_a_verdict_stamped_far_in_the_future_does_not_end_verification() -> None:
    assert owed([made(FULL, ago(seconds=5), verified_at=FAR)]) == ["verify"]


def test_a_clock_set_back_a_little_starts_nothing_twice() -> None:
    soon = NOW + timedelta(seconds=30)

    assert owed([made(FULL, soon, verified_at=soon)]) == []


@given(
    offsets=st.lists(st.tuples(st.integers(-900, 900), st.sampled_from([FULL, INCREMENTAL]), st.booleans()), max_size=6),
    verdicts=st.lists(st.integers(-3, 3), max_size=3),
)
def test_what_was_done_is_never_due_again_at_once(offsets: list[tuple[int, Strategy, bool]], verdicts: list[int]) -> None:
    """Whatever the clock did before: doing what is due leaves no backup due, so work never repeats each minute."""
    backups = [made(kind, NOW + timedelta(days=days) / 30) for days, kind, _ in offsets]
    for one, days in zip(range(len(backups)), verdicts, strict=False):
        backups[one] = replace(backups[one], verified_at=NOW + timedelta(days=days))

    for kind in owed(backups):
        done = made(FULL if kind == "full" else INCREMENTAL, NOW, verified_at=NOW)
        backups = [*backups, done] if kind != "verify" else backups

    assert not [kind for kind in owed(backups) if kind != "verify"]


SUNDAY = datetime(2026, 11, 22, 1, tzinfo=UTC)  # the window before NOW, a Monday
WEEKLY = replace(RHYTHM, incremental_every_seconds=0, test_restore_every_seconds=7 * 86400, drill_every_seconds=30 * 86400)
LONG_AGO = ago(days=90)
TEST_RESTORE, DRILL = Rehearsal.TEST_RESTORE, Rehearsal.DRILL


def rehearsed(kind: Rehearsal, at: datetime, *, passed: bool = True) -> DrillRecord:
    one = backup(0)
    return DrillRecord(
        **{"backup_id": one.id, "database": "memory", "passed": passed, "at": at, "rto_seconds": 1.0, "phases": ()},
        **{"findings": () if passed else ("no",), "host": "h1", "kind": kind},
    )


def test_the_window_is_sunday_from_one_to_three() -> None:
    assert SUNDAY.weekday() == 6
    assert [window_before(at) for at in (SUNDAY, NOW, SUNDAY + timedelta(days=7, seconds=-1))] == [SUNDAY] * 3
    assert window_before(SUNDAY - timedelta(seconds=1)) == SUNDAY - timedelta(days=7)
    assert in_window(SUNDAY) and in_window(SUNDAY + timedelta(minutes=119)) and not in_window(SUNDAY + timedelta(hours=2))


@given(st.datetimes(datetime(1971, 1, 1), datetime(9999, 1, 1), timezones=st.just(UTC)))
def test_a_window_opened_within_the_last_week(at: datetime) -> None:
    opened = window_before(at)

    assert (opened.weekday(), opened.hour, opened.minute) == (6, 1, 0)
    assert timedelta(0) <= at - opened < timedelta(days=7)


def test_a_weekly_full_is_made_in_the_window_before_it_would_be_late() -> None:
    def at(now: datetime, last: datetime, every_days: int = 7) -> list[str]:
        rhythm = replace(WEEKLY, verify_every_seconds=0, full_every_seconds=every_days * 86400)
        found = due(history(made(FULL, last)), rhythm, now=now)
        return [one.strategy.value for one in found if one.strategy is not None]

    wednesday = SUNDAY - timedelta(days=4)
    assert at(SUNDAY, wednesday) == ["full"]
    assert at(SUNDAY - timedelta(seconds=1), wednesday) == []
    assert at(SUNDAY + timedelta(hours=2), wednesday) == []  # the window is over: it waits for its interval
    assert at(wednesday + timedelta(days=7), wednesday) == ["full"]
    assert at(SUNDAY + timedelta(minutes=1), SUNDAY + timedelta(seconds=20)) == []  # the second beat of a window
    assert at(SUNDAY, wednesday, every_days=14) == []  # next Sunday is early enough
    assert at(SUNDAY, SUNDAY - timedelta(days=8), every_days=14) == ["full"]
    assert at(SUNDAY, wednesday + timedelta(days=3, hours=12), every_days=1) == []  # a daily one has its own hour


def test_each_chain_that_grew_in_the_week_before_the_window_is_looked_at_once_with_every_link() -> None:
    full = backup(0, created_at=SUNDAY - timedelta(days=5), verified_at=SUNDAY - timedelta(days=5))
    last = backup(1, parent=0, created_at=SUNDAY - timedelta(hours=1))
    after = backup(2, parent=0, created_at=SUNDAY + timedelta(hours=1))
    quiet = replace(WEEKLY, full_every_seconds=0, test_restore_every_seconds=0, drill_every_seconds=0)
    quiet = replace(quiet, verify_every_seconds=30 * 86400)

    found = due(history(full, last, after), quiet, now=NOW)

    assert [(one.kind, one.backup, one.each_link) for one in found] == [(VERIFY_BACKUP, last, True)]
    assert found[0].reason == "weekly, window of 2026-11-22"
    for verdict in ("verified_at", "failed_at"):
        assert due(history(full, replace(last, **{verdict: SUNDAY}), after), quiet, now=NOW) == ()
    late = replace(last, verified_at=SUNDAY - timedelta(seconds=1))
    assert [one.backup for one in due(history(full, late), quiet, now=NOW)] == [late]
    old = backup(5, created_at=SUNDAY - timedelta(days=7, seconds=1), verified_at=ago(hours=40))
    assert due(history(old), quiet, now=NOW) == ()
    assert due(history(full, last), replace(quiet, verify_every_seconds=0), now=NOW) == ()


def rehearsals(*records: DrillRecord, now: datetime = NOW, oldest: datetime = LONG_AGO) -> list[str]:
    rhythm = replace(WEEKLY, full_every_seconds=0)
    fresh = backup(1, created_at=now - timedelta(minutes=1), verified_at=now)
    found = due(history(backup(0, created_at=oldest), fresh, rehearsals=records), rhythm, now=now)
    return [name for name in kinds(found) if name in ("test-restore", "drill")]


def test_a_new_database_owes_neither_test_restore_nor_drill_before_their_interval_or_the_window() -> None:
    assert rehearsals(oldest=ago(hours=20)) == []
    assert rehearsals(oldest=ago(days=8)) == ["test-restore"]
    assert rehearsals(oldest=ago(days=31)) == ["drill"]
    assert rehearsals(now=SUNDAY, oldest=SUNDAY - timedelta(days=1)) == ["test-restore"]


def test_retention_that_takes_every_backup_within_a_week_does_not_put_off_the_first_drill_for_ever() -> None:
    """What counts is when the database began, and of that the records of its test restores are left."""
    weekly = [rehearsed(TEST_RESTORE, ago(days=7 * n - 6)) for n in range(1, 7)]

    assert rehearsals(*weekly, oldest=ago(days=7)) == ["drill"]
    assert rehearsals(*weekly[:3], oldest=ago(days=7)) == []
    drills_alone = replace(QUIET, drill_every_seconds=30 * 86400)
    assert kinds(due(history(made(FULL, ago(days=6))), drills_alone, now=SUNDAY + timedelta(days=7))) == ["drill"]
    assert kinds(due(history(made(FULL, ago(days=6))), drills_alone, now=NOW)) == []


def test_a_missed_month_is_caught_up_by_one_drill_which_counts_as_the_test_restore_too() -> None:
    assert rehearsals(rehearsed(DRILL, ago(days=80)), rehearsed(TEST_RESTORE, ago(days=70))) == ["drill"]
    assert rehearsals(rehearsed(DRILL, ago(days=80)), rehearsed(DRILL, ago(seconds=30))) == []


def test_the_drill_settles_in_a_window_every_four_weeks() -> None:
    first = SUNDAY - timedelta(days=28) + timedelta(minutes=5)

    weeks = [rehearsals(rehearsed(DRILL, first), now=SUNDAY - timedelta(days=7 * n)) for n in (3, 2, 1, 0)]

    assert weeks == [["test-restore"], ["test-restore"], ["test-restore"], ["drill"]]


def test_a_test_restore_is_owed_of_the_newest_usable_backup_and_waits_for_the_full_of_its_window() -> None:
    full, suspect = backup(0, created_at=ago(days=40)), backup(1, created_at=ago(minutes=1), status=BackupStatus.SUSPECT)
    rhythm = replace(WEEKLY, full_every_seconds=0, drill_every_seconds=0, verify_every_seconds=0)

    found = due(history(full, suspect), rhythm, now=NOW)

    assert [(one.kind, one.backup) for one in found] == [(job_kinds.TEST_RESTORE, full)]
    assert found[0].reason == "no test restore yet"
    assert due(history(suspect), rhythm, now=NOW) == ()
    assert kinds(due(history(full), replace(rhythm, full_every_seconds=7 * 86400), now=SUNDAY)) == ["full"]
    assert kinds(due(history(full), replace(rhythm, full_every_seconds=7 * 86400), now=NOW)) == ["full", "test-restore"]


def test_one_that_failed_does_not_count_and_is_tried_again_a_day_later_not_a_minute() -> None:
    failed = rehearsed(DRILL, ago(minutes=1), passed=False)
    assert rehearsals(failed) == []
    assert rehearsals(replace(failed, at=NOW - AGAIN_AFTER)) == ["drill"]
    assert rehearsals(replace(failed, at=NOW - AGAIN_AFTER), rehearsed(DRILL, ago(minutes=1))) == []


def test_a_drill_stamped_far_in_the_future_does_not_end_the_drills() -> None:
    assert rehearsals(rehearsed(DRILL, FAR)) == ["drill"]
    assert rehearsals(rehearsed(DRILL, FAR), rehearsed(DRILL, ago(minutes=1))) == []


def test_reasons_name_the_last_rehearsal() -> None:
    record = rehearsed(DRILL, ago(days=40))
    found = due(history(backup(0, created_at=ago(days=90)), rehearsals=(record,)), WEEKLY, now=NOW)

    assert found[-1].reason == "last drill at 2026-10-14 12:00 UTC"


@given(
    start=st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1), timezones=st.just(UTC)),
    looks=st.lists(st.integers(0, 40 * 24 * 60), min_size=1, max_size=12),
    before=st.lists(st.tuples(st.integers(-400, 400), st.sampled_from(Rehearsal), st.booleans()), max_size=4),
)
def test_however_beat_stumbles_a_look_that_follows_at_once_finds_nothing_more_to_rehearse(
    start: datetime, looks: list[int], before: list[tuple[int, Rehearsal, bool]]
) -> None:
    """Beats missed for minutes or months, in any order (the clock jumps back too): each time at most one, and then none."""
    records = [rehearsed(kind, start + timedelta(days=days), passed=passed) for days, kind, passed in before]
    for minutes in looks:
        now = start + timedelta(minutes=minutes)
        for attempt in range(2):
            one = backup(0, created_at=start - timedelta(days=90))
            found = kinds(due(History(backups=[one], rehearsals=records), WEEKLY, now=now))
            owed_now = [name for name in found if name in ("test-restore", "drill")]
            assert len(owed_now) <= 1 - attempt
            records += [rehearsed(DRILL if name == "drill" else TEST_RESTORE, now) for name in owed_now]
