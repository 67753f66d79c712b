"""Which backups are drilled: chance among those never drilled, then those longest ago."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from continuum_tasks.model import DrillRecord, Rehearsal
from continuum_tasks.verify.plan.sampling import pick_backups
from tests.unit.retention.plan.rows import ago, backup

FIVE = [backup(n) for n in range(5)]


def drilled(n: int, days: int, kind: Rehearsal = Rehearsal.DRILL) -> DrillRecord:
    return DrillRecord(
        **{"backup_id": backup(n).id, "database": "memory", "passed": True, "at": ago(days=days), "rto_seconds": 1.0},
        **{"phases": (), "findings": (), "host": "h1", "kind": kind},
    )


@given(seed=st.integers(), n=st.integers(1, 7), done=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 99)), max_size=8))
def test_those_never_drilled_come_first_then_those_drilled_longest_ago(seed: int, n: int, done: list[tuple[int, int]]) -> None:
    records = [drilled(which, days) for which, days in done]

    chosen = pick_backups(FIVE, records, n=n, chance=Random(seed))

    last = {backup(which).id: min(days for one, days in done if one == which) for which, _ in done}
    ages = [last.get(one.id, 1000) for one in chosen]
    left_out = [last.get(one.id, 1000) for one in FIVE if one not in chosen]
    assert len({one.id for one in chosen}) == len(chosen) == min(n, 5)
    assert ages == sorted(ages, reverse=True)
    assert not left_out or max(left_out) <= min(ages)


def test_the_same_seed_picks_the_same_and_every_one_gets_its_turn() -> None:
    assert pick_backups(FIVE, [], n=2, chance=Random(7)) == pick_backups(FIVE, [], n=2, chance=Random(7))
    assert {pick_backups(FIVE, [], n=1, chance=Random(seed))[0].id for seed in range(60)} == {one.id for one in FIVE}


def test_a_test_restore_is_no_drill() -> None:
    records = [drilled(n, days=1, kind=Rehearsal.TEST_RESTORE) for n in range(4)] + [drilled(4, days=90)]

    assert all(pick_backups(FIVE, records, n=1, chance=Random(seed))[0] != FIVE[4] for seed in range(30))


def test_of_none_none_is_picked() -> None:
    assert pick_backups([], [], n=3, chance=Random(1)) == []
