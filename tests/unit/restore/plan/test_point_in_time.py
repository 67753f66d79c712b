from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from continuum_tasks.errors import BackupNotFound, UsageError
from continuum_tasks.history.timeline import NoCommit, Where, show_instant
from continuum_tasks.model import Backup, BackupStatus
from continuum_tasks.restore.plan import point_in_time
from continuum_tasks.units import microseconds
from tests.unit.retention.plan.rows import NOW, backup

FIRST = backup(0)
SECOND = backup(60, parent=0)
THIRD = backup(120, parent=60)
ALL = (THIRD, SECOND, FIRST)


def chosen(when: datetime, backups: tuple[Backup, ...] = ALL) -> point_in_time.ChosenPoint:
    return point_in_time.choose_point(when, backups, database="memory", storage="local")


def test_the_last_snapshot_at_or_before_the_time_is_chosen_and_says_how_far_before_it_is() -> None:
    point = chosen(SECOND.created_at + timedelta(minutes=5))
    assert (point.backup, point.behind_seconds) == (SECOND, 300)


def test_a_snapshot_at_that_very_instant_counts_and_one_a_microsecond_later_does_not() -> None:
    assert chosen(SECOND.created_at).backup == SECOND
    assert chosen(SECOND.created_at - timedelta(microseconds=1)).backup == FIRST


def test_a_time_before_the_first_names_the_range_there_is() -> None:
    with pytest.raises(BackupNotFound) as caught:
        chosen(FIRST.created_at - timedelta(seconds=1))
    assert FIRST.created_at.isoformat() in caught.value.hint and THIRD.created_at.isoformat() in caught.value.hint


def test_a_time_in_the_future_gets_the_last() -> None:
    assert chosen(NOW + timedelta(days=400)).backup == THIRD


def test_a_suspect_backup_and_what_builds_on_it_are_passed_over() -> None:
    suspect = replace(SECOND, status=BackupStatus.SUSPECT)
    assert chosen(THIRD.created_at, (THIRD, suspect, FIRST)).backup == FIRST


def test_of_copies_in_two_storages_the_preferred_storage_s_is_taken() -> None:
    other = replace(FIRST, storage="s3")
    assert chosen(FIRST.created_at, (FIRST, other)).backup == FIRST
    assert point_in_time.choose_point(FIRST.created_at, (FIRST, other), database="memory", storage="s3").backup == other


def test_a_link_in_another_storage_does_not_make_a_chain_whole() -> None:
    assert point_in_time.candidates((THIRD, SECOND, replace(FIRST, storage="s3"))) == (replace(FIRST, storage="s3"),)


def test_without_a_usable_backup_it_says_so() -> None:
    with pytest.raises(BackupNotFound, match="no usable backup"):
        chosen(NOW, ())


def missed(where: Where, *, from_us: int | None = None, to_us: int | None = None) -> NoCommit:
    return NoCommit(where=where, from_us=from_us, to_us=to_us, message="nothing", hint="look")


def test_the_newest_usable_is_chosen_and_of_its_copies_that_in_the_named_storage() -> None:
    copy = replace(THIRD, storage="s3", parent_id=None, base_id=THIRD.id, strategy=FIRST.strategy)
    assert point_in_time.newest_usable([*ALL, copy], storage="s3") == copy
    assert point_in_time.newest_usable([*ALL, copy], storage="local") == THIRD
    assert point_in_time.newest_usable([], storage="local") is None


def test_a_host_gets_its_own_backups_or_those_of_the_only_other_one() -> None:
    theirs = [replace(one, host="h2") for one in ALL]
    assert point_in_time.of_one_host([*ALL, *theirs], host=FIRST.host, database="memory") == list(ALL)
    assert point_in_time.of_one_host(theirs, host="h3", database="memory") == theirs
    with pytest.raises(UsageError, match="h2, h9 keep one of that name"):
        point_in_time.of_one_host([*theirs, replace(FIRST, host="h9")], host="h3", database="memory")


def test_a_backup_stands_before_all_commits_and_after_the_last_one_when_it_is_nearer_but_never_in_a_hole() -> None:
    when, last_us = THIRD.created_at, microseconds(SECOND.created_at)
    assert point_in_time.backup_stands(missed(Where.BEFORE, to_us=last_us), when, ALL)
    assert point_in_time.backup_stands(missed(Where.AFTER, from_us=last_us), when, ALL)
    assert not point_in_time.backup_stands(missed(Where.AFTER, from_us=microseconds(when)), when, ALL)
    assert not point_in_time.backup_stands(missed(Where.HOLE, from_us=last_us, to_us=last_us + 1), when, ALL)


def test_what_is_known_of_commits_is_said_as_one_edge() -> None:
    at_us = microseconds(NOW)
    assert point_in_time.known_commits(missed(Where.AFTER, from_us=at_us)) == f"up to {show_instant(at_us)}"
    assert point_in_time.known_commits(missed(Where.BEFORE, to_us=at_us)) == f"from {show_instant(at_us)} on"


def test_a_time_in_a_hole_names_the_backup_that_was_made_in_it() -> None:
    hole = missed(Where.HOLE, from_us=microseconds(SECOND.created_at), to_us=microseconds(NOW) + 1)
    assert f"{THIRD.id} was made in the hole" in point_in_time.no_commit(hole, NOW, ALL, database="memory").hint
    assert point_in_time.no_commit(hole, SECOND.created_at, ALL, database="memory").hint == "look"
