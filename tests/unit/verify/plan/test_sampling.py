"""Of many backups: which are restored, and for which reading their bytes must do."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from continuum_tasks.model import Backup
from continuum_tasks.verify.plan.sampling import newest_of_each_chain, steps
from tests.unit.retention.plan.rows import backup, histories, identify

CHAIN = [backup(0), *(backup(n, parent=n - 1) for n in range(1, 101))]


def test_of_a_short_chain_every_backup_is_restored_the_newest_first() -> None:
    found = steps(CHAIN[:4], per_chain=16)

    assert [(step.backup.id, step.covers) for step in found] == [(identify(n), ()) for n in (3, 2, 1, 0)]


def test_of_a_long_chain_some_are_restored_and_the_newest_answers_for_the_others() -> None:
    found = steps(CHAIN, per_chain=5)

    assert [step.backup.id for step in found] == [identify(n) for n in (100, 75, 50, 25, 0)]
    assert len(found[0].covers) == 96 and not any(step.covers for step in found[1:])
    (only,) = steps(CHAIN, per_chain=1)
    assert only.backup.id == identify(100) and len(only.covers) == 100


def test_a_differential_ends_a_chain_of_its_own_and_what_they_share_is_done_once() -> None:
    there = [backup(0), backup(1, parent=0), backup(2, parent=0)]

    assert [b.id for b in newest_of_each_chain(there)] == [identify(2), identify(1)]
    assert [step.backup.id for step in steps(there, per_chain=9)] == [identify(2), identify(0), identify(1)]


def test_links_outside_the_period_are_not_asked_for() -> None:
    assert [step.backup.id for step in steps(CHAIN[98:], per_chain=9)] == [identify(100), identify(99), identify(98)]


def test_the_same_id_in_two_storages_is_two_backups() -> None:
    twins = [CHAIN[0], replace(CHAIN[0], storage="s3"), replace(CHAIN[1], storage="s3")]

    assert {(s.backup.storage, s.backup.id) for s in steps(twins, per_chain=1)} == {
        ("local", identify(0)),
        ("s3", identify(1)),
    }


@given(backups=histories(), per_chain=st.integers(1, 4))
def test_every_backup_that_hangs_on_no_loop_is_restored_or_covered_exactly_once(backups: list[Backup], per_chain: int) -> None:
    found = steps(backups, per_chain=per_chain)

    spoken_for = [step.backup.id for step in found] + [link for step in found for link in step.covers]
    assert len(spoken_for) == len(set(spoken_for))
    by_id = {b.id: b for b in backups}
    reached = set()
    for end in newest_of_each_chain(backups):
        link: Backup | None = end
        while link is not None and link.id not in reached:
            reached.add(link.id)
            link = by_id.get(link.parent_id) if link.parent_id else None
    assert set(spoken_for) == reached
