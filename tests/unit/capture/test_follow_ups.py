"""What a capture has others do: one job at a time, a pause after a failure, and what is said of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from continuum_tasks.capture.follow_ups import N_SEGMENTS_TO_MERGE, PAUSE_SECONDS, FollowUps, JobEnd
from continuum_tasks.capture.state.progress import CaptureProgress
from continuum_tasks.host.job_kinds import CompactSegments, CreateBackup, ProveCapture
from continuum_tasks.model import Position, Strategy, TimelineId
from tests.support.manifests import manifest
from tests.unit.capture.conftest import Listed, Setting
from tests.unit.capture.following import begun

BASE = CreateBackup(database="memory", strategy=Strategy.INCREMENTAL, storage="here")


class Needed:
    """The follow-ups of one database, and a clock that the test moves."""

    def __init__(self) -> None:
        self.now = 100.0
        self.runner = Listed()
        self.follow_ups = FollowUps("memory", "here", self.runner, monotonic=lambda: self.now)


@pytest.fixture
def needed() -> Needed:
    return Needed()


@pytest.fixture
def progress(setting: Setting) -> CaptureProgress:
    follower = begun(setting)
    follower.change(published=True)
    assert follower.standing is not None
    return follower.standing


def made(progress: CaptureProgress, *, commit: int, timeline: str = "") -> JobEnd:
    position = Position(timeline=TimelineId(timeline or progress.timeline.id), commit=commit, settled=commit)
    return JobEnd(backup=replace(manifest().backup, position=position))


def test_a_backup_is_made_behind_a_hole_though_one_was_made_just_now(needed: Needed, progress: CaptureProgress) -> None:
    assert not any(needed.follow_ups.base(progress) for _ in range(3))
    assert needed.runner.started == [(BASE, True)]
    needed.runner.end = made(progress, commit=progress.base_after)
    assert needed.follow_ups.base(progress)
    assert not needed.follow_ups.busy


def test_none_is_made_before_the_first_commit_is_published(needed: Needed, progress: CaptureProgress) -> None:
    assert not needed.follow_ups.base(replace(progress, published=False))
    assert needed.runner.started == []


@pytest.mark.parametrize("behind", ["nothing", "another timeline", "an earlier commit"])
def test_a_backup_that_stands_behind_nothing_is_not_made_again_at_once(
    needed: Needed, progress: CaptureProgress, behind: str
) -> None:
    """Else one would follow the other for as long as capture cannot say where they stand."""
    needed.follow_ups.base(progress)
    needed.runner.end = {
        "nothing": JobEnd(backup=manifest().backup),
        "another timeline": made(progress, commit=progress.base_after, timeline="timeline-20200101-000000-00000000"),
        "an earlier commit": made(progress, commit=progress.base_after - 1),
    }[behind]
    assert not any(needed.follow_ups.base(progress) for _ in range(5))
    assert len(needed.runner.started) == 1 and needed.follow_ups.busy
    needed.now += PAUSE_SECONDS
    needed.follow_ups.base(progress)
    assert len(needed.runner.started) == 2


def test_what_failed_is_said_until_something_works_and_tried_again_after_a_pause(needed: Needed) -> None:
    needed.follow_ups.backup()
    assert needed.runner.started == [(BASE, False)]
    needed.runner.end = JobEnd(error="storage s3: is away")
    for _ in range(3):
        needed.follow_ups.backup()
    assert needed.follow_ups.trouble == "the backup it needs failed: storage s3: is away"
    assert len(needed.runner.started) == 1
    needed.now += PAUSE_SECONDS
    needed.follow_ups.backup()
    assert len(needed.runner.started) == 2
    needed.runner.end = JobEnd(backup=manifest().backup)
    needed.follow_ups.backup()
    assert needed.follow_ups.trouble == ""


def test_segments_are_merged_once_there_are_enough_and_never_beside_another_job(needed: Needed) -> None:
    needed.follow_ups.compaction(N_SEGMENTS_TO_MERGE - 1)
    assert needed.runner.started == []
    needed.follow_ups.compaction(N_SEGMENTS_TO_MERGE)
    needed.follow_ups.compaction(3 * N_SEGMENTS_TO_MERGE)
    assert needed.runner.started == [(CompactSegments(database="memory", storage="here"), False)]
    needed.runner.end = JobEnd()
    needed.follow_ups.compaction(3 * N_SEGMENTS_TO_MERGE)
    assert len(needed.runner.started) == 2


@pytest.mark.parametrize(
    ("end", "is_same"),
    [
        (JobEnd(is_same=True), True),
        (JobEnd(is_same=False), False),
        (JobEnd(), None),
        (JobEnd(error="storage s3: is away"), None),
    ],
)
def test_only_what_a_proof_itself_says_counts_as_one(needed: Needed, end: JobEnd, is_same: bool | None) -> None:
    assert needed.follow_ups.proof() is None
    assert needed.runner.started == [(ProveCapture(database="memory", storage="here"), False)]
    needed.runner.end = end
    assert needed.follow_ups.proof() is is_same
    assert bool(needed.follow_ups.trouble) is bool(end.error)
