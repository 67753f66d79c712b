from __future__ import annotations

import struct
from pathlib import Path

import pytest

from continuum_tasks.wal import format as wal
from tests.unit.wal.logs import Log, big_endian, frames_of, make_log


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Log:
    return make_log(tmp_path_factory.mktemp("log"), page_size=1024, n_commits=20)


@pytest.mark.parametrize("page_size", [512, 4096, 65536])
def test_headers_of_a_real_log_say_what_sqlite_committed(tmp_path: Path, page_size: int) -> None:
    log = make_log(tmp_path, page_size=page_size, n_commits=5)
    header, index = wal.decode_wal_header(log.wal), wal.decode_shm_header(log.shm)
    frames = frames_of(log)
    assert (header.page_size, header.order) == (page_size, "<")
    assert header.frame_bytes == page_size + 24
    assert (index.page_size, index.max_frame, index.n_pages) == (page_size, len(frames), frames[-1].size)
    assert (index.salts, index.checksum, index.n_copied) == (header.salts, frames[-1].checksum, 0)
    assert index.change > 0


def test_a_log_of_the_other_byte_order_is_read(log: Log) -> None:
    assert wal.decode_wal_header(big_endian(log)).order == ">"


@pytest.mark.parametrize("at", range(wal.HEADER_BYTES))
def test_a_flipped_byte_of_the_header_is_noticed(log: Log, at: int) -> None:
    changed = bytearray(log.wal[: wal.HEADER_BYTES])
    changed[at] ^= 1
    with pytest.raises(ValueError, match=r"no WAL|checksum"):
        wal.decode_wal_header(changed)


def test_a_header_cut_short_or_with_an_impossible_page_size_is_refused(log: Log) -> None:
    with pytest.raises(ValueError, match="31 bytes"):
        wal.decode_wal_header(log.wal[:31])
    start = log.wal[:8] + struct.pack(">I", 1000) + log.wal[12:24]
    with pytest.raises(ValueError, match="page size 1000"):
        wal.decode_wal_header(start + struct.pack(">II", *wal.wal_checksum(start, (0, 0), "<")))


@pytest.mark.parametrize("at", range(2 * wal.INDEX_HEADER_BYTES))
def test_an_index_header_that_is_being_written_is_noticed(log: Log, at: int) -> None:
    changed = bytearray(log.shm[: wal.INDEX_BYTES])
    changed[at] ^= 1
    with pytest.raises(ValueError, match="copies"):
        wal.decode_shm_header(changed)


@pytest.mark.parametrize(
    ("at", "value", "what"),
    [(0, 1, "version 1"), (12, 0, "initialised: 0"), (16, 99, "checksum"), (14, 5, "checksum")],
)
def test_an_index_header_whose_copies_agree_on_nonsense_is_refused(log: Log, at: int, value: int, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        wal.decode_shm_header(_twice(log, at, value, signed=False))


def test_an_index_header_with_an_impossible_page_size_is_refused_even_with_its_checksum(log: Log) -> None:
    with pytest.raises(ValueError, match="page size 5 "):
        wal.decode_shm_header(_twice(log, 14, 5, signed=True))


def test_the_index_of_a_log_that_was_never_written_says_no_page_size(log: Log) -> None:
    head = bytearray(log.shm[: wal.INDEX_HEADER_BYTES])
    head[14:40] = bytes(26)
    head[40:48] = struct.pack("=II", *wal.wal_checksum(bytes(head[:40]), (0, 0), "<"))
    found = wal.decode_shm_header(bytes(head) * 2 + bytes(36))
    assert (found.page_size, found.max_frame, found.salts) == (0, 0, bytes(8))


def test_an_index_cut_short_is_refused(log: Log) -> None:
    with pytest.raises(ValueError, match="99 bytes"):
        wal.decode_shm_header(log.shm[:99])


def _twice(log: Log, at: int, value: int, *, signed: bool) -> bytes:
    head = bytearray(log.shm[: wal.INDEX_HEADER_BYTES])
    head[at : at + 2] = struct.pack("=H", value) if at != 12 else bytes((value, head[13]))
    if at == 0:
        head[0:4] = struct.pack("=I", value)
    if signed:
        head[40:48] = struct.pack("=II", *wal.wal_checksum(bytes(head[:40]), (0, 0), "<"))
    return bytes(head) * 2 + bytes(36)
