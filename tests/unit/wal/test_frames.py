from __future__ import annotations

from pathlib import Path

import pytest

from continuum_tasks.wal.format import HEADER_BYTES, decode_wal_header
from continuum_tasks.wal.frames import Frames, read_frames, transactions
from tests.unit.wal.logs import Log, big_endian, frames_of, make_log

SIZES = [512, 1024, 4096, 65536]


@pytest.fixture(scope="module", params=SIZES)
def log(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Log:
    return make_log(tmp_path_factory.mktemp("log"), page_size=request.param, n_commits=30)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Log:
    return make_log(tmp_path_factory.mktemp("log"), page_size=512, n_commits=3)


def read(wal: bytes) -> Frames:
    header = decode_wal_header(wal)
    return read_frames(wal[HEADER_BYTES:], header, first=1, before=header.checksum)


def test_every_frame_is_proven_and_read_as_one_by_one(log: Log) -> None:
    for wal in (log.wal, big_endian(log)):
        frames, expected = read(wal), frames_of(log)
        assert frames.pgnos.tolist() == [frame.pgno for frame in expected]
        assert frames.sizes.tolist() == [frame.size for frame in expected]
        assert [bytes(frames.page(at)) for at in range(len(expected))] == [frame.page for frame in expected]
    assert [tuple(one) for one in read(log.wal).checksums.tolist()] == [frame.checksum for frame in expected]


def test_a_stretch_that_begins_anywhere_is_proven_from_the_frame_before_it(log: Log) -> None:
    header, expected = decode_wal_header(log.wal), frames_of(log)
    for after in (1, 7, len(expected) - 1):
        data = log.wal[HEADER_BYTES + after * header.frame_bytes :]
        frames = read_frames(data, header, first=after + 1, before=expected[after - 1].checksum)
        assert frames.pgnos.tolist() == [frame.pgno for frame in expected[after:]]


def test_a_flipped_byte_anywhere_in_a_frame_names_that_frame(small: Log) -> None:
    header = decode_wal_header(small.wal)
    for at in range(HEADER_BYTES + header.frame_bytes, HEADER_BYTES + 2 * header.frame_bytes):
        changed = bytearray(small.wal)
        changed[at] ^= 0x80
        with pytest.raises(ValueError, match=r"frame 2 "):
            read(bytes(changed))


def test_frames_after_another_past_are_refused(small: Log) -> None:
    header = decode_wal_header(small.wal)
    with pytest.raises(ValueError, match="frame 1 does not match"):
        read_frames(small.wal[HEADER_BYTES:], header, first=1, before=(1, 2))


@pytest.mark.parametrize("cut", [1, 24, 535])
def test_part_of_a_frame_is_refused(small: Log, cut: int) -> None:
    with pytest.raises(ValueError, match="not whole frames"):
        read(small.wal[:-cut])


def test_no_frame_at_all_is_refused(small: Log) -> None:
    with pytest.raises(ValueError, match="0 bytes are not whole frames"):
        read(small.wal[:HEADER_BYTES])


def test_transactions_keep_the_last_version_of_each_page_that_is_left(log: Log) -> None:
    expected = frames_of(log)
    found = list(transactions(read(log.wal)))
    assert len(found) == 31  # the table, then 30
    start = 0
    for one in found:
        frames = expected[start : one.last_frame]
        newest = {frame.pgno: frame.page for frame in frames if frame.pgno <= one.n_pages}
        assert one.first_frame == start + 1 and frames[-1].size == one.n_pages
        assert all(frame.size == 0 for frame in frames[:-1])
        assert list(one.pgnos) == sorted(newest)
        assert [expected[at].page for at in one.at] == [newest[pgno] for pgno in one.pgnos]
        start = one.last_frame
    assert start == len(expected)


def test_frames_that_end_in_the_middle_of_a_transaction_are_refused(tmp_path: Path) -> None:
    log = make_log(tmp_path, page_size=512, n_commits=4, seed=3)
    expected = frames_of(log)
    at = next(number for number, frame in enumerate(expected, 1) if not frame.size)
    header = decode_wal_header(log.wal)
    part = read_frames(log.wal[HEADER_BYTES:][: at * header.frame_bytes], header, first=1, before=header.checksum)
    with pytest.raises(ValueError, match=f"frame {at} is the last one and ends no commit"):
        list(transactions(part))
