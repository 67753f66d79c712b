from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from continuum_tasks.capture.reader.follower import CommitFollower
from continuum_tasks.capture.shipping.ended_timelines import leftovers
from continuum_tasks.capture.shipping.shipper import N_AT_THE_END, SegmentShipper
from continuum_tasks.capture.shipping.spool import Spool
from continuum_tasks.errors import Fenced, StorageUnreachable
from continuum_tasks.storage.memory import MemoryStorage
from tests.support.service import Service, make
from tests.unit.capture.conftest import Setting
from tests.unit.capture.following import Away, begun, insert


def segments(storage: MemoryStorage) -> list[str]:
    return [info.key.rsplit("/", 1)[1] for info in storage.list("segments/")]


def test_segments_are_shipped_in_order_behind_their_timelines_document(setting: Setting, service: Service) -> None:
    follower = begun(setting)
    courier = SegmentShipper(follower, place=setting.place)
    insert(service, 2)
    follower.rotate()
    courier.ship()
    assert segments(setting.storage) == ["r-0000000001.segment", "r-0000000002.segment"]
    assert len(list(setting.storage.list("timelines/memory/"))) == 1
    assert courier.shipped.n_bytes == sum(info.size_bytes for info in setting.storage.list("segments/"))
    assert courier.durable_commit == 3 and courier.shipped.lag(0.5) >= 0
    spool = follower.spool()
    assert spool is not None and spool.waiting() == []


def test_what_cannot_be_shipped_waits_and_is_shipped_later(setting: Setting, service: Service) -> None:
    storage = Away()
    repository = setting.place.repository("here")
    repository.storage = storage
    follower = begun(setting)
    courier = SegmentShipper(follower, place=setting.place)
    storage.away = True
    for _ in range(3):
        insert(service, 1)
        follower.rotate()
    with ThreadPoolExecutor(1) as executor:
        courier.step(executor)
    with ThreadPoolExecutor(1) as executor:
        courier.step(executor)
    assert courier.trouble == "not shipped: away" and segments(storage) == []
    storage.away = False
    courier.ship()
    assert len(segments(storage)) == 4 and courier.durable_commit == 4


def test_a_second_writer_is_fenced_off(setting: Setting, service: Service, tmp_path: Path) -> None:
    """A cloned host has the same standing and another database."""
    follower = begun(setting)
    courier = SegmentShipper(follower, place=setting.place)
    courier.ship()
    follower.change(published=True)
    clone = CommitFollower(
        "memory", "here", setting.path, pins=setting.pins, place=replace(setting.place, directory=tmp_path / "clone")
    )
    (clone.directory / "standing.json").write_bytes((follower.directory / "standing.json").read_bytes())
    setting.place = replace(setting.place, directory=tmp_path / "clone")
    clone = setting.follower()
    clone.begin(watched_until_us=0)
    insert(service, 1)
    follower.rotate()
    clone.rotate()
    courier.ship()
    with pytest.raises(Fenced):
        SegmentShipper(clone, place=setting.place).ship()
    assert len(segments(setting.storage)) == 2


def test_what_an_ended_timeline_left_is_shipped_too(setting: Setting, service: Service, tmp_path: Path) -> None:
    follower = begun(setting)
    insert(service, 2)
    follower.rotate()
    assert follower.standing is not None
    old = follower.standing.timeline.id
    service.process.kill()
    make(tmp_path / "other.db")
    for suffix in ("-wal", "-shm"):
        setting.path.with_name(f"memory.db{suffix}").unlink()
    (tmp_path / "other.db").rename(setting.path)
    follower.begin(watched_until_us=0)
    assert [left.timeline.id for left in leftovers(follower.directory)] == [old]
    courier = SegmentShipper(follower, place=setting.place)
    courier.ship()
    assert len(list(setting.storage.list(f"segments/memory/{old}/"))) == 2
    assert len(list(setting.storage.list("timelines/memory/"))) == 2
    assert leftovers(follower.directory) == [] and courier.durable_commit == 1


def test_a_timeline_that_begins_while_another_is_shipped_has_its_document_stored_too(
    setting: Setting, service: Service, tmp_path: Path
) -> None:
    """Without it nobody could open one segment of that timeline: its key is in there."""
    follower = begun(setting)
    courier = SegmentShipper(follower, place=setting.place)
    with ThreadPoolExecutor(1) as executor:
        courier.step(executor)
    service.process.kill()
    make(tmp_path / "other.db")
    for suffix in ("-wal", "-shm"):
        setting.path.with_name(f"memory.db{suffix}").unlink()
    (tmp_path / "other.db").rename(setting.path)
    follower.begin(watched_until_us=0)
    for _ in range(3):
        with ThreadPoolExecutor(1) as executor:
            courier.step(executor)
    assert follower.standing is not None and follower.standing.published
    stored = {info.key.rsplit("/", 1)[1] for info in setting.storage.list("timelines/memory/")}
    assert len(stored) == 2 and f"{follower.standing.timeline.id}.json" in stored


def test_nothing_is_shipped_into_a_storage_that_lost_all_as_the_mount_point_of_a_disk_that_is_away(
    setting: Setting, service: Service
) -> None:
    """It would count as durable, and be missing between what the disk has once it is back."""
    repository = setting.place.repository("here")
    follower = begun(setting)
    courier = SegmentShipper(follower, place=setting.place)
    courier.ship()
    follower.change(published=True)
    insert(service, 1)
    follower.rotate()
    mounted, repository.storage = repository.storage, MemoryStorage()
    with pytest.raises(StorageUnreachable, match="is missing"):
        courier.ship()
    assert list(repository.storage.list()) == [] and courier.durable_commit == 1
    repository.storage = mounted
    courier.ship()
    assert len(segments(setting.storage)) == 2 and courier.durable_commit == 2


def test_no_timeline_begins_in_a_storage_that_lost_all(setting: Setting, service: Service) -> None:
    repository = setting.place.repository("here")
    follower = begun(setting)
    SegmentShipper(follower, place=setting.place).ship()
    follower.change(published=True)
    setting.time.offset = timedelta(hours=-2)
    follower.let_go()
    repository.storage = MemoryStorage()
    with pytest.raises(StorageUnreachable):
        setting.follower().begin(watched_until_us=0)
    assert list(repository.storage.list()) == []


def test_a_second_writer_on_an_ended_timeline_keeps_the_present_one_from_nothing(setting: Setting, service: Service) -> None:
    """A fence put up for it would come back with every new timeline, and nothing would be captured any more."""
    follower = begun(setting)
    courier = SegmentShipper(follower, place=setting.place)
    courier.ship()
    follower.change(published=True)
    assert follower.standing is not None
    old = follower.standing.timeline
    insert(service, 1)
    follower.rotate()
    setting.storage.put(f"segments/memory/{old.id}/r-0000000002.segment", b"of a clone")
    setting.time.offset = timedelta(hours=-2)
    follower.begin(watched_until_us=0)
    courier.ship()
    assert follower.standing.timeline.id != old.id and courier.durable_commit == 1
    assert leftovers(follower.directory) == []
    assert [one.seq for one in Spool(follower.directory, old.id).waiting()] == [2]


def test_who_stops_is_not_kept_by_what_waits_after_an_outage(setting: Setting, service: Service) -> None:
    follower = begun(setting)
    for _ in range(N_AT_THE_END + 3):
        insert(service, 1)
        follower.rotate()
    courier = SegmentShipper(follower, place=setting.place)
    courier.cancel()
    courier.ship()
    assert len(segments(setting.storage)) == N_AT_THE_END
    SegmentShipper(follower, place=setting.place).ship()
    assert len(segments(setting.storage)) == N_AT_THE_END + 4
