"""Which commit stands for an instant, and which backup a restore to it begins with, against models that try everything."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from continuum_tasks.errors import BackupNotFound
from continuum_tasks.history import timeline as plan
from continuum_tasks.history.timeline import NoCommit, TimelineSpan, Where
from continuum_tasks.model import Backup, Commit, Position
from continuum_tasks.units import microseconds
from tests.unit.history.timelines import EPOCH_US, SECOND_US, commit, histories, standing, timeline
from tests.unit.retention.plan.rows import backup


@st.composite
def many(draw: st.DrawFn) -> list[list[Commit]]:
    """Up to three timelines, oldest first, each after the one before it; the oldest may have lost its beginning."""
    found: list[list[Commit]] = []
    start_us = EPOCH_US
    for n in range(draw(st.integers(0, 3))):
        commits = draw(histories(start_us=start_us, most=6))
        start_us = commits[-1].observed_us + draw(st.integers(1, 5)) * SECOND_US
        found.append(commits[draw(st.integers(0, len(commits) - 1)) :] if n == 0 else commits)
    return found


def lines(histories: Sequence[Sequence[Commit]]) -> list[TimelineSpan]:
    made = [TimelineSpan(timeline=timeline(n), first=one[0], last=one[-1]) for n, one in enumerate(histories)]
    return made[::-1]


def model(when_us: int, histories: Sequence[Sequence[Commit]], watched_until_us: int) -> tuple[int, int] | Where:
    """Walk over all commits of all timelines in order, and hold each instant against the one before and the one after it."""
    flat = [(n, one) for n, history in enumerate(histories) for one in history]
    before = [(n, one) for n, one in flat if one.observed_us <= when_us]
    after = [(n, one) for n, one in flat if one.observed_us > when_us]
    if not before:
        return Where.BEFORE
    n, at = before[-1]
    if not after:
        known = when_us <= max(at.observed_us, watched_until_us)
        return (n, at.number) if known else Where.AFTER
    m, following = after[0]
    if m != n:
        return (n, at.number) if when_us == at.observed_us else Where.HOLE
    in_hole = following.resumed and following.observed_us - following.unseen_us < when_us < following.observed_us
    return Where.HOLE if in_hole else (n, at.number)


def located(when_us: int, histories: Sequence[Sequence[Commit]], watched_until_us: int) -> tuple[int, int] | NoCommit:
    line = plan.choose_timeline(when_us, lines(histories), watched_until_us=watched_until_us)
    if isinstance(line, NoCommit):
        return line
    n = next(n for n in range(len(histories)) if timeline(n) == line.timeline)
    index = plan.last_at(when_us, histories[n])
    following = histories[n][index + 1] if index + 1 < len(histories[n]) else None
    missed = plan.between(when_us, histories[n][index], following, timeline=line.timeline)
    return missed or (n, histories[n][index].number)


@given(found=many(), seconds=st.integers(-3, 60), watched=st.integers(0, 60), fraction=st.sampled_from([0, 1, 500_000]))
def test_an_instant_is_the_last_commit_seen_by_then_or_nothing(
    found: list[list[Commit]], seconds: int, watched: int, fraction: int
) -> None:
    when_us, watched_until_us = EPOCH_US + seconds * SECOND_US + fraction, EPOCH_US + watched * SECOND_US

    got = located(when_us, found, watched_until_us)

    expected = model(when_us, found, watched_until_us)
    if isinstance(expected, Where):
        assert isinstance(got, NoCommit)
        assert got.where is expected
        assert got.from_us is None or got.from_us <= when_us
        assert got.to_us is None or when_us < got.to_us
        if found:
            assert plan.show_instant(when_us) in got.message
            edges = [edge for edge in (got.from_us, got.to_us) if edge is not None]
            assert edges
            assert all(plan.show_instant(edge) in got.message for edge in edges)
        assert got.hint
    else:
        assert got == expected


def test_no_more_timelines_are_read_than_needed() -> None:
    def endless(first: TimelineSpan) -> Sequence[TimelineSpan]:
        yield first  # type: ignore[misc]
        raise AssertionError("asked for an older timeline")

    line = TimelineSpan(timeline=timeline(), first=commit(1, EPOCH_US), last=commit(9, EPOCH_US + 9))
    assert plan.choose_timeline(EPOCH_US + 3, endless(line)) == line


def test_a_timeline_stands_for_as_long_as_it_is_known_to_have_been_followed() -> None:
    """A service that is stopped before a restore commits nothing, and the state of that time is known."""
    old = TimelineSpan(timeline=timeline(0), first=commit(1, EPOCH_US), last=commit(9, EPOCH_US + 9))
    new = TimelineSpan(
        timeline=timeline(1), first=commit(1, EPOCH_US + 60), last=commit(1, EPOCH_US + 60), followed_until_us=EPOCH_US + 50
    )
    assert plan.choose_timeline(EPOCH_US + 50, [new, old]) == old
    missed = plan.choose_timeline(EPOCH_US + 51, [new, old])
    assert isinstance(missed, NoCommit) and (missed.from_us, missed.to_us) == (EPOCH_US + 50, EPOCH_US + 60)
    assert plan.choose_timeline(EPOCH_US + 60, [new, old]) == new


def test_a_hole_names_its_edges_and_what_works() -> None:
    at, following = commit(7, EPOCH_US), commit(8, EPOCH_US + 9 * SECOND_US, unseen_us=6 * SECOND_US, resumed=True)

    missed = plan.between(EPOCH_US + 5 * SECOND_US, at, following, timeline=timeline())

    assert missed is not None
    err = missed.error("memory")
    assert isinstance(err, BackupNotFound)
    asked, from_text, to_text = (plan.show_instant(EPOCH_US + n * SECOND_US) for n in (5, 3, 9))
    assert err.message == (
        f"database memory: {asked} is in a hole of {timeline()}: nothing was captured"
        f" between {from_text} (commit 7) and {to_text} (commit 8)"
    )
    assert "--commit 7 --timeline timeline-20261126-000000-0badcafe" in err.hint


def restorable(base: Backup, number: int, commits: Sequence[Commit]) -> bool:
    """The model: everything the base lacks is there as commits, and none of those is a state that was only found."""
    position = base.position
    if position is None or position.timeline != timeline() or position.settled > number or base.failed_at is not None:
        return False
    return not any(one.resumed for one in commits if position.commit < one.number <= number)


def straddles(base: Backup, resumed: Sequence[int]) -> bool:
    """Tell whether a hole was found while a backup was made: it is a base of nothing, and only the hint takes it for one."""
    position = base.position
    return position is not None and any(position.commit < number <= position.settled for number in resumed)


@given(data=st.data(), commits=histories())
def test_the_base_is_the_nearest_one_that_works(data: st.DataObject, commits: list[Commit]) -> None:
    backups = data.draw(standing(len(commits)))
    number = data.draw(st.integers(1, len(commits)))
    works = [b for b in backups if restorable(b, number, commits)]
    resumed = [one.number for one in commits if one.resumed]

    def choose() -> Backup:
        base = plan.choose_base(backups, timeline(), number)
        plan.check_base(base, number, resumed, backups)
        return base

    if works:
        base = choose()
        assert base in works
        assert base.position is not None
        assert base.position.commit == max(b.position.commit for b in works if b.position is not None)
        return
    with pytest.raises(BackupNotFound, match=rf"commit {number} of ") as raised:
        choose()
    later = [n for n in range(number, len(commits) + 1) if any(restorable(b, n, commits) for b in backups)]
    if later and not any(straddles(b, resumed) for b in backups):
        assert f"--commit {later[0]} --timeline" in raised.value.hint
    else:
        assert raised.value.hint


def test_a_backup_of_another_timeline_is_no_base() -> None:
    other = backup(1, position=Position(timeline=timeline(1), commit=3, settled=3))
    assert plan.on_timeline([other, backup(2)], timeline()) == []
    with pytest.raises(BackupNotFound, match="there is no usable backup at or before it"):
        plan.choose_base([other], timeline(), 5)


@given(at=st.datetimes(min_value=datetime(1970, 1, 2), max_value=datetime(2200, 1, 1)))
def test_an_instant_keeps_every_microsecond(at: datetime) -> None:
    aware = at.replace(tzinfo=UTC)
    us = microseconds(aware)

    assert datetime.fromisoformat(plan.show_instant(us)) == aware
    assert microseconds(aware.astimezone(timezone(timedelta(hours=5)))) == us
    assert datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=us) == aware


def test_a_proof_begins_before_what_read_the_database_since_the_last_one() -> None:
    """A whole backup in between would hide what the captured increments before it are made of."""

    def at(n: int, commit: int, *, parent: int | None) -> Backup:
        return backup(n, parent=parent, position=Position(timeline=timeline(), commit=commit, settled=commit))

    made = [at(1, 1, parent=None), at(2, 5, parent=1), at(3, 8, parent=None), at(4, 9, parent=3)]
    assert plan.base_to_prove(made, timeline(), 10, proven=0) == made[1]
    assert plan.base_to_prove(made, timeline(), 10, proven=8) == made[3]
    assert plan.base_to_prove(made, timeline(), 5, proven=0) == made[1]
    assert plan.unproven(made, timeline(), since=0) == [made[1], made[3]]
    assert plan.unproven(made, timeline(), since=5) == [made[3]]
    with pytest.raises(BackupNotFound, match="no usable backup"):
        plan.base_to_prove(made, timeline(1), 10, proven=0)
