"""Which backup or commit the words for a state mean, decided without a command line, and what is remarked on the way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from continuum_tasks.errors import BackupNotFound, UsageError
from continuum_tasks.findings import Remark
from continuum_tasks.host.reindex import reindex_storage
from continuum_tasks.model import BackupId
from continuum_tasks.restore.resolve_point import PointQuery, ResolvedPoint, resolve_point
from continuum_tasks.runtime import finish
from continuum_tasks.units import instant
from tests.support.recording import Recorder
from tests.support.replays import base_at, make_database, open_recorder
from tests.support.sandbox import Options, Sandbox, another_host, back_up, make, objects


@pytest.fixture
def sandbox(tmp_path: Path) -> Sandbox:
    made = make(tmp_path / "h1", Options(encryption="none"))
    make_database(made.database)
    return made


@pytest.fixture
def recorder(sandbox: Sandbox, tmp_path: Path) -> Iterator[Recorder]:
    """A base at the first commit, and three commits a minute apart after it."""
    with open_recorder(sandbox, tmp_path) as found:
        found.ship()
        base_at(sandbox, found)
        for number in range(3):
            found.run(f"INSERT INTO t (x) VALUES ({number})", seconds=60)
        found.ship()
        yield found


def resolved(sandbox: Sandbox, query: PointQuery) -> tuple[ResolvedPoint | None, list[Remark], Exception | None]:
    """Resolve a query; returns the point or the error, and what was remarked before either."""
    remarks: list[Remark] = []
    with sandbox.runtime() as runtime, closing(resolve_point(query, runtime=runtime)) as steps:
        while True:
            try:
                remarks.append(next(steps))
            except StopIteration as stop:
                return stop.value, remarks, None
            except (BackupNotFound, UsageError) as err:
                return None, remarks, err


def at(recorder: Recorder, number: int, *, seconds: float = 0) -> datetime:
    return instant(recorder.captured[number - 1].commit.observed_us) + timedelta(seconds=seconds)


def test_an_id_and_the_latest_are_backups_as_they_are(sandbox: Sandbox) -> None:
    first, second = back_up(sandbox), back_up(sandbox, "incremental")
    point, remarks, _ = resolved(sandbox, PointQuery(backup_id=first.id))
    assert point is not None and (point.backup.id, point.commit, point.name, remarks) == (first.id, None, first.id, [])
    point, remarks, _ = resolved(sandbox, PointQuery(backup_id=None, latest=True))
    assert point is not None and point.backup.id == second.id
    assert [remark.text.partition(",")[0] for remark in remarks] == [f"latest: {second.id}"]


def test_a_commit_number_is_the_commit_over_the_nearest_base(sandbox: Sandbox, recorder: Recorder) -> None:
    point, remarks, _ = resolved(sandbox, PointQuery(backup_id=None, commit=3))
    assert point is not None and point.commit is not None
    assert (point.commit.number, point.name, point.backup.position.commit) == (3, "commit 3", 1)  # type: ignore[union-attr]
    assert remarks[0].text.startswith(f"--commit: commit 3 of {recorder.timeline.id}, observed")
    assert remarks[1].text == f"restored from {point.backup.id} and the commits after it"


def test_a_time_is_the_last_commit_at_or_before_it(sandbox: Sandbox, recorder: Recorder) -> None:
    for number, seconds in ((2, 0.0), (2, 59.0), (3, 0.0)):
        point, remarks, _ = resolved(sandbox, PointQuery(backup_id=None, pitr=at(recorder, number, seconds=seconds)))
        assert point is not None and point.seen is not None and point.seen.number == number
        assert remarks[0].text.startswith(f"--pitr: commit {number} of")


def test_a_time_after_the_last_commit_is_the_backup_made_since_and_says_why(sandbox: Sandbox, recorder: Recorder) -> None:
    made = back_up(sandbox, "full")
    point, remarks, _ = resolved(sandbox, PointQuery(backup_id=None, pitr=made.created_at + timedelta(seconds=5)))
    assert point is not None and (point.backup.id, point.commit) == (made.id, None)
    texts = [remark.text for remark in remarks]
    assert texts[0].startswith("--pitr: commits are known up to ") and texts[0].endswith("so this is the state of a backup")
    assert f"--pitr: {made.id}, the last usable backup at or before" in texts[-1] and "5.00 s before" in texts[-1]


def test_a_time_that_nothing_stands_for_names_the_range_of_commits(sandbox: Sandbox, recorder: Recorder) -> None:
    query = PointQuery(backup_id=None, pitr=at(recorder, 4, seconds=3600), timeline=recorder.timeline.id)
    point, remarks, err = resolved(sandbox, query)
    assert point is None and not remarks and isinstance(err, BackupNotFound)
    assert "has commits 1 to 4" in err.message


def test_what_was_remarked_before_an_error_is_not_lost(sandbox: Sandbox, recorder: Recorder) -> None:
    """A commit without a base: which commit it is was said before."""
    for path in objects(sandbox, "manifests/").values():
        path.unlink()
    with sandbox.runtime() as runtime:
        for backup in runtime.catalog.backups():
            runtime.catalog.forget("local", backup.id)
    _, remarks, err = resolved(sandbox, PointQuery(backup_id=None, commit=3))
    assert isinstance(err, BackupNotFound)
    assert [remark.text.partition(" of ")[0] for remark in remarks] == ["--commit: commit 3"]


def test_a_suspect_backup_and_a_damaged_manifest_are_warned_of(sandbox: Sandbox) -> None:
    first = back_up(sandbox)
    second = back_up(sandbox)
    (manifest,) = (path for key, path in objects(sandbox, "manifests/").items() if second.id in key)
    manifest.write_bytes(manifest.read_bytes()[:-20])
    point, remarks, _ = resolved(sandbox, PointQuery(backup_id=None, latest=True, storage="local"))
    assert point is not None and point.backup.id == first.id
    assert [remark.warns for remark in remarks] == [True, False] and second.id in remarks[0].text


def test_a_time_without_commits_is_a_backup_of_this_host_and_of_no_other_of_several(sandbox: Sandbox, tmp_path: Path) -> None:
    own = back_up(sandbox)
    other = another_host(sandbox, tmp_path / "h2")
    make_database(other.database)
    later = back_up(other)
    query = PointQuery(backup_id=None, pitr=later.created_at + timedelta(hours=1))
    with sandbox.runtime() as runtime:
        reindex_storage(runtime.repository(), site=runtime.site)
    point, _, _ = resolved(sandbox, query)
    assert point is not None and point.backup.id == own.id
    third = another_host(sandbox, tmp_path / "h3", Options(host="h3", encryption="none"))
    _, _, err = resolved(third, query)
    assert isinstance(err, UsageError) and "hosts h1, h2" in err.message


@pytest.mark.parametrize(
    "query",
    [
        PointQuery(backup_id=None),
        PointQuery(backup_id=None, latest=True, commit=1),
        PointQuery(backup_id=BackupId("backup-full-20251206-010000"), database="main"),
    ],
)
def test_words_that_name_no_state_or_two_are_refused_before_anything_is_read(sandbox: Sandbox, query: PointQuery) -> None:
    with sandbox.runtime() as runtime, pytest.raises(UsageError):
        finish(resolve_point(query, runtime=runtime))
    assert not sandbox.store.exists()
