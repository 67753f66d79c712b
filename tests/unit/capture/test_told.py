"""What a capture tells others of this host in files: how it stands, until when it watched, and its holes."""

from __future__ import annotations

import time
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from continuum_tasks.capture.shipping.shipper import SegmentShipper
from continuum_tasks.capture.state import fence, holes
from continuum_tasks.capture.state.environment import CAPTURE, make_private_directory
from continuum_tasks.capture.state.status import CaptureState, CaptureStatus, read_status
from continuum_tasks.capture.supervisor import CaptureSupervisor, WantedCapture
from continuum_tasks.history.timeline import Hole
from continuum_tasks.sqlite.mount_tables import MountTables
from continuum_tasks.sqlite.mounts import parse_mounts
from continuum_tasks.storage.memory import MemoryStorage
from continuum_tasks.storage.protocol import Buffer
from continuum_tasks.units import microseconds
from tests.support.service import Service
from tests.support.statuses import WORKER, status, tell
from tests.unit.capture.conftest import Listed, Setting
from tests.unit.capture.following import Away, begun, insert

pytestmark = pytest.mark.slow

AT = datetime(2026, 11, 23, 12, tzinfo=UTC)


@pytest.mark.parametrize(("seconds", "until"), [(5, 5), (20, 20), (21, 0), (-10, 0)])
def test_a_heartbeat_counts_only_while_the_database_itself_is_looked_at(tmp_path: Path, seconds: int, until: int) -> None:
    """A look that fails, as with a full disk, leaves the process alive: what it has not read must not count as watched."""
    tell(tmp_path, status(AT), heard_at=AT + timedelta(seconds=seconds))

    found = read_status(tmp_path, "memory")

    assert found is not None
    assert found.watched_until_us == microseconds(AT + timedelta(seconds=until))


def test_a_capture_whose_process_is_gone_is_stopped_and_watched_no_longer_than_it_said(tmp_path: Path) -> None:
    tell(tmp_path, status(AT, worker=f"{WORKER}0"), heard_at=AT + timedelta(seconds=5))

    found = read_status(tmp_path, "memory")

    assert found is not None
    assert (found.state, found.watched_until_us) == (CaptureState.STOPPED, microseconds(AT))


def test_holes_are_kept_in_order_and_not_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holes, "N_KEPT", 3)
    directory = make_private_directory(tmp_path / CAPTURE / "memory")
    assert holes.read_holes(tmp_path, "memory") == ()
    for n in range(5):
        holes.note_hole(directory, Hole(timeline="t", commit=n, from_us=n, to_us=n + 1, reason="why"))

    assert [hole.commit for hole in holes.read_holes(tmp_path, "memory")] == [2, 3, 4]
    (directory / holes.HOLES).write_text("[{}")
    assert holes.read_holes(tmp_path, "memory") == ()


def test_a_hole_is_noted_with_its_edges_where_the_host_can_read_it(setting: Setting, service: Service) -> None:
    follower = begun(setting)
    insert(service, 3)
    follower.rotate()
    watched_us = follower.times.observed_us
    follower.let_go()
    assert holes.read_holes(setting.place.directory.parent, "memory") == ()
    service.run("PRAGMA wal_checkpoint(TRUNCATE)")
    insert(service, 2)
    again = setting.follower()
    again.begin(watched_until_us=watched_us)

    (hole,) = holes.read_holes(setting.place.directory.parent, "memory")
    assert again.standing is not None
    assert (hole.timeline, hole.commit) == (again.standing.timeline.id, 5)
    assert (hole.from_us, hole.to_us) == (watched_us, again.standing.observed_us)
    assert hole.reason == "SQLite restarted the write-ahead log while capture was not attached"


def test_a_hole_that_cannot_be_noted_does_not_keep_capture_from_going_on(setting: Setting, service: Service) -> None:
    follower = begun(setting)
    insert(service, 1)
    follower.rotate()
    follower.let_go()
    service.run("PRAGMA wal_checkpoint(TRUNCATE)")
    insert(service, 1)
    (follower.directory / holes.HOLES).mkdir()
    again = setting.follower()
    again.begin(watched_until_us=follower.times.observed_us)
    assert again.holds


def test_when_the_last_durable_commit_was_seen_is_known_once_something_was_shipped(setting: Setting, service: Service) -> None:
    follower = begun(setting)
    courier = SegmentShipper(follower, place=setting.place)
    assert (courier.durable_commit, courier.durable_us) == (0, 0)
    courier.ship()
    assert follower.standing is not None
    first_us = follower.standing.observed_us
    follower.change(published=True)
    assert (courier.durable_commit, courier.durable_us) == (1, first_us)
    insert(service, 2)
    follower.rotate()
    assert (courier.durable_commit, courier.durable_us) == (1, first_us)
    courier.ship()
    assert (courier.durable_commit, courier.durable_us) == (3, follower.standing.observed_us)


def test_what_was_read_and_is_not_durable_yet_is_not_said_to_be_watched(setting: Setting, service: Service) -> None:
    """Were it, commits that only the looks know of would pass for captured: lost with their process, and missed by nobody."""
    place = replace(setting.place, capture=replace(setting.place.capture, interval_seconds=60))
    wanted = WantedCapture(database="memory", storage="here", path=setting.path)
    watch = CaptureSupervisor(wanted, pins=setting.pins, place=place, runner=Listed())

    def steps(executor: Executor) -> CaptureStatus:
        for _ in range(4):
            time.sleep(0.3)
            watch.touched(frozenset({setting.path.with_name("memory.db-wal")}))
            watch.step(executor)
        found = read_status(place.directory.parent, "memory")
        assert found is not None
        return found

    with ThreadPoolExecutor(1) as executor:
        before = steps(executor)
        insert(service, 2)
        after = steps(executor)
        assert (before.commit, after.commit) == (1, 1)
        assert after.watched_until_us - before.watched_until_us < 500_000
        watch.close(detail="stopped")
    closed = read_status(place.directory.parent, "memory")
    assert closed is not None
    assert (closed.commit, closed.durable_commit) == (3, 3)
    assert closed.watched_until_us > after.watched_until_us


def test_a_capture_that_ends_with_a_full_spool_does_not_say_that_it_watched_to_the_end(
    setting: Setting, service: Service
) -> None:
    storage = Away()
    setting.place.repository("here").storage = storage
    place = replace(setting.place, capture=replace(setting.place.capture, spool_limit_bytes=0))
    wanted = WantedCapture(database="memory", storage="here", path=setting.path)
    watch = CaptureSupervisor(wanted, pins=setting.pins, place=place, runner=Listed())
    with ThreadPoolExecutor(1) as executor:
        watch.step(executor)
    storage.away = True
    insert(service, 1)
    watch.close(detail="stopped")  # makes it durable here, and cannot ship it
    again = CaptureSupervisor(wanted, pins=setting.pins, place=place, runner=Listed())
    with ThreadPoolExecutor(1) as executor:
        again.step(executor)
        before = read_status(place.directory.parent, "memory")
        insert(service, 1)
        again.close(detail="stopped")
    after = read_status(place.directory.parent, "memory")

    assert before is not None and after is not None
    assert (before.commit, after.commit) == (2, 2)
    assert "more than spool_limit_bytes" in after.detail
    assert after.watched_until_us == before.watched_until_us


class Slow(MemoryStorage):
    """A storage that takes its time."""

    def put(self, key: str, data: Buffer, *, only_new: bool = False) -> None:
        time.sleep(0.2)
        super().put(key, data, only_new=only_new)


def test_that_the_last_commit_is_in_the_storage_is_said_as_soon_as_it_is(setting: Setting, service: Service) -> None:
    setting.place.repository("here").storage = Slow()
    wanted = WantedCapture(database="memory", storage="here", path=setting.path)
    watch = CaptureSupervisor(wanted, pins=setting.pins, place=setting.place, runner=Listed())
    with ThreadPoolExecutor(1) as executor:
        for _ in range(20):
            watch.step(executor)
            time.sleep(0.1)
        insert(service, 1)
        watch.touched(frozenset({setting.path.with_name("memory.db-wal")}))
        for _ in range(20):
            watch.step(executor)
            time.sleep(0.1)
        found = read_status(setting.place.directory.parent, "memory")
        watch.close(detail="stopped")
    assert found is not None
    assert (found.commit, found.durable_commit, found.spool_segments) == (2, 2, 0)


def test_a_commit_that_comes_behind_the_event_of_its_frames_is_captured_soon(setting: Setting, service: Service) -> None:
    """The kernel tells of frames that are written; a slow fsync puts the commit, which it does not tell of, after the look."""
    wanted = WantedCapture(database="memory", storage="here", path=setting.path)
    watch = CaptureSupervisor(wanted, pins=setting.pins, place=setting.place, runner=Listed())

    def steps(executor: Executor) -> None:
        for _ in range(25):
            watch.step(executor)
            time.sleep(0.1)

    with ThreadPoolExecutor(1) as executor:
        steps(executor)
        watch.touched(frozenset({setting.path.with_name("memory.db-wal")}))
        watch.step(executor)
        insert(service, 1)
        assert watch.seconds_until_due() <= setting.place.capture.interval_seconds
        steps(executor)
        found = read_status(setting.place.directory.parent, "memory")
        watch.close(detail="stopped")
    assert found is not None and found.commit == 2


def test_a_database_that_is_mounted_by_itself_later_is_let_go_until_it_is_not(setting: Setting, service: Service) -> None:
    plain = "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n"
    tables = [plain]
    ahead = [0.0]
    place = replace(
        setting.place,
        mount_tables=lambda: MountTables(own=parse_mounts(tables[0])),
        clock=replace(setting.place.clock, monotonic=lambda: time.monotonic() + ahead[0]),
    )
    wanted = WantedCapture(database="memory", storage="here", path=setting.path)
    watch = CaptureSupervisor(wanted, pins=setting.pins, place=place, runner=Listed())

    def stepped(executor: Executor, table: str) -> CaptureStatus:
        tables[0] = table
        ahead[0] += 60
        for _ in range(2):
            watch.step(executor)
            ahead[0] += 1
        found = read_status(place.directory.parent, "memory")
        assert found is not None
        return found

    with ThreadPoolExecutor(1) as executor:
        assert stepped(executor, plain).state is CaptureState.RUNNING
        mounted = stepped(executor, plain + f"2 1 8:1 {setting.path} /data/app.db rw - ext4 /dev/sda1 rw\n")
        assert mounted.state is CaptureState.WAITING
        assert "mounted by itself, at /data/app.db" in mounted.detail
        assert "mount the directory" in mounted.detail
        assert mounted.n_pins == 0
        shared = stepped(executor, plain + f"2 1 0:9 / {setting.path.parent} rw - virtiofs v rw\n")
        assert (shared.state, "(virtiofs)" in shared.detail) == (CaptureState.WAITING, True)
        again = stepped(executor, plain)
        assert again.state is CaptureState.RUNNING
        watch.close(detail="stopped")
    assert len(holes.read_holes(place.directory.parent, "memory")) == 1  # what was committed by the other name is not known


def test_a_fenced_capture_stays_fenced_when_the_process_that_holds_logs_dies(setting: Setting, service: Service) -> None:
    """It would begin a timeline of its own beside the host that captures: only who removes the fence says that it may."""
    wanted = WantedCapture(database="memory", storage="here", path=setting.path)
    fence.put_up(make_private_directory(setting.place.directory / "memory"), "another host captures it")
    watch = CaptureSupervisor(wanted, pins=setting.pins, place=setting.place, runner=Listed())
    with ThreadPoolExecutor(1) as executor:
        watch.lost_pins()
        watch.step(executor)
        found = read_status(setting.place.directory.parent, "memory")
        watch.close(detail="stopped")
    assert found is not None
    assert (found.state, found.detail, found.n_pins) == (CaptureState.FENCED, "another host captures it", 0)


def test_a_database_that_is_not_held_is_left_in_peace_however_long(setting: Setting, service: Service) -> None:
    """With a rollback journal nothing is held: a look that stays due for ever would keep a core busy."""
    service.run("PRAGMA journal_mode = delete")
    ahead = [0.0]
    place = replace(setting.place, clock=replace(setting.place.clock, monotonic=lambda: time.monotonic() + ahead[0]))
    wanted = WantedCapture(database="memory", storage="here", path=setting.path)
    watch = CaptureSupervisor(wanted, pins=setting.pins, place=place, runner=Listed())
    with ThreadPoolExecutor(1) as executor:
        watch.step(executor)
        waits = []
        for _ in range(4):
            ahead[0] += 30.0
            watch.step(executor)
            waits.append(watch.seconds_until_due())
        found = read_status(setting.place.directory.parent, "memory")
        watch.close(detail="stopped")
    assert found is not None and found.state is CaptureState.JOURNAL
    assert min(waits) >= 0.5
