"""Timelines: documents that are signed and checked as manifests are, and segments that are what their names say."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import xxhash

from continuum_tasks.errors import Fenced, KeyMissing, KeyWrong, NewerFormat, ObjectDamaged, ObjectExists, ObjectMissing
from continuum_tasks.history.segment_names import SegmentRef
from continuum_tasks.model import Cipher, Timeline, TimelineId
from continuum_tasks.repository import timelines
from continuum_tasks.repository.documents import encode_document
from continuum_tasks.repository.repository import Repository
from continuum_tasks.repository.timelines import (
    delete_segment,
    delete_timeline,
    in_order,
    list_segments,
    put_merged,
    put_segment,
    put_timeline,
    read_segment,
    read_segment_index,
    read_timelines,
    segment_context,
    stored_segments,
    timeline_key,
)
from continuum_tasks.storage.memory import MemoryStorage
from continuum_tasks.storage.protocol import Buffer
from tests.support import segment_objects as objects
from tests.support.histories import PLAIN, keyed, made, shipped, timeline
from tests.support.segment_objects import SMALL, contents_of, merged

NAMES = "segments/main/timeline-20261101-120000-00c0ffee"


@pytest.fixture
def storage() -> MemoryStorage:
    return MemoryStorage()


@pytest.fixture
def repository(tmp_path: Path, storage: MemoryStorage) -> Repository:
    return keyed(tmp_path / "keys", storage)


def without_keys(tmp_path: Path, storage: MemoryStorage) -> Repository:
    return keyed(tmp_path / "none", storage, key_id="")


def forge(storage: MemoryStorage, one: Timeline, *, key: str = "", kind: str = "timeline") -> str:
    """Write a document that nobody signed."""
    key = key or timeline_key(one.database, one.id)
    storage.put(key, encode_document(kind, one, sign=None))
    return key


def flip(storage: MemoryStorage, key: str, at: int) -> None:
    data = bytearray(storage.get(key))
    data[at] ^= 1
    storage.put(key, data)


def only(repository: Repository, line: Timeline) -> SegmentRef:
    (ref,) = stored_segments(repository, line)
    return ref


def test_timelines_read_back_oldest_first(repository: Repository) -> None:
    lines = [timeline(repository, n=n, database=database) for n, database in ((2, "main"), (0, "main"), (1, "notes"))]
    for line in lines:
        put_timeline(repository, line)

    assert read_timelines(repository) == [lines[1], lines[2], lines[0]]
    assert read_timelines(repository, "main") == [lines[1], lines[0]]
    assert read_timelines(repository, "other") == []


def test_a_timeline_comes_after_the_one_before_it_whatever_the_clock_said(repository: Repository) -> None:
    """The clock was an hour ahead when the first began, and was set back before the second."""
    first = replace(timeline(repository, n=1), created_at=timeline(repository, n=1).created_at + timedelta(hours=1))
    second = replace(timeline(repository, n=2), previous=first.id)
    loop = [
        replace(timeline(repository, n=3), previous=timeline(repository, n=4).id),
        replace(timeline(repository, n=4), previous=timeline(repository, n=3).id),
    ]
    assert in_order([second, first]) == [first, second]
    assert sorted(one.id for one in in_order(loop)) == sorted(one.id for one in loop)


def test_a_timeline_is_never_written_over_another(repository: Repository) -> None:
    line = timeline(repository)
    put_timeline(repository, line)

    with pytest.raises(Fenced, match=f"timeline {line.id} of main: storage here has another one") as caught:
        put_timeline(repository, replace(line, host="clone"))

    assert caught.value.exit_code == 10 and "clone" in caught.value.hint
    assert read_timelines(repository) == [line]


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"database": "Main"}, "its database has a name that is not allowed"),
        ({"page_size": 1000}, "page size 1000"),
        ({"page_size": 256}, "page size 256"),
        ({"page_size": 131072}, "page size 131072"),
        ({"cipher": Cipher.NONE}, "says none, its key otherwise"),
        ({"wrapped_key": None}, "says aes-256-gcm, its key otherwise"),
        ({"previous": TimelineId("timeline-20261101-120000-00c0ffee")}, "comes after itself"),
    ],
    ids=str,
)
def test_a_timeline_that_breaks_a_rule_is_neither_written_nor_believed(
    repository: Repository, storage: MemoryStorage, changes: dict[str, object], match: str
) -> None:
    wrong = replace(timeline(repository), **changes)
    key = timeline_key(wrong.database, wrong.id)

    with pytest.raises(ObjectDamaged, match=f"object {key}: {match}"):
        put_timeline(repository, wrong)
    assert list(storage.list()) == []

    storage.put(key, repository.encode_signed("timeline", wrong, wrapped=timeline(repository).wrapped_key))
    with pytest.raises(ObjectDamaged, match=f"object {key}: {match}"):
        read_timelines(repository)


def test_every_changed_byte_of_a_timeline_is_noticed(repository: Repository, storage: MemoryStorage) -> None:
    key = put_timeline(repository, timeline(repository))
    good = storage.get(key)

    for at in range(len(good)):
        flip(storage, key, at)
        with pytest.raises(ObjectDamaged, match=f"object {key}"):
            read_timelines(repository)
        storage.put(key, good)


def test_a_damaged_timeline_hides_no_other(repository: Repository, storage: MemoryStorage) -> None:
    lines = [timeline(repository, n=n) for n in range(3)]
    keys = [put_timeline(repository, line) for line in lines]
    flip(storage, keys[1], 50)

    found = list(timelines.timelines(repository))

    assert [key for key, _ in found] == keys
    assert [line for _, line in found if isinstance(line, Timeline)] == [lines[0], lines[2]]
    assert isinstance(found[1][1], ObjectDamaged) and keys[1] in found[1][1].message


def test_a_timeline_that_nobody_signed_is_refused_where_there_are_keys(
    tmp_path: Path, repository: Repository, storage: MemoryStorage
) -> None:
    plain = timeline(repository, encrypted=False)
    key = forge(storage, plain)

    with pytest.raises(ObjectDamaged, match=f"object {key}: has no signature"):
        read_timelines(repository)
    allowing = keyed(tmp_path / "more", storage, accept_unsigned=True)
    assert read_timelines(allowing) == [plain]
    assert read_timelines(without_keys(tmp_path, storage)) == [plain]


def test_a_timeline_signed_by_another_is_refused(tmp_path: Path, storage: MemoryStorage) -> None:
    mine, other = keyed(tmp_path / "mine", storage), keyed(tmp_path / "other", MemoryStorage())
    line = timeline(mine)
    data = other.encode_signed("timeline", line, wrapped=line.wrapped_key)
    key = timeline_key("main", line.id)
    storage.put(key, data.replace(b'"host":"h1"', b'"host":"h2"'))

    with pytest.raises(ObjectDamaged, match=f"object {key}"):
        read_timelines(mine)

    storage.put(key, data)  # sound, under another key of that name: listed, as a manifest is, and its segments do not open
    assert read_timelines(mine) == [line]


def test_a_document_in_another_place_or_of_another_kind_is_refused(repository: Repository, storage: MemoryStorage) -> None:
    line = timeline(repository)
    data = storage.get(put_timeline(repository, line))
    delete_timeline(repository, line)
    for key in (timeline_key("notes", line.id), timeline_key("main", timeline(repository, n=1).id), "timelines/main/x.json"):
        storage.put(key, data)
        with pytest.raises(ObjectDamaged, match=f"object {key}: holds {line.id}"):
            read_timelines(repository)
        storage.delete(key)
    key = timeline_key("main", line.id)
    storage.put(key, repository.encode_signed("hold", line, wrapped=line.wrapped_key))
    with pytest.raises(ObjectDamaged, match=f"object {key}: .*a 'hold' where a 'timeline' belongs"):
        read_timelines(repository)


def test_without_its_key_a_timeline_is_listed_and_its_segments_do_not_open(
    tmp_path: Path, repository: Repository, storage: MemoryStorage
) -> None:
    line, _ = shipped(repository, 1)
    lost, other = without_keys(tmp_path, storage), keyed(tmp_path / "other", storage)

    assert read_timelines(lost) == read_timelines(other) == [line]
    for read in (read_segment_index, read_segment):
        with pytest.raises(KeyMissing, match="k"):
            read(lost, line, only(lost, line))
        with pytest.raises(KeyWrong, match="k"):
            read(other, line, only(other, line))
    with pytest.raises(KeyMissing):
        put_timeline(lost, replace(line, id=timeline(repository, n=1).id))


def test_a_wrapped_key_opens_no_other_timeline(repository: Repository) -> None:
    line, _ = shipped(repository, 1)
    stolen = replace(timeline(repository, n=1), wrapped_key=line.wrapped_key)

    with pytest.raises(KeyWrong):
        read_segment(repository, stolen, only(repository, line))


def test_segments_of_an_unencrypted_timeline_are_kept_too(tmp_path: Path, storage: MemoryStorage) -> None:
    repository = keyed(tmp_path / "keys", storage, accept_unsigned=True, key_id="")
    line, segments = shipped(repository, 2, encrypted=False)

    assert read_timelines(repository) == [line]
    assert [read_segment_index(repository, line, ref).head for ref in list_segments(repository, line)] == [
        s.head for s in segments
    ]


def test_an_unencrypted_segment_in_an_encrypted_timeline_is_refused(repository: Repository, storage: MemoryStorage) -> None:
    line, _ = shipped(repository, 1)
    ref = only(repository, line)
    storage.put(ref.key, objects.seal(SMALL, how=PLAIN).data)

    with pytest.raises(ObjectDamaged, match=f"object {ref.key}: is not encrypted, its timeline is"):
        read_segment(repository, line, replace(ref, size_bytes=storage.stat(ref.key).size_bytes))


def test_swapped_segments_do_not_open(repository: Repository, storage: MemoryStorage) -> None:
    line, segments = shipped(repository, 2)
    one, two = stored_segments(repository, line)
    storage.put(one.key, segments[1].data)
    storage.put(two.key, segments[0].data)

    for ref in stored_segments(repository, line):
        with pytest.raises(ObjectDamaged, match=f"object {ref.key}: .*another object"):
            read_segment(repository, line, ref)


@pytest.mark.parametrize("name", ["m-0000000001-0000000002-1-7-{0}-{1}", "m-0000000001-0000000002-1-6-{0}-{0}"])
def test_a_merged_segment_under_a_name_that_lies_is_refused(repository: Repository, storage: MemoryStorage, name: str) -> None:
    line, segments = shipped(repository, 2)
    us = [segments[0].head.commits[0].observed_us, segments[1].head.commits[-1].observed_us]
    key = f"{NAMES}/{name.format(*us)}.segment"
    storage.put(key, merged(segments).data)
    (ref,) = list_segments(repository, line)

    with pytest.raises(ObjectDamaged, match=f"object {key}: holds segment 1-2 of {line.id}"):
        read_segment_index(repository, line, ref)


def test_a_segment_of_another_page_size_than_its_timelines_is_refused(repository: Repository) -> None:
    line, _ = shipped(repository, 1)

    with pytest.raises(ObjectDamaged, match="holds segment 1"):
        read_segment(repository, replace(line, page_size=1024), only(repository, line))


def test_a_truncated_or_missing_segment_is_named(repository: Repository, storage: MemoryStorage) -> None:
    line, segments = shipped(repository, 1)
    ref = only(repository, line)
    storage.put(ref.key, segments[0].data[:-1])
    for read in (read_segment_index, read_segment):
        with pytest.raises(ObjectDamaged, match=f"object {ref.key}"):
            read(repository, line, ref)
    storage.delete(ref.key)
    for read in (read_segment_index, read_segment):
        with pytest.raises(ObjectMissing):
            read(repository, line, ref)


def large(repository: Repository, storage: MemoryStorage, n_pages: int) -> tuple[Timeline, SegmentRef]:
    line = timeline(repository)
    pages = {pgno: objects.noise_page(512, pgno) for pgno in range(1, n_pages + 1)}
    put_segment(repository, line, objects.seal([pages]))
    return line, only(repository, line)


@pytest.mark.parametrize(("n_pages", "n_reads"), [(10, 1), (400, 2), (4000, 3)])
def test_an_index_takes_one_to_three_requests(
    repository: Repository, storage: MemoryStorage, n_pages: int, n_reads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    line, ref = large(repository, storage, n_pages)
    asked: list[tuple[int, int | None]] = []
    get = storage.get

    def counted(key: str, *, offset: int = 0, length: int | None = None) -> bytes:
        asked.append((offset, length))
        return get(key, offset=offset, length=length)

    monkeypatch.setattr(storage, "get", counted)

    assert len(read_segment_index(repository, line, ref).index.pgnos) == n_pages
    assert len(asked) == n_reads


@pytest.mark.parametrize("index_offset", [0, 95, 2**64 - 1])
def test_a_place_of_the_index_outside_the_object_is_refused(
    repository: Repository, storage: MemoryStorage, index_offset: int
) -> None:
    line, ref = large(repository, storage, 400)
    data = bytearray(storage.get(ref.key))
    data[-36:-28] = index_offset.to_bytes(8, "big")
    storage.put(ref.key, data)

    with pytest.raises(ObjectDamaged, match=f"object {ref.key}: its index begins at byte {index_offset}"):
        read_segment_index(repository, line, ref)


@pytest.mark.parametrize("n_pages", [10, 400, 4000])
@pytest.mark.parametrize("tail", [b"", bytes(64), b"\xff" * 64])
def test_a_segment_of_a_newer_version_is_told_whatever_follows_its_header(
    repository: Repository, storage: MemoryStorage, n_pages: int, tail: bytes
) -> None:
    line, ref = large(repository, storage, n_pages)
    data = storage.get(ref.key)
    start = data[:8] + b"\x02" + data[9:80]
    storage.put(ref.key, start + xxhash.xxh3_128_digest(start) + data[96 : len(data) - len(tail)] + tail)

    with pytest.raises(NewerFormat, match=rf"{ref.key}: written by a newer version \(2\); this version reads up to 1"):
        read_segment_index(repository, line, ref)


def test_damage_in_the_tail_of_a_large_segment_is_noticed(repository: Repository, storage: MemoryStorage) -> None:
    line, ref = large(repository, storage, 400)
    for at in (*range(96), *range(-60, 0)):
        flip(storage, ref.key, at)
        with pytest.raises((ObjectDamaged, KeyWrong), match=ref.key):
            read_segment_index(repository, line, ref)
        flip(storage, ref.key, at)


def test_overlapping_segments_are_listed_once_and_a_missing_one_shows_as_a_jump(repository: Repository) -> None:
    line, segments = shipped(repository, 6)
    put_merged(repository, line, merged(segments[0:2]))
    put_merged(repository, line, merged(segments[0:3]))
    delete_segment(repository, f"{NAMES}/r-0000000005.segment")

    refs = list_segments(repository, line)

    assert [(ref.first_seq, ref.last_seq) for ref in refs] == [(1, 3), (4, 4), (6, 6)]
    stale = [key.removeprefix(f"{NAMES}/") for key in timelines.stale_segments(repository, line)]
    assert [name[:12] for name in stale] == ["r-0000000001", "m-0000000001", "r-0000000002", "r-0000000003"]


def test_foreign_objects_among_the_segments_are_passed_over(repository: Repository, storage: MemoryStorage) -> None:
    line, _ = shipped(repository, 1)
    for name in ("r-1.segment", "r-0000000000.segment", "r-0000000002.segment.part", "m-2-3.segment", "notes.txt"):
        storage.put(f"{NAMES}/{name}", b"x")

    assert [ref.first_seq for ref in list_segments(repository, line)] == [1]
    with pytest.raises(RuntimeError, match="no segment's name"):
        delete_segment(repository, f"{NAMES}/notes.txt")
    with pytest.raises(RuntimeError, match="no segment's name"):
        delete_segment(repository, "repository.json")


def test_only_segments_of_the_timeline_are_put(repository: Repository) -> None:
    line, segments = shipped(repository, 2)
    other = timeline(repository, n=1)

    with pytest.raises(RuntimeError, match="none that was captured"):
        put_segment(repository, line, merged(segments))
    with pytest.raises(RuntimeError, match="none that was captured"):
        put_segment(repository, other, segments[0])
    with pytest.raises(RuntimeError, match="is none of"):
        put_merged(repository, other, merged(segments))


def test_merging_again_mends_a_damaged_merged_segment(repository: Repository, storage: MemoryStorage) -> None:
    line, segments = shipped(repository, 2)
    key = put_merged(repository, line, merged(segments))
    good = storage.get(key)

    for bad in (good[:-1], b"", segments[0].data):
        storage.put(key, bad)
        assert put_merged(repository, line, merged(segments)) == key
        assert storage.get(key) == good


class Vanishing(MemoryStorage):
    """Refuses a create-only write for an object that is gone when one looks."""

    def put(self, key: str, data: Buffer, *, only_new: bool = False) -> None:
        if only_new:
            raise ObjectExists(f"{key}: it exists already")
        super().put(key, data)


def test_an_object_that_is_gone_when_one_looks_is_not_taken_for_ones_own(tmp_path: Path) -> None:
    repository = keyed(tmp_path / "keys", Vanishing())
    line, segments = timeline(repository), made(2)

    with pytest.raises(Fenced):
        put_segment(repository, line, segments[0])
    put_merged(repository, line, merged(segments))
    assert contents_of(read_segment(repository, line, only(repository, line))) == list(SMALL) * 2


def test_a_timeline_goes_with_its_segments(repository: Repository, storage: MemoryStorage) -> None:
    line, segments = shipped(repository, 3)
    put_merged(repository, line, merged(segments[:2]))
    kept = put_timeline(repository, timeline(repository, n=1))
    n_bytes = sum(info.size_bytes for info in storage.list("segments/"))

    assert delete_timeline(repository, line) == n_bytes
    assert [info.key for info in storage.list()] == [kept]
    assert delete_timeline(repository, line) == 0


def test_a_segment_is_bound_to_repository_timeline_and_seqs(repository: Repository) -> None:
    line = timeline(repository)
    contexts = {
        segment_context(one, *seqs).encode()
        for one in (line, timeline(repository, n=1), replace(line, repository_id="repo-2"))
        for seqs in ((1, 1), (1, 2), (2, 2))
    }

    assert len(contexts) == 9
    assert segment_context(line, 1, 2) == objects.context(1, 2)
