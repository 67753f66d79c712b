"""What the point-in-time window needs: after dropping what it does not, all that could be restored in it still can."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from continuum_tasks.model import Backup, Commit, Position
from continuum_tasks.retention.plan import window
from continuum_tasks.retention.plan.keep_reasons import proven
from continuum_tasks.retention.plan.window import Record
from tests.unit.history.timelines import EPOCH_US, SECOND_US, Stored, commit, histories, standing, stored, timeline
from tests.unit.retention.plan.rows import START, backup


def restorable(number: int, commits: Sequence[Commit], held: Collection[int], backups: Sequence[Backup]) -> bool:
    """The model: some backup on this side of every hole, and every commit after it, are there."""
    for one in backups:
        position = one.position
        if position is None or position.settled > number or one.failed_at is not None:
            continue
        needed = [c for c in commits if position.commit < c.number <= number]
        if all(c.number in held and not c.resumed for c in needed):
            return True
    return False


def described(found: Stored) -> Stored:
    """What a raw segment's index adds to its name."""
    first, last = found.commits[0], found.commits[-1]
    known = replace(
        found.ref, first_commit=first.number, last_commit=last.number, first_us=first.observed_us, last_us=last.observed_us
    )
    return replace(found, ref=known)


@given(data=st.data(), commits=histories(), began=st.integers(-2, 60), describe=st.booleans(), current=st.booleans())
def test_what_could_be_restored_in_the_window_still_can(
    data: st.DataObject, commits: list[Commit], began: int, describe: bool, current: bool
) -> None:
    before_us = EPOCH_US + began * SECOND_US
    pieces = data.draw(stored(commits))
    backups = data.draw(standing(len(commits)))
    resumed = tuple(one.number for one in commits if one.resumed)
    record = Record(timeline=timeline(), refs=tuple(p.ref for p in pieces), current=current, resumed=resumed)
    if describe:
        asked = window.undescribed(record, before_us=before_us)
        pieces = [described(p) if p.ref in asked else p for p in pieces]
        record = replace(record, refs=tuple(p.ref for p in pieces))
        assert window.undescribed(record, before_us=before_us) == ()

    dropped = window.plan_droppable(backups, record, before_us=before_us)
    bases = window.plan_bases(backups, record, before_us=before_us)

    if window.is_over(record, before_us=before_us):
        assert dropped == record.refs
        assert bases == frozenset()
        return
    assert dropped == record.refs[: len(dropped)]
    assert record.refs[-1] not in dropped
    held = {one.number for p in pieces if p.ref not in dropped for one in p.commits}
    everything = {one.number for one in commits}
    first = max([one.number for one in commits if one.observed_us <= before_us], default=1)
    assert first in held  # what was current when the window began is found by its time
    for some in (backups, [b for b in backups if proven(b)]):
        kept = [b for b in some if b.id in bases]
        for number in range(first, len(commits) + 1):
            assert restorable(number, commits, held, kept) == restorable(number, commits, everything, some)
            assert restorable(number, commits, held, some) == restorable(number, commits, everything, some)


def one_a_second(n: int) -> list[Stored]:
    commits = [commit(number, EPOCH_US + number * SECOND_US, resumed=number == 1) for number in range(1, n + 1)]
    refs = [replace(ref_of(one), key=f"segment {one.number}") for one in commits]
    return [Stored(ref=ref, commits=(one,)) for ref, one in zip(refs, commits, strict=True)]


def ref_of(one: Commit) -> window.SegmentRef:
    return window.SegmentRef(
        key="",
        first_seq=one.number,
        last_seq=one.number,
        size_bytes=1,
        modified_us=0,
        first_commit=one.number,
        last_commit=one.number,
        first_us=one.observed_us,
        last_us=one.observed_us,
    )


def on(n: int, at: int, *, settled: int | None = None, verified: bool = True) -> Backup:
    position = Position(timeline=timeline(), commit=at, settled=at if settled is None else settled)
    return backup(n, position=position, verified_at=START if verified else None)


def test_segments_below_the_windows_base_go_and_the_base_stays() -> None:
    record = Record(timeline=timeline(), refs=tuple(p.ref for p in one_a_second(20)), current=True, resumed=(1,))
    backups = [on(1, 2), on(2, 6), on(3, 15)]
    before_us = EPOCH_US + 10 * SECOND_US

    assert [ref.first_seq for ref in window.plan_droppable(backups, record, before_us=before_us)] == [1, 2, 3, 4, 5, 6]
    assert window.plan_bases(backups, record, before_us=before_us) == {backups[1].id}


def test_a_base_that_is_not_proven_frees_nothing_and_keeps_the_proven_one() -> None:
    record = Record(timeline=timeline(), refs=tuple(p.ref for p in one_a_second(20)), current=True, resumed=(1,))
    backups = [on(1, 2), on(2, 6, verified=False)]
    before_us = EPOCH_US + 10 * SECOND_US

    assert [ref.first_seq for ref in window.plan_droppable(backups, record, before_us=before_us)] == [1, 2]
    assert window.plan_bases(backups, record, before_us=before_us) == {one.id for one in backups}


def test_a_base_that_is_settled_within_the_window_frees_nothing() -> None:
    record = Record(timeline=timeline(), refs=tuple(p.ref for p in one_a_second(20)), current=True, resumed=(1,))
    backups = [on(1, 6, settled=11)]
    before_us = EPOCH_US + 10 * SECOND_US

    assert window.plan_droppable(backups, record, before_us=before_us) == ()
    assert window.plan_bases(backups, record, before_us=before_us) == {backups[0].id}


def test_a_timeline_that_ended_before_the_window_goes_whole_unless_it_is_the_current_one() -> None:
    record = Record(timeline=timeline(), refs=tuple(p.ref for p in one_a_second(5)), current=False, resumed=(1,))
    late_us = EPOCH_US + 10_000 * SECOND_US

    assert window.plan_droppable([], record, before_us=late_us) == record.refs
    assert window.plan_droppable([on(1, 5)], replace(record, current=True), before_us=late_us) == record.refs[:-1]
    assert window.plan_droppable([], replace(record, refs=(), current=True), before_us=late_us) == ()


def test_each_stretch_between_holes_keeps_its_first_base() -> None:
    record = Record(timeline=timeline(), refs=tuple(p.ref for p in one_a_second(20)), current=True, resumed=(1, 8, 14))
    backups = [on(1, 3), on(2, 8, settled=9), on(3, 11), on(4, 15), on(5, 18)]

    assert window.plan_bases(backups, record, before_us=EPOCH_US + 5 * SECOND_US) == {
        b.id for b in (backups[0], backups[1], backups[3])
    }
