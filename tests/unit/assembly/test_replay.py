"""A captured commit restored from a backup and segments, page by page as SQLite itself recovers it."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from continuum_tasks.assembly.replay import prepare_replay
from continuum_tasks.capture import compact
from continuum_tasks.errors import BackupNotFound, ObjectDamaged, ObjectMissing
from continuum_tasks.model import Backup, CommitRef
from continuum_tasks.restore import restore
from continuum_tasks.retention import roll_forward
from continuum_tasks.runtime import finish
from continuum_tasks.storage.protocol import ObjectInfo
from tests.support.oracle import dump
from tests.support.recording import SECOND_US, Recorder, differing_pages, stand
from tests.support.replays import base_at, make_database, open_recorder, restored
from tests.support.sandbox import Options, Sandbox, make, objects, verified


@pytest.fixture(params=["aes-256-gcm", "none"])
def sandbox(request: pytest.FixtureRequest, tmp_path: Path) -> Sandbox:
    made = make(tmp_path / "h1", Options(encryption=request.param))
    make_database(made.database)
    return made


@pytest.fixture
def recorder(sandbox: Sandbox, tmp_path: Path) -> Iterator[Recorder]:
    with open_recorder(sandbox, tmp_path) as found:
        yield found


def write_many(recorder: Recorder, n: int, *, seed: int, every: int = 3) -> None:
    """Commit n transactions of all kinds, shipped a few at a time, with a checkpoint now and then."""
    dice = random.Random(seed)
    for i in range(n):
        start = dice.randrange(600)
        recorder.run(
            dice.choice(
                [
                    f"UPDATE t SET x = '{dice.random()}' || x WHERE id BETWEEN {start} AND {start + 5}",
                    f"INSERT INTO t (x) SELECT hex(randomblob({dice.choice([50, 3000])})) FROM t LIMIT 30",
                    f"DELETE FROM t WHERE id % 7 = {dice.randrange(7)}",
                    f"CREATE TABLE IF NOT EXISTS u{dice.randrange(3)} AS SELECT * FROM t LIMIT 50",
                    f"INSERT INTO t (x) VALUES ({i})",
                ]
            )
            + f"; INSERT INTO t (x) VALUES ('commit {i}')"
        )
        if dice.random() < 0.1:
            recorder.checkpoint(dice.choice(["TRUNCATE", "RESTART"]))
        if i % every == every - 1:
            recorder.ship()
    if recorder.pending:
        recorder.ship()


def test_every_commit_after_the_base_is_restored_as_sqlite_recovers_it(
    sandbox: Sandbox, recorder: Recorder, tmp_path: Path
) -> None:
    write_many(recorder, 5, seed=1)
    base = base_at(sandbox, recorder, commit=4)
    write_many(recorder, 25, seed=2)
    recorder.run("DELETE FROM t; DROP TABLE IF EXISTS u1")
    recorder.run("VACUUM")
    recorder.run("INSERT INTO t (x) VALUES (randomblob(300000))")
    recorder.ship()

    for number in range(6, recorder.number + 1):
        done = restored(sandbox, recorder, base, number, tmp_path / "r.db")

        expected = recorder.state(number)
        assert done.commit is not None
        assert (done.commit.number, done.commit.size_bytes) == (number, expected.stat().st_size)
        assert dump(tmp_path / "r.db") == dump(expected)
        assert differing_pages(tmp_path / "r.db", expected, 4096) == []


@pytest.mark.parametrize(("page_size", "auto_vacuum"), [(512, 0), (1024, 1), (65536, 2)])
def test_page_sizes_and_files_that_shrink(tmp_path: Path, page_size: int, auto_vacuum: int) -> None:
    sandbox = make(tmp_path / "h1")
    make_database(sandbox.database, page_size=page_size, auto_vacuum=auto_vacuum)
    with open_recorder(sandbox, tmp_path) as recorder:
        base = base_at(sandbox, recorder)
        write_many(recorder, 8, seed=page_size)
        recorder.run("DELETE FROM t WHERE id > 20; PRAGMA incremental_vacuum")
        write_many(recorder, 3, seed=3)
        for number in (2, 5, 9, 10, recorder.number):
            restored(sandbox, recorder, base, number, tmp_path / "r.db")
            assert dump(tmp_path / "r.db") == dump(recorder.state(number))


def test_an_incremental_base_needs_no_more_segments_than_come_after_it(
    sandbox: Sandbox, recorder: Recorder, tmp_path: Path
) -> None:
    base_at(sandbox, recorder)
    write_many(recorder, 6, seed=5)
    base = base_at(sandbox, recorder, strategy="incremental")
    assert base.parent_id is not None
    write_many(recorder, 6, seed=6)
    for key, path in objects(sandbox, "segments/").items():
        if "r-0000000001" in key:
            path.unlink()

    restored(sandbox, recorder, base, recorder.number, tmp_path / "r.db")

    assert dump(tmp_path / "r.db") == dump(recorder.state(recorder.number))


def test_a_base_that_was_rolled_forward_stands_where_it_did(sandbox: Sandbox, recorder: Recorder, tmp_path: Path) -> None:
    base_at(sandbox, recorder)
    write_many(recorder, 4, seed=5)
    base = base_at(sandbox, recorder, strategy="incremental")
    write_many(recorder, 4, seed=6)
    verified(sandbox, base.id)
    with sandbox.runtime() as runtime:
        rolled: roll_forward.Synthesized = finish(
            roll_forward.roll_backup_forward(
                base.id, repository=runtime.repository(), site=runtime.site, fan=runtime.fan(), may_commit=lambda: None
            )
        )
    assert rolled.backup.is_snapshot
    assert rolled.backup.position == base.position

    restored(sandbox, recorder, base, recorder.number, tmp_path / "r.db")

    assert dump(tmp_path / "r.db") == dump(recorder.state(recorder.number))


def test_segments_that_are_merged_under_a_restore_are_looked_for_again(
    sandbox: Sandbox, recorder: Recorder, kept: tuple[Backup, Path, bytes], tmp_path: Path
) -> None:
    """Between the look and the reading of segments, which the assembling of the base may take long."""
    base, target, _ = kept
    last = recorder.number
    recorder.run("INSERT INTO t (x) VALUES (0)", seconds=9 * 3600)
    recorder.ship()
    stamp(sandbox, recorder)
    wanted = CommitRef(timeline=recorder.timeline.id, number=last)
    request = restore.RestoreRequest(backup_id=base.id, target=target, overwrite=True, verify=True, commit=wanted)
    with sandbox.runtime() as runtime:
        repository, site = runtime.repository(), runtime.site
        steps = restore.restore_backup(request, repository=repository, site=site, fan=runtime.fan(), check_lease=lambda: None)
        assert next(step.phase for step in steps if step.phase == "fetch")
        merged: compact.Compacted = finish(
            compact.compact_segments(
                compact.CompactRequest(database="main"), repository=repository, site=site, check_lease=lambda: None
            )
        )
        assert merged.merges
        finish(steps)
    assert dump(target) == dump(recorder.state(last))


def test_segments_that_are_merged_between_listing_and_reading_are_listed_again(
    sandbox: Sandbox, recorder: Recorder, kept: tuple[Backup, Path, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    base, _, _ = kept
    last = recorder.number
    recorder.run("INSERT INTO t (x) VALUES (0)", seconds=9 * 3600)
    recorder.ship()
    stamp(sandbox, recorder)
    with sandbox.runtime() as runtime:
        repository, site = runtime.repository(), runtime.site
        listed, due = repository.storage.list, ["segments/"]

        def listing(prefix: str = "") -> Iterator[ObjectInfo]:
            found = list(listed(prefix))
            if due and prefix.startswith(due[0]):
                due.clear()
                finish(
                    compact.compact_segments(
                        compact.CompactRequest(database="main"), repository=repository, site=site, check_lease=lambda: None
                    )
                )
            return iter(found)

        monkeypatch.setattr(repository.storage, "list", listing)
        wanted = CommitRef(timeline=recorder.timeline.id, number=last)
        found = prepare_replay(wanted, base, repository=repository, backups=(base,))
    assert not due and found.commit.number == last


def stamp(sandbox: Sandbox, recorder: Recorder) -> None:
    """Let the storage have got all but the newest segment when the recording began."""
    at = recorder.captured[0].commit.observed_us / SECOND_US
    for _, path in list(objects(sandbox, "segments/").items())[:-1]:
        os.utime(path, (at, at))


def test_the_commit_a_base_stands_on_takes_no_segment(sandbox: Sandbox, recorder: Recorder, tmp_path: Path) -> None:
    write_many(recorder, 6, seed=5)
    base = base_at(sandbox, recorder)

    done = restored(sandbox, recorder, base, recorder.number, tmp_path / "r.db")

    assert done.commit is not None
    assert dump(tmp_path / "r.db") == dump(recorder.state(recorder.number))


@pytest.fixture
def kept(sandbox: Sandbox, recorder: Recorder, tmp_path: Path) -> tuple[Backup, Path, bytes]:
    """A base with segments behind it, and a target that is there."""
    base = base_at(sandbox, recorder)
    write_many(recorder, 15, seed=9)
    target = tmp_path / "r.db"
    restored(sandbox, recorder, base, 3, target)
    return base, target, target.read_bytes()


def segment_file(sandbox: Sandbox, seq: int) -> tuple[str, Path]:
    return next((key, path) for key, path in objects(sandbox, "segments/").items() if f"r-{seq:010d}" in key)


def test_a_missing_segment_is_named_and_the_target_stays(
    sandbox: Sandbox, recorder: Recorder, kept: tuple[Backup, Path, bytes], tmp_path: Path
) -> None:
    base, target, before = kept
    segment_file(sandbox, 2)[1].unlink()
    segment_file(sandbox, 3)[1].unlink()

    with pytest.raises(ObjectMissing, match=r"segments are missing in storage local: seq 2 to 3"):
        restored(sandbox, recorder, base, recorder.number, target)

    assert target.read_bytes() == before
    assert [path.name for path in tmp_path.glob(".r.db*")] == []


@pytest.mark.parametrize("place", [100, -30, 400])
def test_a_damaged_segment_is_named_and_the_target_stays(
    sandbox: Sandbox, recorder: Recorder, kept: tuple[Backup, Path, bytes], place: int
) -> None:
    base, target, before = kept
    key, path = segment_file(sandbox, 3)
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)

    with pytest.raises(ObjectDamaged, match=key):
        restored(sandbox, recorder, base, 10, target)

    assert target.read_bytes() == before


def test_a_segment_under_anothers_name_is_named_and_the_target_stays(
    sandbox: Sandbox, recorder: Recorder, kept: tuple[Backup, Path, bytes]
) -> None:
    base, target, before = kept
    key, path = segment_file(sandbox, 3)
    path.write_bytes(segment_file(sandbox, 2)[1].read_bytes())

    with pytest.raises(ObjectDamaged, match=key):
        restored(sandbox, recorder, base, recorder.number, target)

    assert target.read_bytes() == before


def test_a_segment_of_another_past_is_named_and_the_target_stays(
    sandbox: Sandbox, recorder: Recorder, kept: tuple[Backup, Path, bytes]
) -> None:
    """As a second writer would leave it: sealed under the same key, with the right numbers, but after other commits."""
    base, target, before = kept
    recorder.chain = bytes(15) + b"\1"
    recorder.run("INSERT INTO t (x) VALUES (1)")
    recorder.ship()

    with pytest.raises(ObjectDamaged, match="it continues another past"):
        restored(sandbox, recorder, base, recorder.number, target)

    assert target.read_bytes() == before


def test_a_hole_between_base_and_commit_is_refused(
    sandbox: Sandbox, recorder: Recorder, kept: tuple[Backup, Path, bytes], tmp_path: Path
) -> None:
    base, target, before = kept
    found = recorder.resume(unseen_us=5 * SECOND_US, reason="the -wal was gone")
    recorder.run("INSERT INTO t (x) VALUES (2)")
    recorder.ship()

    with pytest.raises(BackupNotFound, match=f"the hole before commit {found.number} lies between"):
        restored(sandbox, recorder, base, recorder.number, target)
    assert target.read_bytes() == before

    after = base_at(sandbox, recorder)
    recorder.run("INSERT INTO t (x) VALUES (3)")
    recorder.ship()
    restored(sandbox, recorder, after, recorder.number, tmp_path / "r.db")
    assert dump(tmp_path / "r.db") == dump(recorder.state(recorder.number))


def test_a_base_that_does_not_stand_there_is_refused(
    sandbox: Sandbox, recorder: Recorder, kept: tuple[Backup, Path, bytes]
) -> None:
    base, target, before = kept
    later = base_at(sandbox, recorder)
    for wrong, number in ((later, recorder.number - 1), (later, 999), (base, 999)):
        with pytest.raises(BackupNotFound):
            restored(sandbox, recorder, wrong, number, target)
    assert target.read_bytes() == before


def test_a_base_with_other_pages_than_its_commit_is_refused(
    sandbox: Sandbox, recorder: Recorder, kept: tuple[Backup, Path, bytes]
) -> None:
    base, target, before = kept
    with sandbox.runtime() as runtime:
        wrong = stand(runtime, base, recorder.timeline.id, recorder.number)

    with pytest.raises(ObjectDamaged, match="pages, but"):
        restored(sandbox, recorder, wrong, recorder.number, target)

    assert target.read_bytes() == before
    assert replace(wrong, position=base.position).id == base.id
