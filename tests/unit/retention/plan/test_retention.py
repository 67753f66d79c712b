"""Which backups stay, with which reason, and which go, in which order."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from continuum_tasks.model import Backup, BackupId, BackupStatus, Strategy
from continuum_tasks.retention.plan.keep_reasons import Policy, RetentionInputs
from continuum_tasks.retention.plan.retention import RetentionPlan, plan_retention, slot
from tests.unit.retention.plan.rows import backup

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)  # a Monday
DAY = 86_400
SIGHT = RetentionInputs(now=NOW, storage_now=NOW, holds={})
NOTHING = Policy(
    hourly=0,
    daily=0,
    weekly=0,
    monthly=0,
    yearly=0,
    keep_within_seconds=0,
    min_backups=1,
    max_age_seconds=0,
    grace_period_seconds=0,
    only_verified=True,
    max_expire_per_run=1000,
    max_roll_forward_per_run=4,
)


def at(days: float, *, parent: Backup | None = None, verified: bool = True, **changes: Any) -> Backup:
    """Return a backup made so many days ago: a full of a million bytes, or an increment of a thousand."""
    made = NOW - timedelta(days=days)
    strategy = Strategy.FULL if parent is None else Strategy.INCREMENTAL
    backup_id = BackupId.make(strategy, made)
    known: dict[str, Any] = {
        "id": backup_id,
        "strategy": strategy,
        "created_at": made,
        "parent_id": None if parent is None else parent.id,
        "base_id": backup_id if parent is None else parent.base_id,
        "verified_at": made + timedelta(hours=1) if verified else None,
        "original_size_bytes": 2_000_000,
        "layer_size_bytes": 2_000_000 if parent is None else 2000,
        "stored_size_bytes": 1_000_000 if parent is None else 1000,
    }
    return backup(0, **(known | changes))


def chain(first: float, *rest: float, **changes: Any) -> list[Backup]:
    """Return a full and the increments on it, oldest first."""
    made = [at(first)]
    for days in rest:
        made.append(at(days, parent=made[-1], **changes))
    return made


def why(planned: RetentionPlan, one: Backup) -> tuple[str, ...]:
    return next((kept.reasons for kept in planned.keep if kept.backup.id == one.id), ())


def expired(planned: RetentionPlan) -> list[Backup]:
    return [e.backup for e in planned.expire]


def test_no_backups_give_an_empty_plan() -> None:
    assert plan_retention([], NOTHING, SIGHT) == RetentionPlan(keep=(), expire=(), roll_forward=(), deferred=())


def test_a_base_of_the_point_in_time_window_stays_with_its_links_whatever_the_flags() -> None:
    links, last = chain(30, 29, 28), at(1)
    sight = replace(SIGHT, bases=frozenset({links[1].id}))
    policy = replace(NOTHING, max_age_seconds=5 * DAY, aggressive=True, max_roll_forward_per_run=0)

    planned = plan_retention([*links, last], policy, sight)

    assert why(planned, links[1]) == ("base of the point-in-time window",)
    assert why(planned, links[0]) == (f"base of {links[1].id}",)
    assert expired(planned) == [links[2]]


def test_backups_of_two_databases_or_storages_are_refused() -> None:
    for other in (at(1, database="archive"), at(1, storage="s3")):
        with pytest.raises(RuntimeError, match="one database in one storage"):
            plan_retention([at(2), other], NOTHING, SIGHT)


def test_the_newest_of_each_period_stays_and_says_which_it_is() -> None:
    fulls = [at(days) for days in (0.1, 0.2, 1.1, 2.1, 40, 400)]
    policy = replace(NOTHING, hourly=2, daily=3, weekly=1, monthly=2, yearly=2)
    planned = plan_retention(fulls, policy, SIGHT)

    assert why(planned, fulls[0]) == (
        "last verified good chain",
        "hourly 1 of 2",
        "daily 1 of 3",
        "weekly 1 of 1",
        "monthly 1 of 2",
        "yearly 1 of 2",
        "one of the fewest: 1 of 1",
    )
    assert why(planned, fulls[1]) == ("hourly 2 of 2",)
    assert why(planned, fulls[2]) == ("daily 2 of 3",)
    assert why(planned, fulls[3]) == ("daily 3 of 3",)
    assert why(planned, fulls[4]) == ("monthly 2 of 2",)
    assert why(planned, fulls[5]) == ("yearly 2 of 2",)
    assert planned.expire == ()


def test_a_week_is_an_iso_week() -> None:
    saturday, sunday, monday = at(9), at(8), at(7)  # 14, 15 and 16 November 2026
    planned = plan_retention([saturday, sunday, monday, at(0.1)], replace(NOTHING, weekly=3), SIGHT)

    assert why(planned, monday) == ("weekly 2 of 3",)
    assert why(planned, sunday) == ("weekly 3 of 3",)
    assert expired(planned) == [saturday]


def test_what_is_within_the_grace_or_keep_within_stays() -> None:
    old, young, new = at(8), at(6), at(0.5)
    policy = replace(NOTHING, grace_period_seconds=7 * DAY, keep_within_seconds=3600 * 13)
    planned = plan_retention([old, young, new], policy, SIGHT)

    assert why(planned, young) == ("within 7 days' grace",)
    assert why(planned, new)[1:3] == ("within 7 days' grace", "within 13 hours' keep_within")
    assert expired(planned) == [old]


@pytest.mark.parametrize(
    ("seconds", "text"), [(DAY, "1 day's"), (3600, "1 hour's"), (90, "90 seconds'"), (1, "1 second's"), (48 * 3600, "2 days'")]
)
def test_a_grace_is_written_in_the_largest_unit_that_fits(seconds: int, text: str) -> None:
    planned = plan_retention([at(0)], replace(NOTHING, grace_period_seconds=seconds), SIGHT)
    assert f"within {text} grace" in why(planned, planned.keep[0].backup)


def test_never_fewer_than_min_backups_the_usable_ones_first() -> None:
    broken = at(1, status=BackupStatus.SUSPECT)
    good = [at(2), at(3), at(4)]
    planned = plan_retention([*good, broken], replace(NOTHING, min_backups=2), replace(SIGHT, now=NOW))
    assert why(planned, good[1])[-1] == "one of the fewest: 2 of 2"
    few = plan_retention([at(5), at(6, failed_at=NOW), at(7, failed_at=NOW)], replace(NOTHING, min_backups=2), SIGHT)
    assert [kept.reasons[-1] for kept in few.keep] == ["one of the fewest: 1 of 2", "one of the fewest: 2 of 2"]
    assert [e.reason for e in few.expire] == ["not usable, and its grace is over"]


def test_only_verified_backups_stand_for_a_period_when_asked_for() -> None:
    verified, unverified = at(1.4), at(1.3, verified=False)
    rows = [at(0.1), unverified, verified]
    strict = plan_retention(rows, replace(NOTHING, daily=2), SIGHT)
    loose = plan_retention(rows, replace(NOTHING, daily=2, only_verified=False), SIGHT)

    assert why(strict, verified) == ("daily 2 of 2",)
    assert [e.reason for e in strict.expire] == ["not verified, and newer ones are"]
    assert why(loose, unverified) == ("daily 2 of 2",)
    assert [e.reason for e in loose.expire] == ["no rule keeps it"]


def test_unverified_backups_never_push_verified_ones_out() -> None:
    good = [at(days) for days in (10, 11, 12)]
    garbage = [at(n / 10, verified=False) for n in range(1, 90)]
    planned = plan_retention([*good, *garbage], replace(NOTHING, daily=3), SIGHT)

    assert [why(planned, one)[-1] for one in good] == ["daily 1 of 3", "daily 2 of 3", "daily 3 of 3"]
    assert why(planned, garbage[0])[0] == "newer than the last verified backup"


def test_nothing_goes_while_nothing_is_verified_yet() -> None:
    planned = plan_retention([at(400, verified=False), at(1, verified=False)], NOTHING, SIGHT)
    assert planned.expire == () and planned.keep[1].reasons == ("nothing is verified yet",)


def test_what_is_older_than_max_age_goes_but_for_the_floors() -> None:
    ancient, old, new = at(90), at(50), at(41, verified=False)
    policy = replace(NOTHING, monthly=12, max_age_seconds=40 * DAY)
    planned = plan_retention([ancient, old, new], policy, SIGHT)

    assert why(planned, old) == ("last verified good chain",)
    assert why(planned, new) == ("one of the fewest: 1 of 1",)
    assert [e.reason for e in planned.expire] == ["older than max_age"]


def test_the_last_verified_good_chain_stays_with_all_its_links() -> None:
    links = chain(30, 29, 28)
    bad = [at(days, failed_at=NOW) for days in (2, 1)]
    planned = plan_retention([*links, *bad], replace(NOTHING, aggressive=True), SIGHT)

    assert why(planned, links[2])[0] == "last verified good chain"
    assert why(planned, links[0]) == (f"base of {links[2].id}",)
    assert why(planned, links[1]) == (f"link of {links[2].id}",)
    assert expired(planned) == bad


def test_a_held_backup_stays_with_what_it_needs() -> None:
    links = chain(30, 29)
    planned = plan_retention([*links, at(1)], NOTHING, replace(SIGHT, holds={links[1].id: "incident 4711"}))

    assert why(planned, links[1]) == ("held: incident 4711",)
    assert why(planned, links[0]) == (f"base of {links[1].id}",)


def test_nothing_older_than_an_unanswered_suspect_goes() -> None:
    old, suspect, unproven = at(30), at(10, status=BackupStatus.SUSPECT), at(9, verified=False)
    planned = plan_retention([at(31), old, suspect, unproven], replace(NOTHING, aggressive=True), SIGHT)

    assert planned.expire == ()
    assert why(planned, old)[1] == f"while {suspect.id} is suspect"
    assert why(planned, suspect) == ("suspect: stays until a newer backup is verified and its grace is over",)


def test_a_suspect_that_a_newer_verified_backup_answers_counts_until_its_whole_grace_is_over() -> None:
    old, suspect, answer = at(30), at(5, status=BackupStatus.SUSPECT), at(4)
    hard = replace(NOTHING, aggressive=True, grace_period_seconds=7 * DAY)

    assert plan_retention([old, suspect, answer], hard, SIGHT).expire == ()
    assert expired(plan_retention([old, suspect, answer], replace(hard, grace_period_seconds=3 * DAY), SIGHT)) == [old, suspect]


def test_a_backup_from_the_future_stays_and_takes_nobody_s_place() -> None:
    good, future = at(1), at(-400)
    planned = plan_retention([at(2), good, future], replace(NOTHING, daily=1), SIGHT)

    assert why(planned, future) == ("its time is ahead of the clock",)
    assert why(planned, good)[:2] == ("last verified good chain", "daily 1 of 1")
    assert expired(planned) == [at(2)]


def test_dependents_go_before_what_they_need_oldest_chain_first() -> None:
    first, second = chain(30, 29, 28), chain(20, 19)
    side = at(18, parent=second[0])
    planned = plan_retention([*second, at(1), *first, side], NOTHING, SIGHT)

    assert expired(planned) == [first[2], first[1], first[0], side, second[1], second[0]]


def test_a_chain_with_a_hole_or_a_loop_counts_for_nothing_and_goes() -> None:
    full, orphan = at(1), at(3, parent=at(4))
    loop = [at(5), at(6)]
    loop = [replace(loop[0], parent_id=loop[1].id), replace(loop[1], parent_id=loop[0].id)]
    planned = plan_retention([full, orphan, *loop], replace(NOTHING, daily=9), SIGHT)

    assert {b.id for b in expired(planned)} == {orphan.id, loop[0].id, loop[1].id}
    assert [kept.backup for kept in planned.keep] == [full]


def test_a_kept_backup_whose_parent_is_gone_is_kept_all_the_same() -> None:
    orphan = at(3, parent=at(4))
    planned = plan_retention([at(1), orphan], NOTHING, replace(SIGHT, holds={orphan.id: "evidence"}))
    assert why(planned, orphan) == ("held: evidence",)


def test_links_that_stand_for_nothing_else_are_rolled_forward_when_that_saves_space() -> None:
    links = chain(30, 29, 28, 27, stored_size_bytes=500_000, layer_size_bytes=1_000_000)
    planned = plan_retention([*links, at(1)], NOTHING, replace(SIGHT, holds={links[3].id: "x"}))
    (rolled,) = planned.roll_forward

    assert rolled.backup == links[3]
    assert rolled.frees == (links[2], links[1], links[0])
    assert (rolled.layer_bytes, rolled.saves_bytes) == (1_000_000, 1_500_000)
    assert rolled.reason == "3 links below it stand for nothing else (saves space)"
    assert planned.expire == () and planned.n_expired == 3
    assert why(planned, links[0]) == ()


def test_a_roll_forward_for_crumbs_is_not_made_nor_one_of_what_is_not_verified() -> None:
    crumbs = chain(30, 29, 28)
    hold = replace(SIGHT, holds={crumbs[2].id: "x"})
    assert plan_retention([*crumbs, at(1)], NOTHING, hold).roll_forward == ()
    big = chain(30, 29, 28, stored_size_bytes=900_000, verified=False)
    assert plan_retention([*big, at(1)], NOTHING, replace(SIGHT, holds={big[2].id: "x"})).roll_forward == ()
    assert plan_retention([*big, at(1)], NOTHING, replace(SIGHT, holds={big[2].id: "x"})).expire == ()


def test_links_older_than_max_age_are_rolled_away_whatever_that_costs() -> None:
    links = chain(50, 30)
    planned = plan_retention([*links, at(1)], replace(NOTHING, max_age_seconds=40 * DAY, monthly=3), SIGHT)
    (rolled,) = planned.roll_forward

    assert rolled.backup == links[1] and rolled.saves_bytes < rolled.layer_bytes / 4
    assert rolled.reason == "1 link below it stands for nothing else (max_age)"


def test_a_link_that_two_kept_backups_need_goes_when_both_are_rolled_forward() -> None:
    full, link = chain(30, 29, stored_size_bytes=900_000)
    two = [at(days, parent=link, stored_size_bytes=900_000) for days in (28, 27)]
    far = at(26, parent=at(25, parent=two[1], stored_size_bytes=900_000), stored_size_bytes=900_000)
    middle = at(25, parent=two[1], stored_size_bytes=900_000)
    holds = {b.id: "x" for b in (two[0], far)}
    planned = plan_retention([full, link, *two, middle, far, at(1)], NOTHING, replace(SIGHT, holds=holds))

    assert [r.backup for r in planned.roll_forward] == [far, two[0]]
    assert planned.roll_forward[0].frees == (middle, two[1])
    assert planned.roll_forward[1].frees == (link, full)


def test_a_layer_without_pages_is_estimated_as_it_is() -> None:
    empty = at(30, layer_size_bytes=0, stored_size_bytes=0)
    links = [empty, at(29, parent=empty, stored_size_bytes=9_000_000), at(28, parent=at(29))]
    planned = plan_retention([*links, at(1)], NOTHING, replace(SIGHT, holds={links[2].id: "x"}))
    assert planned.roll_forward == () or planned.roll_forward[0].layer_bytes == 2_000_000


def test_a_run_expires_no_more_than_its_cap_and_leaves_the_rest_for_the_next() -> None:
    old = [at(days) for days in (30, 29, 28)]
    planned = plan_retention([*old, at(1)], replace(NOTHING, max_expire_per_run=2), SIGHT)

    assert expired(planned) == old[:2]
    assert [e.backup for e in planned.deferred] == [old[2]]


def test_a_run_that_is_at_its_cap_rolls_nothing_forward() -> None:
    links = chain(30, 29, 28, stored_size_bytes=900_000)
    more = chain(20, 19, 18, stored_size_bytes=900_000)
    holds = replace(SIGHT, holds={links[2].id: "x", more[2].id: "x"})
    one_roll = plan_retention([*links, *more, at(1)], replace(NOTHING, max_roll_forward_per_run=1), holds)
    cut = plan_retention([*links, *more, at(1)], replace(NOTHING, max_expire_per_run=3), holds)
    none = plan_retention([*links, *more, at(1), at(40)], replace(NOTHING, max_expire_per_run=1), holds)

    assert [r.backup for r in one_roll.roll_forward] == [links[2]]
    assert {e.reason for e in one_roll.deferred} == {f"needed until {more[2].id} is rolled forward"}
    assert [r.frees for r in cut.roll_forward] == [(links[1], links[0]), (more[1],)]
    assert [e.backup for e in cut.deferred] == [more[0]]
    assert none.roll_forward == () and none.n_expired == 1 and len(none.deferred) == 4


def test_without_roll_forwards_links_stay() -> None:
    links = chain(30, 29, 28, stored_size_bytes=900_000)
    policy = replace(NOTHING, max_roll_forward_per_run=0)
    planned = plan_retention([*links, at(1)], policy, replace(SIGHT, holds={links[2].id: "x"}))
    assert planned.n_expired == 0 and planned.deferred == ()


def test_a_backup_that_was_rolled_forward_counts_as_verified_until_its_next_verdict() -> None:
    rolled = at(2, parent_id=None, rolled_at=NOW, verified=False)
    assert why(plan_retention([rolled, at(3)], NOTHING, SIGHT), rolled)[0] == "last verified good chain"
    failed = replace(rolled, failed_at=NOW)
    assert why(plan_retention([failed, at(3)], NOTHING, SIGHT), failed) == ()


def test_aggressive_shrinks_grace_and_counts_and_leaves_the_rest() -> None:
    rows = [at(days) for days in (0.5, 1.5, 2.5, 3.5, 4.5)]
    gentle = replace(NOTHING, daily=7, grace_period_seconds=7 * DAY)
    assert plan_retention(rows, gentle, SIGHT).expire == ()
    hard = plan_retention(rows, replace(gentle, aggressive=True), SIGHT)
    assert [kept.backup for kept in hard.keep] == rows[:3]
    assert "within 1 day's grace" in why(hard, rows[0])


@pytest.mark.parametrize(("off", "said"), [(timedelta(minutes=11), "ahead of"), (timedelta(days=-3), "behind")])
def test_a_clock_that_jumped_against_the_storage_s_stops_expiry(off: timedelta, said: str) -> None:
    old = at(300)
    planned = plan_retention([old, at(10)], NOTHING, replace(SIGHT, now=NOW + off))

    assert said in planned.stopped
    assert (planned.expire, planned.roll_forward, planned.deferred) == ((), (), ())
    assert why(planned, old) == (f"expiry is stopped: {planned.stopped}",)


def test_a_damaged_document_stops_expiry_and_is_named() -> None:
    planned = plan_retention([at(300), at(1)], NOTHING, replace(SIGHT, damaged=("object manifests/memory/x.json: damaged",)))
    assert planned.expire == () and "object manifests/memory/x.json" in planned.stopped
    assert plan_retention([at(300)], NOTHING, replace(SIGHT, damaged=("a", "b", "c"))).stopped.endswith("a, and 2 more")


def test_the_run_of_a_day_is_due_from_one_o_clock_utc() -> None:
    assert slot(datetime(2026, 11, 22, 0, 59, tzinfo=UTC)) == "20261121"
    assert slot(datetime(2026, 11, 22, 1, 0, tzinfo=UTC)) == "20261122"
