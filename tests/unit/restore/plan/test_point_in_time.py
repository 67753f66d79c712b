from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from continuum_tasks.errors import BackupNotFound
from continuum_tasks.model import Backup, BackupStatus
from continuum_tasks.restore.plan import point_in_time
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
