"""Segments merged and expired: every commit restorable before is so afterwards, wherever a run was cut."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from continuum_tasks import failpoints
from continuum_tasks.capture import compact
from continuum_tasks.capture.plan.compaction import Bounds
from continuum_tasks.errors import DatabaseLocked, ObjectDamaged, StorageUnreachable
from continuum_tasks.model import Backup
from continuum_tasks.repository.lock import hold_lock
from continuum_tasks.repository.repository import Repository
from continuum_tasks.repository.timelines import segment_context
from continuum_tasks.retention import expire
from continuum_tasks.retention.plan.keep_reasons import Policy
from continuum_tasks.runtime import finish
from continuum_tasks.segment.writer import write_segment
from continuum_tasks.storage.protocol import Buffer
from tests.support.oracle import dump
from tests.support.recording import SECOND_US, Recorder
from tests.support.replays import base_at, make_database, open_recorder, restored
from tests.support.sandbox import Sandbox, make, objects, verified

HOUR = 3600
DAY = 24 * HOUR
BARE = Policy(
    hourly=0,
    daily=0,
    weekly=0,
    monthly=0,
    yearly=0,
    keep_within_seconds=0,
    min_backups=1,
    max_age_seconds=0,
    grace_period_seconds=0,
    only_verified=True,
    max_expire_per_run=1000,
    max_roll_forward_per_run=0,
)


@pytest.fixture
def sandbox(tmp_path: Path) -> Sandbox:
    made = make(tmp_path / "h1")
    make_database(made.database)
    return made


@pytest.fixture
def now_us() -> int:
    """When the recording begins: at a whole hour, some days ago."""
    import time

    return (int(time.time()) // HOUR - 30) * HOUR * SECOND_US


@pytest.fixture
def recorder(sandbox: Sandbox, tmp_path: Path, now_us: int) -> Iterator[Recorder]:
    """Nineteen segments of one commit, one a minute; then one half a day later."""
    with open_recorder(sandbox, tmp_path, now_us=now_us) as found:
        found.ship()
        yield found


def record(sandbox: Sandbox, recorder: Recorder, *, n: int = 19) -> None:
    for number in range(n):
        recorder.run(f"INSERT INTO t (x) VALUES (hex(randomblob(2000))), ('{number}')", seconds=60)
        recorder.ship()
    recorder.run("INSERT INTO t (x) VALUES ('late')", seconds=12 * HOUR)
    recorder.ship()
    stamp(sandbox, recorder)


def stamp(sandbox: Sandbox, recorder: Recorder) -> None:
    """Let the storage have got each segment right after its last commit was seen."""
    seen = {one.commit.number: one.commit.observed_us for one in recorder.captured}
    for key, path in objects(sandbox, "segments/").items():
        if "/r-" in key:
            at = seen[int(key.rpartition("r-")[2][:10])] / SECOND_US + 1
            os.utime(path, (at, at))


def compacted(sandbox: Sandbox, *, bounds: Bounds | None = None, repository: Repository | None = None) -> compact.Compacted:
    with sandbox.runtime() as runtime:
        request = compact.CompactRequest(database="main", bounds=bounds or Bounds())
        where = repository or runtime.repository()
        done: compact.Compacted = finish(
            compact.compact_segments(request, repository=where, site=runtime.site, check_lease=lambda: None)
        )
    return done


def names(sandbox: Sandbox) -> list[str]:
    return [key.rpartition("/")[2] for key in objects(sandbox, "segments/")]


def check(sandbox: Sandbox, recorder: Recorder, base: Backup, tmp_path: Path, *, first: int = 1) -> None:
    for number in (first, first + 4, first + 9, recorder.number - 1, recorder.number):
        restored(sandbox, recorder, base, number, tmp_path / "r.db")
        assert dump(tmp_path / "r.db") == dump(recorder.state(number))


def test_an_hour_that_is_over_becomes_one_segment_and_every_commit_stays(
    sandbox: Sandbox, recorder: Recorder, tmp_path: Path
) -> None:
    base = base_at(sandbox, recorder)
    record(sandbox, recorder)
    before_bytes = sum(path.stat().st_size for path in objects(sandbox, "segments/").values())

    done = compacted(sandbox)

    assert [(one.first_seq, one.last_seq, one.n_segments) for one in done.merges] == [(1, 20, 20)]
    assert [name[:4] for name in names(sandbox)] == ["m-00", "r-00"]
    after_bytes = sum(path.stat().st_size for path in objects(sandbox, "segments/").values())
    assert before_bytes - done.freed_bytes + done.written_bytes == after_bytes < before_bytes
    assert done.n_requests == 2 + 1 + 20 + 3 + 20  # timelines, segments, reads, put and read back, deletes
    check(sandbox, recorder, base, tmp_path)
    with sandbox.runtime() as runtime:
        kept = {name: runtime.site.metrics.series(name)[-1].value for name in ("compaction_requests", "compaction_read_bytes")}
        assert kept == {"compaction_requests": done.n_requests, "compaction_read_bytes": done.read_bytes}

    again = compacted(sandbox)

    assert (again.merges, again.n_left, again.n_requests, again.freed_bytes) == ((), 0, 3, 0)


def test_a_dry_run_says_the_same_and_changes_nothing(sandbox: Sandbox, recorder: Recorder) -> None:
    record(sandbox, recorder)
    before = objects(sandbox)
    with sandbox.runtime() as runtime:
        request = compact.CompactRequest(database="main")
        said: compact.Compacted = finish(
            compact.preview_compaction(request, repository=runtime.repository(), site=runtime.site)
        )
    assert objects(sandbox) == before
    assert said.dry_run
    assert [(one.first_seq, one.last_seq) for one in said.merges] == [(1, 20)]


def test_a_run_does_no_more_than_its_bounds(sandbox: Sandbox, recorder: Recorder) -> None:
    record(sandbox, recorder, n=130)
    done = compacted(sandbox, bounds=Bounds(max_merges=1))
    assert (len(done.merges), done.n_left) == (1, 2)
    assert compacted(sandbox).n_left == 0


@pytest.mark.parametrize("point", failpoints.COMPACT)
def test_a_run_that_is_cut_anywhere_loses_no_commit_and_the_next_one_ends_it(
    sandbox: Sandbox, recorder: Recorder, tmp_path: Path, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = base_at(sandbox, recorder)
    record(sandbox, recorder)
    monkeypatch.setattr(failpoints, "_armed", {point: "raise"})
    with pytest.raises(StorageUnreachable):
        compacted(sandbox)
    monkeypatch.setattr(failpoints, "_armed", {})

    check(sandbox, recorder, base, tmp_path)
    done = compacted(sandbox)

    assert [name[:4] for name in names(sandbox)] == ["m-00", "r-00"]
    assert done.n_stale + sum(one.n_segments for one in done.merges) >= 19
    check(sandbox, recorder, base, tmp_path)


class Lying:
    """A storage that keeps other bytes than it was given under some names."""

    def __init__(self, storage: Any) -> None:
        self._storage = storage

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    def put(self, key: str, data: Buffer, *, only_new: bool = False) -> None:
        changed = bytearray(data)
        if "/m-" in key:
            changed[200] ^= 1
        self._storage.put(key, changed, only_new=only_new)


def test_what_a_storage_does_not_give_back_is_noticed_before_anything_is_deleted(
    sandbox: Sandbox, recorder: Recorder, tmp_path: Path
) -> None:
    base = base_at(sandbox, recorder)
    record(sandbox, recorder)
    raws = [name for name in names(sandbox) if name.startswith("r-")]
    with sandbox.runtime() as runtime:
        lying = Repository(Lying(runtime.repository().storage), "local", keyring=runtime.keyring, accept_unsigned=False)
    with pytest.raises(ObjectDamaged):
        compacted(sandbox, repository=lying)
    assert [name for name in names(sandbox) if name.startswith("r-")] == raws

    assert [name for name in names(sandbox) if name.startswith("m-")] == []
    check(sandbox, recorder, base, tmp_path)
    compacted(sandbox)
    check(sandbox, recorder, base, tmp_path)


def test_a_damaged_merged_segment_that_was_never_read_back_gives_way_to_what_it_was_made_of(
    sandbox: Sandbox, recorder: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = base_at(sandbox, recorder)
    record(sandbox, recorder)
    monkeypatch.setattr(failpoints, "_armed", {"compact.merged_put": "raise"})
    with pytest.raises(StorageUnreachable):
        compacted(sandbox)
    monkeypatch.setattr(failpoints, "_armed", {})
    merged = next(path for key, path in objects(sandbox, "segments/").items() if "/m-" in key)
    data = bytearray(merged.read_bytes())
    data[300] ^= 1
    merged.write_bytes(data)

    done = compacted(sandbox)

    assert len(done.merges) == 1
    check(sandbox, recorder, base, tmp_path)
    data = bytearray(merged.read_bytes())
    data[300] ^= 1
    merged.write_bytes(data)
    part = next(path for key, path in objects(sandbox, "segments/").items() if "/r-" in key)
    part.rename(part.with_name("r-0000000002.segment"))
    with pytest.raises(ObjectDamaged):  # nothing stands for all of it any more
        compacted(sandbox)


def test_a_segment_of_a_second_writer_below_a_merged_one_stays(sandbox: Sandbox, recorder: Recorder) -> None:
    record(sandbox, recorder)
    compacted(sandbox)
    recorder.run("INSERT INTO t (x) VALUES ('other')")
    draft = replace(recorder.draft(), first_seq=5, last_seq=5)
    draft = replace(draft, commits=tuple(replace(one, number=5) for one in draft.commits))
    pages = [memoryview(one.pages[pgno]) for one in recorder.pending for pgno in sorted(one.pages)]
    context = segment_context(recorder.timeline, 5, 5)
    sealed = write_segment(draft, pages, context=context, options=recorder.options())
    key = f"segments/main/{recorder.timeline.id}/r-0000000005.segment"
    recorder.repository.storage.put(key, sealed.data)

    done = compacted(sandbox)

    assert done.foreign == (key,)
    assert key in objects(sandbox)


def test_two_runs_at_once_are_refused(sandbox: Sandbox, recorder: Recorder) -> None:
    record(sandbox, recorder)
    with sandbox.runtime() as runtime:
        site = runtime.site
        with (
            hold_lock(compact.lock_name("main"), runtime.repository().storage, site.contender()),
            pytest.raises(DatabaseLocked),
        ):
            compacted(sandbox)


def applied(sandbox: Sandbox, *, window_seconds: int, policy: Policy = BARE, dry_run: bool = False) -> expire.Applied:
    with sandbox.runtime() as runtime:
        request = expire.RetentionRequest(database="main", policy=policy, by="test", pitr_window_seconds=window_seconds)
        repository, site = runtime.repository(), runtime.site
        if dry_run:
            return finish(expire.preview_retention(request, repository=repository, site=site))  # type: ignore[no-any-return]
        done: expire.Applied = finish(
            expire.apply_policy(request, repository=repository, site=site, fan=runtime.fan(), check_lease=lambda: None)
        )
    return done


def fate(done: expire.Applied, backup: Backup) -> tuple[str, tuple[str, ...]]:
    return next((str(d.verdict), d.reasons) for d in done.decisions if d.backup_id == backup.id)


@pytest.fixture
def history(sandbox: Sandbox, recorder: Recorder) -> tuple[Backup, Backup, Backup]:
    """Bases at commits 1, 11 and 20 of a recording of 21, all verified; commit n is seen n - 1 minutes after it began."""
    bases = [base_at(sandbox, recorder)]
    for n in (10, 9):
        for _ in range(n):
            recorder.run("INSERT INTO t (x) VALUES (hex(randomblob(2000)))", seconds=60)
            recorder.ship()
        bases.append(base_at(sandbox, recorder))
    recorder.run("INSERT INTO t (x) VALUES ('late')", seconds=12 * HOUR)
    recorder.ship()
    stamp(sandbox, recorder)
    for base in bases:
        verified(sandbox, base.id)
    return bases[0], bases[1], bases[2]


def window_from(recorder: Recorder, number: int, *, seconds: float = 0) -> int:
    """Return a window that begins so long after a commit was seen."""
    import time

    begins = recorder.captured[number - 1].commit.observed_us / SECOND_US + seconds
    return int(time.time() - begins)


def test_retention_keeps_the_windows_base_and_drops_what_is_before_it(
    sandbox: Sandbox, recorder: Recorder, history: tuple[Backup, Backup, Backup], tmp_path: Path
) -> None:
    first, second, third = history
    window = window_from(recorder, 15, seconds=30)

    said = applied(sandbox, window_seconds=window, dry_run=True)
    done = applied(sandbox, window_seconds=window)

    assert (said.segments.n_segments, done.segments.n_segments) == (11, 11)
    assert fate(done, first)[0] == "expire"
    assert fate(done, second) == ("keep", ("base of the point-in-time window",))
    assert fate(done, third)[0] == "keep"
    assert names(sandbox)[0] == "r-0000000012.segment"
    for number in (15, 16, 21):
        restored(sandbox, recorder, second, number, tmp_path / "r.db")
        assert dump(tmp_path / "r.db") == dump(recorder.state(number))


def test_an_expiry_of_segments_that_is_cut_leaves_the_newer_ones_whole(
    sandbox: Sandbox,
    recorder: Recorder,
    history: tuple[Backup, Backup, Backup],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    window = window_from(recorder, 15, seconds=30)
    monkeypatch.setattr(failpoints, "_armed", {failpoints.SEGMENTS[0]: "raise"})
    with pytest.raises(StorageUnreachable):
        applied(sandbox, window_seconds=window)
    monkeypatch.setattr(failpoints, "_armed", {})
    assert names(sandbox)[0] == "r-0000000002.segment"
    restored(sandbox, recorder, history[1], 15, tmp_path / "r.db")

    assert applied(sandbox, window_seconds=window).segments.n_segments == 10
    restored(sandbox, recorder, history[1], 15, tmp_path / "r.db")
    assert dump(tmp_path / "r.db") == dump(recorder.state(15))


def test_the_policy_alone_would_have_let_the_base_go(
    sandbox: Sandbox, recorder: Recorder, history: tuple[Backup, Backup, Backup]
) -> None:
    done = applied(sandbox, window_seconds=window_from(recorder, 21), dry_run=True)
    assert [fate(done, one)[0] for one in history] == ["expire", "expire", "keep"]


def test_after_compaction_the_window_is_as_good(
    sandbox: Sandbox, recorder: Recorder, history: tuple[Backup, Backup, Backup], tmp_path: Path
) -> None:
    _, second, third = history
    compacted(sandbox)
    done = applied(sandbox, window_seconds=window_from(recorder, 15, seconds=30))
    assert done.segments.n_segments == 0  # one segment holds what is before the window and what is in it
    assert fate(done, second)[0] == "keep" or fate(done, third)[0] == "keep"
    kept = [b for b in history if fate(done, b)[0] == "keep"]
    assert kept[0].position is not None
    for number in (15, 19, 21):
        base = max((b for b in kept if b.position and b.position.settled <= number), key=lambda b: b.created_at)
        restored(sandbox, recorder, base, number, tmp_path / "r.db")
        assert dump(tmp_path / "r.db") == dump(recorder.state(number))


def test_nothing_goes_when_a_timeline_or_a_segment_cannot_be_read(
    sandbox: Sandbox, recorder: Recorder, history: tuple[Backup, Backup, Backup]
) -> None:
    window = window_from(recorder, 15, seconds=30)
    (key, path) = next(item for item in objects(sandbox, "segments/").items() if "r-0000000003" in item[0])
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    done = applied(sandbox, window_seconds=window)
    assert done.segments.n_segments == 0
    assert {fate(done, one) for one in history[:2]} == {("keep", ("base of the point-in-time window",))}
    path.write_bytes(whole)
    document = next(path for name, path in objects(sandbox, "timelines/").items())
    document.write_bytes(document.read_bytes().replace(b"a test", b"b test"))
    stopped = applied(sandbox, window_seconds=window)
    assert "timelines/main/" in stopped.stopped
    assert key in objects(sandbox)


def test_nothing_goes_while_segments_are_merged(
    sandbox: Sandbox, recorder: Recorder, history: tuple[Backup, Backup, Backup]
) -> None:
    before = names(sandbox)
    with (
        sandbox.runtime() as runtime,
        hold_lock(compact.lock_name("main"), runtime.repository().storage, runtime.site.contender()),
    ):
        done = applied(sandbox, window_seconds=window_from(recorder, 15, seconds=30))
    assert "another run is in progress" in done.segments.skipped
    assert names(sandbox) == before


def test_an_old_timeline_goes_whole_when_all_of_it_is_before_the_window(
    sandbox: Sandbox, recorder: Recorder, history: tuple[Backup, Backup, Backup], tmp_path: Path
) -> None:
    old = recorder.timeline
    recorder.connection.close()
    with open_recorder(sandbox, tmp_path, now_us=recorder.now_us + 2 * HOUR * SECOND_US) as newer:
        newer.ship()
        within = applied(sandbox, window_seconds=window_from(recorder, 21, seconds=-60))
        assert within.segments.n_timelines == 0
        done = applied(sandbox, window_seconds=window_from(recorder, 21, seconds=HOUR))
    assert done.segments.n_timelines == 1
    assert [key for key in objects(sandbox) if old.id in key] == []
    assert [key for key in objects(sandbox) if newer.timeline.id in key and key.startswith("timelines/")] != []
