"""Timelines and segments in a directory, in memory and on two real S3 servers, one of which ignores conditions."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from continuum_tasks.errors import Fenced
from continuum_tasks.repository.timelines import (
    delete_segment,
    list_segments,
    put_merged,
    put_segment,
    put_timeline,
    read_segment,
    read_segment_index,
    read_timelines,
    stale_segments,
    stored_segments,
)
from continuum_tasks.storage.protocol import Storage
from tests.support import segment_objects as objects
from tests.support.histories import keyed, made, shipped, timeline
from tests.support.segment_objects import SMALL, contents_of, merged


def test_what_was_shipped_is_listed_and_read(storage: Storage, tmp_path: Path) -> None:
    repository = keyed(tmp_path / "keys", storage)
    line, segments = shipped(repository, 3)

    refs = list_segments(repository, line)

    assert read_timelines(repository, "main") == [line]
    assert [ref.first_seq for ref in refs] == [1, 2, 3]
    for ref, segment in zip(refs, segments, strict=True):
        assert ref.size_bytes == len(segment.data)
        assert read_segment_index(repository, line, ref).head == segment.head
        assert contents_of(read_segment(repository, line, ref)) == list(SMALL)


def test_a_second_host_is_fenced_off(storage: Storage, tmp_path: Path) -> None:
    repository = keyed(tmp_path / "keys", storage)
    line, segments = shipped(repository, 2)
    stored = {info.key: storage.get(info.key) for info in storage.list()}
    other = objects.seal([{7: bytes(512)}], previous=segments[0].head)

    with pytest.raises(Fenced, match=f"segment 2 of timeline {line.id} of main: storage here has another one"):
        put_segment(repository, line, other)

    assert {info.key: storage.get(info.key) for info in storage.list()} == stored


def test_shipping_a_segment_again_is_fine(storage: Storage, tmp_path: Path) -> None:
    repository = keyed(tmp_path / "keys", storage)
    line, segments = shipped(repository, 2)

    assert [put_segment(repository, line, segment) for segment in segments] == [
        ref.key for ref in stored_segments(repository, line)
    ]
    put_timeline(repository, line)


def test_of_hosts_that_race_one_ships_and_the_others_are_fenced_off(storage: Storage, tmp_path: Path) -> None:
    if not storage.capabilities().conditional_put:
        pytest.skip("this server ignores conditions")
    repository = keyed(tmp_path / "keys", storage)
    line = timeline(repository)
    rivals = [objects.seal([{1: bytes([n]) * 512}]) for n in range(6)]
    shipped_by: list[int] = []
    fenced: list[int] = []
    gate = threading.Barrier(len(rivals))

    def ship(n: int) -> None:
        gate.wait()
        try:
            put_segment(repository, line, rivals[n])
        except Fenced:
            fenced.append(n)
        else:
            shipped_by.append(n)

    threads = [threading.Thread(target=ship, args=(n,)) for n in range(len(rivals))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(shipped_by) == 1 and len(fenced) == len(rivals) - 1
    (ref,) = list_segments(repository, line)
    assert contents_of(read_segment(repository, line, ref)) == [{1: bytes([shipped_by[0]]) * 512}]


def test_a_merged_segment_stands_for_what_it_was_merged_from(storage: Storage, tmp_path: Path) -> None:
    repository = keyed(tmp_path / "keys", storage)
    line, segments = shipped(repository, 4)

    both = put_merged(repository, line, merged(segments[1:3]))
    assert put_merged(repository, line, merged(segments[1:3])) == both

    refs = list_segments(repository, line)
    assert [(ref.first_seq, ref.last_seq, ref.is_raw) for ref in refs] == [(1, 1, True), (2, 3, False), (4, 4, True)]
    assert (refs[1].key, refs[1].first_commit, refs[1].last_commit) == (both, 4, 9)
    assert contents_of(read_segment(repository, line, refs[1])) == list(SMALL) * 2
    stale = stale_segments(repository, line)
    assert [key.rsplit("/", 1)[1] for key in stale] == ["r-0000000002.segment", "r-0000000003.segment"]
    for key in stale:
        delete_segment(repository, key)
    assert list_segments(repository, line) == refs == stored_segments(repository, line)
    assert stale_segments(repository, line) == ()


def test_of_a_large_segment_the_index_is_read_without_its_pages(storage: Storage, tmp_path: Path) -> None:
    repository = keyed(tmp_path / "keys", storage)
    line = timeline(repository)
    sizes = []
    for n_pages in (400, 4000):  # an index within the last 64 KiB, and one that begins before them
        pages = {pgno: objects.noise_page(512, pgno) for pgno in range(1, n_pages + 1)}
        segment = made(1, parts=[[pages]])[0]
        key = put_segment(repository, line, segment)
        (ref,) = list_segments(repository, line)
        opened = read_segment_index(repository, line, ref)
        assert opened.head == segment.head and opened.data is None
        sizes.append(segment.index_bytes)
        delete_segment(repository, key)
    assert sizes[0] < 64 * 1024 < sizes[1]
