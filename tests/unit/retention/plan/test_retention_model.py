"""The planner against a second, naive one, over thousands of random histories: same rules, written differently."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from continuum_tasks.model import Backup, BackupId, BackupStatus, Strategy
from continuum_tasks.retention.plan.keep_reasons import Policy, RetentionInputs
from continuum_tasks.retention.plan.retention import RetentionPlan, plan_retention
from tests.support.sampling import WHOLE
from tests.unit.retention.plan.rows import backup

pytestmark = pytest.mark.slow

NOW = datetime(2026, 11, 23, 12, 34, 56, tzinfo=UTC)
N_HISTORIES = 10_000 if WHOLE else 1_500
LEAST = {"hourly": 6, "daily": 3, "weekly": 2, "monthly": 3, "yearly": 1}
DAY = 86_400


def policy_from(dice: random.Random) -> Policy:
    return Policy(
        hourly=dice.choice([0, 1, 3, 24]),
        daily=dice.choice([0, 1, 2, 7]),
        weekly=dice.choice([0, 1, 4]),
        monthly=dice.choice([0, 1, 12]),
        yearly=dice.choice([0, 0, 2]),
        keep_within_seconds=dice.choice([0, 0, 3600, 2 * DAY]),
        min_backups=dice.choice([1, 1, 3, 5]),
        max_age_seconds=dice.choice([0, 0, 5 * DAY, 40 * DAY]),
        grace_period_seconds=dice.choice([0, 3600, 2 * DAY, 7 * DAY]),
        only_verified=dice.random() < 0.6,
        max_expire_per_run=dice.choice([1, 3, 1000, 1000]),
        max_roll_forward_per_run=dice.choice([0, 1, 100, 100]),
        aggressive=dice.random() < 0.3,
    )


def history_from(dice: random.Random) -> list[Backup]:
    """Chains as backups make them (mostly), at random intervals, with suspects, failures, holes and odd clocks."""
    made: list[Backup] = []
    at = NOW - timedelta(seconds=dice.choice([DAY, 10 * DAY, 60 * DAY, 400 * DAY]))
    step = dice.choice([600, 7200, DAY // 2, 5 * DAY])
    end, most = NOW + timedelta(seconds=dice.choice([0, 0, 0, 3 * step])), dice.choice([3, 12, 30])
    while at < end and len(made) < most:
        made.append(_one(dice, made, at))
        at += timedelta(seconds=dice.randint(1, 2 * step))
    gone = {b.id for b in made if dice.random() < dice.choice([0, 0, 0.05])}
    made = [b for b in made if b.id not in gone]
    dice.shuffle(made)
    return made


def _one(dice: random.Random, made: list[Backup], at: datetime) -> Backup:
    strategy = dice.choice([Strategy.FULL, Strategy.DIFFERENTIAL, *[Strategy.INCREMENTAL] * 6])
    good = [b for b in made if b.status is BackupStatus.COMPLETED]
    parent = None
    if good and strategy is not Strategy.FULL:
        snapshots = [b for b in good if b.parent_id is None]
        parent = snapshots[-1] if strategy is Strategy.DIFFERENTIAL and snapshots else good[-1]
        parent = dice.choice(good) if dice.random() < 0.05 else parent
    verified = at + timedelta(minutes=5) if dice.random() < 0.5 else None
    failed = at + timedelta(minutes=dice.choice([1, 9])) if dice.random() < 0.06 else None
    size = 1_000_000 if parent is None else dice.choice([1000, 50_000, 400_000])
    return backup(
        0,
        id=BackupId.make(strategy, at),
        strategy=strategy,
        status=BackupStatus.SUSPECT if dice.random() < dice.choice([0, 0.02, 0.1]) else BackupStatus.COMPLETED,
        created_at=at,
        parent_id=None if parent is None else parent.id,
        base_id=BackupId.make(strategy, at) if parent is None else parent.base_id,
        verified_at=verified,
        failed_at=failed,
        original_size_bytes=2_000_000,
        layer_size_bytes=2_000_000 if parent is None else 2 * size,
        stored_size_bytes=size,
    )


def sight_from(dice: random.Random, history: Sequence[Backup]) -> RetentionInputs:
    held = {b.id: "because" for b in history if dice.random() < dice.choice([0, 0, 0.1])}
    bases = frozenset(b.id for b in history if dice.random() < dice.choice([0, 0, 0.1]))
    return RetentionInputs(now=NOW, storage_now=NOW + timedelta(seconds=dice.randint(-500, 500)), holds=held, bases=bases)


# The reference: every rule by looking at all backups again for each one; no shared code with the planner.


def chain_of(one: Backup, history: Sequence[Backup]) -> list[Backup] | None:
    """All that a restore of `one` needs, itself first; None when something is missing."""
    found = [one]
    while found[-1].parent_id is not None:
        parents = [b for b in history if b.id == found[-1].parent_id]
        if not parents or parents[0] in found:
            return None
        found.append(parents[0])
    return found


def is_sound(one: Backup) -> bool:
    failed_last = one.failed_at is not None and not (one.verified_at is not None and one.verified_at > one.failed_at)
    return one.status is BackupStatus.COMPLETED and not failed_last


def is_usable(one: Backup, history: Sequence[Backup]) -> bool:
    chain = chain_of(one, history)
    return chain is not None and all(is_sound(link) for link in chain)


def is_verified(one: Backup) -> bool:
    if one.rolled_at is not None and one.verified_at is None:
        return one.failed_at is None
    return one.verified_at is not None and (one.failed_at is None or one.failed_at < one.verified_at)


def newer(a: Backup, b: Backup) -> bool:
    return (a.created_at, a.id) > (b.created_at, b.id)


def period(name: str, at: datetime) -> str:
    return at.strftime({"hourly": "%Y%m%d%H", "daily": "%Y%m%d", "weekly": "%G%V", "monthly": "%Y%m", "yearly": "%Y"}[name])


class Reference:
    def __init__(self, history: Sequence[Backup], policy: Policy, sight: RetentionInputs) -> None:
        self.policy, self.sight = policy, sight
        self.history = sorted(history, key=lambda b: (b.created_at, b.id), reverse=True)
        self.future = [b for b in self.history if b.created_at - sight.now > timedelta(minutes=10)]
        self.usable = [b for b in self.history if is_usable(b, self.history) and b not in self.future]
        self.verified = [b for b in self.usable if is_verified(b)]

    def age(self, one: Backup) -> float:
        return (self.sight.now - one.created_at).total_seconds()

    def floors(self) -> set[BackupId]:
        """What no policy and no flag may let go, without the links below it."""
        found = {b.id for b in [*self.verified[:1], *self.future]} | set(self.sight.holds) | set(self.sight.bases)
        for suspect in self.history:
            if suspect.status is not BackupStatus.SUSPECT or suspect in self.future:
                continue
            answered = any(newer(b, suspect) for b in self.verified)
            if answered and self.age(suspect) >= self.policy.grace_period_seconds:
                continue
            if not answered or self.policy.grace_period_seconds > 0:
                found |= {b.id for b in self.history if not newer(b, suspect)}
        return found

    def wanted(self) -> set[BackupId]:
        policy, found = self.policy, self.floors()
        grace = min(policy.grace_period_seconds, DAY) if policy.aggressive else policy.grace_period_seconds
        for one in self.history:
            if (grace and self.age(one) < grace) or (policy.keep_within_seconds and self.age(one) < policy.keep_within_seconds):
                found.add(one.id)
            if self._stands_for_a_period(one) or self._is_not_replaced(one):
                found.add(one.id)
        rest = [b for b in self.history if b not in self.usable]
        found |= {b.id for b in (self.usable + rest)[: policy.min_backups]}
        return found

    def _is_too_old(self, one: Backup) -> bool:
        return bool(self.policy.max_age_seconds) and self.age(one) >= self.policy.max_age_seconds

    def _stands_for_a_period(self, one: Backup) -> bool:
        eligible = [b for b in (self.verified if self.policy.only_verified else self.usable) if not self._is_too_old(b)]
        if one not in eligible:
            return False
        for name, least in LEAST.items():
            count = getattr(self.policy, name)
            count = min(count, least) if self.policy.aggressive else count
            mine = period(name, one.created_at)
            newest = not any(period(name, b.created_at) == mine and newer(b, one) for b in eligible)
            later = {period(name, b.created_at) for b in eligible if newer(b, one)} - {mine}
            if newest and len(later) < count:
                return True
        return False

    def _is_not_replaced(self, one: Backup) -> bool:
        replaced = any(not newer(one, b) for b in self.verified)
        return self.policy.only_verified and one in self.usable and not self._is_too_old(one) and not replaced

    def kept(self) -> set[BackupId]:
        by_id = {b.id: b for b in self.history}
        found: set[BackupId] = set()
        for backup_id in self.wanted():
            at: BackupId | None = backup_id
            while at is not None and at in by_id and at not in found:
                found.add(at)
                at = by_id[at].parent_id
        return found


# How a plan is carried out, step by step.


def steps(planned: RetentionPlan) -> Iterator[tuple[str, Any]]:
    for expired in planned.expire:
        yield "expire", expired.backup
    for rolled in planned.roll_forward:
        yield "roll", rolled
        for link in rolled.frees:
            yield "expire", link


def carry_out(history: Sequence[Backup], step: tuple[str, Any], *, verified_again: bool = True) -> list[Backup]:
    verb, subject = step
    if verb == "expire":
        return [b for b in history if b.id != subject.id]
    rolled = replace(
        subject.backup,
        parent_id=None,
        rolled_at=NOW,
        layer_size_bytes=subject.backup.original_size_bytes,
        stored_size_bytes=subject.layer_bytes,
        verified_at=NOW if verified_again else None,
        failed_at=None,
    )
    return [rolled if b.id == rolled.id else b for b in history]


def cases(n: int, *, start: int = 0) -> Iterator[tuple[random.Random, list[Backup], Policy, RetentionInputs]]:
    for seed in range(start, start + n):
        dice = random.Random(seed)
        history = history_from(dice)
        yield dice, history, policy_from(dice), sight_from(dice, history)


def ids(backups: Sequence[Backup]) -> set[BackupId]:
    return {b.id for b in backups}


def gone(planned: RetentionPlan) -> set[BackupId]:
    return {subject.id for verb, subject in steps(planned) if verb == "expire"}


@pytest.mark.sampled
def test_the_plan_is_the_reference_s_and_breaks_no_chain_and_no_floor_wherever_it_is_cut() -> None:
    n_expired = n_rolled = n_deferred = 0
    for dice, history, policy, sight in cases(N_HISTORIES):
        planned = plan_retention(history, policy, sight)
        reference = Reference(history, policy, sight)
        usable = ids(reference.usable)
        kept, wanted = reference.kept(), reference.wanted()
        stays = {one.backup.id for one in planned.keep}
        freed = {link.id for rolled in planned.roll_forward for link in rolled.frees}
        deferred = {one.backup.id for one in planned.deferred}

        assert stays | gone(planned) | deferred == ids(history)
        assert len(planned.keep) + planned.n_expired + len(planned.deferred) == len(history)
        assert {e.backup.id for e in planned.expire} <= ids(history) - kept
        assert (gone(planned) | deferred) - (ids(history) - kept) >= freed
        assert wanted <= stays <= kept
        assert (gone(planned) | deferred) & wanted == set()
        assert reference.floors() <= stays
        assert all(one.reasons and all(one.reasons) for one in planned.keep)
        assert planned.n_expired <= policy.max_expire_per_run
        assert len(planned.roll_forward) <= policy.max_roll_forward_per_run

        left = list(history)
        for step in steps(planned):
            left = carry_out(left, step, verified_again=dice.random() < 0.5)
            # What was usable and is still there is usable, at this very step.
            assert all(is_usable(b, left) for b in left if b.id in usable)
        n_expired += planned.n_expired
        n_rolled += len(planned.roll_forward)
        n_deferred += len(deferred)
    assert min(n_expired, n_rolled, n_deferred) > N_HISTORIES // 10  # the histories reach what is being tested


def test_the_same_rows_in_any_order_give_the_same_plan() -> None:
    for dice, history, policy, sight in cases(500, start=50_000):
        planned = plan_retention(history, policy, sight)
        dice.shuffle(history)
        assert plan_retention(history, policy, sight) == planned


def test_after_a_plan_was_applied_in_whole_or_in_part_nothing_new_expires() -> None:
    for dice, history, policy, sight in cases(2000, start=60_000):
        planned = plan_retention(history, policy, sight)
        done = list(steps(planned))
        cut = dice.choice([len(done), dice.randint(0, len(done))])
        left = list(history)
        for step in done[:cut]:
            left = carry_out(left, step, verified_again=dice.random() < 0.5)
        again = plan_retention(left, policy, sight)
        announced = gone(planned) | {one.backup.id for one in planned.deferred}
        assert gone(again) | {one.backup.id for one in again.deferred} == announced & ids(left)


def test_run_after_run_comes_to_an_end_and_then_does_nothing() -> None:
    for _, history, policy, sight in cases(300, start=70_000):
        unbound = replace(policy, max_roll_forward_per_run=max(1, policy.max_roll_forward_per_run))
        left = history
        for _ in range(2 * len(history) + 2):
            planned = plan_retention(left, unbound, sight)
            for step in steps(planned):
                left = carry_out(left, step)
        assert (planned.n_expired, planned.roll_forward, planned.deferred) == (0, (), ())


def test_aggressive_keeps_no_more_and_never_less_than_the_floors() -> None:
    for _, history, policy, sight in cases(1000, start=80_000):
        gentle = plan_retention(history, replace(policy, aggressive=False, max_roll_forward_per_run=0), sight)
        hard = plan_retention(history, replace(policy, aggressive=True, max_roll_forward_per_run=0), sight)
        stays = {one.backup.id for one in hard.keep}
        assert stays <= {one.backup.id for one in gentle.keep}
        assert Reference(history, policy, sight).floors() <= stays


def test_a_roll_forward_is_paid_for_by_what_it_frees_unless_age_asks_for_it() -> None:
    for _, history, policy, sight in cases(1000, start=90_000):
        ageless = replace(policy, max_age_seconds=0, max_expire_per_run=1000)
        left, planned = list(history), plan_retention(history, ageless, sight)
        for expired in planned.expire:
            left = carry_out(left, ("expire", expired.backup))
        before = sum(b.stored_size_bytes for b in left)
        for rolled in planned.roll_forward:
            left = carry_out(left, ("roll", rolled))
            for link in rolled.frees:
                left = carry_out(left, ("expire", link))
            after = sum(b.stored_size_bytes for b in left)
            assert before - after == rolled.saves_bytes >= rolled.layer_bytes / 4
            before = after


@pytest.mark.parametrize("off", [timedelta(days=400), timedelta(days=-400), timedelta(minutes=11), timedelta(minutes=-11)])
def test_a_clock_that_jumped_expires_nothing(off: timedelta) -> None:
    for _, history, policy, sight in cases(200, start=100_000):
        planned = plan_retention(history, policy, replace(sight, now=NOW + off, storage_now=NOW))
        assert planned.n_expired == 0 and not planned.deferred and not planned.roll_forward
        assert ids([one.backup for one in planned.keep]) == ids(history)
        assert "clock" in planned.stopped


def test_a_year_of_increments_every_hour_is_planned_within_a_minute() -> None:
    made: list[Backup] = []
    for n in range(9000):
        made.append(_one(random.Random(n), made[-1:], NOW - timedelta(hours=9000 - n)))
    began = time.monotonic()
    planned = plan_retention(made, policy_from(random.Random(1)), RetentionInputs(now=NOW, storage_now=NOW, holds={}))
    assert len(planned.keep) + planned.n_expired + len(planned.deferred) == 9000
    assert time.monotonic() - began < 60
