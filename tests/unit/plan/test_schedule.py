"""What is due, from what was done."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from continuum_tasks.model import Backup, Status, Strategy
from continuum_tasks.plan.schedule import Due, Rhythm, due
from tests.unit.plan.rows import NOW, ago, backup

RHYTHM = Rhythm(full_every_seconds=7 * 86400, incremental_every_seconds=240, verify_every_seconds=86400)
FULL, INCREMENTAL = Strategy.FULL, Strategy.INCREMENTAL


def made(strategy: Strategy, at: datetime, **changes: object) -> Backup:
    return backup(0, strategy=strategy, created_at=at, **changes)


def kinds(found: tuple[Due, ...]) -> list[str]:
    return ["verify" if one.strategy is None else one.strategy.value for one in found]


def owed(backups: list[Backup], rhythm: Rhythm = RHYTHM) -> list[str]:
    return kinds(due(sorted(backups, key=lambda b: b.created_at, reverse=True), rhythm, now=NOW))


VERIFIED = {"verified_at": ago(hours=1)}


def test_without_any_backup_a_full_is_due() -> None:
    found = due([], RHYTHM, now=NOW)

    assert found == (Due(strategy=FULL, verify=None, reason="no full yet"),)


def test_nothing_is_due_when_all_was_done_in_time() -> None:
    assert owed([made(FULL, ago(days=1), **VERIFIED), made(INCREMENTAL, ago(seconds=239))]) == []


def test_an_increment_is_due_at_its_interval_and_not_a_second_earlier() -> None:
    full = made(FULL, ago(days=1), **VERIFIED)

    assert owed([full, made(INCREMENTAL, ago(seconds=240))]) == ["incremental"]
    assert owed([full, made(INCREMENTAL, ago(seconds=239))]) == []


def test_a_full_is_due_at_its_interval_instead_of_an_increment() -> None:
    increment = made(INCREMENTAL, ago(hours=1), **VERIFIED)

    assert owed([made(FULL, ago(days=7)), increment]) == ["full"]
    assert owed([made(FULL, ago(days=7) + timedelta(seconds=1)), increment]) == ["incremental"]


def test_reasons_name_the_last_one() -> None:
    backups = [made(INCREMENTAL, ago(minutes=5), **VERIFIED), made(FULL, ago(days=1))]

    assert due(backups, RHYTHM, now=NOW)[0].reason == "last backup at 11:55:00 UTC"
    weekly = replace(RHYTHM, full_every_seconds=3600)
    assert due(backups, weekly, now=NOW)[0].reason == "last full at 2026-11-22 12:00:00 UTC"


def test_a_day_without_beat_is_caught_up_by_one_backup() -> None:
    assert owed([made(FULL, ago(days=1), **VERIFIED)]) == ["incremental"]


def test_never_means_never() -> None:
    nothing = Rhythm(full_every_seconds=0, incremental_every_seconds=0, verify_every_seconds=0)

    assert owed([], nothing) == []
    assert owed([made(FULL, ago(days=400))], nothing) == []


def test_increments_without_scheduled_fulls_begin_by_themselves() -> None:
    """With nothing to build on an incremental becomes a full; without this a new database would never be backed up."""
    assert owed([], replace(RHYTHM, full_every_seconds=0)) == ["incremental"]


def test_a_verification_is_due_for_the_newest_completed_backup() -> None:
    suspect = made(INCREMENTAL, ago(seconds=10), status=Status.SUSPECT)
    good = made(FULL, ago(seconds=60))

    found = due([suspect, good], RHYTHM, now=NOW)

    assert [one.verify for one in found] == [good]
    assert found[0].reason == "nothing verified yet"


def test_a_verification_counts_from_the_last_verdict_good_or_bad() -> None:
    for verdict in ("verified_at", "failed_at"):
        assert owed([made(FULL, ago(seconds=5), **{verdict: ago(hours=23)})]) == []
        found = due([made(FULL, ago(seconds=5), **{verdict: ago(hours=24)})], RHYTHM, now=NOW)
        assert [one.reason for one in found] == ["last verified 2026-11-22 12:00 UTC"]


def test_suspect_backups_alone_are_not_verified() -> None:
    assert owed([made(FULL, ago(seconds=5), status=Status.SUSPECT)]) == []


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
