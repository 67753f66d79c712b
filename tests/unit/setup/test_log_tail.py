"""Reading a log from its end: the same lines as reading it whole, at the cost of its end, over rotations."""

from __future__ import annotations

import gzip
import io
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from continuum_tasks.errors import ConfigError
from continuum_tasks.setup import log_tail


def wanted(line: bytes) -> bool:
    return line != b""


def read(path: Path, *, n: int | None = None, over: bytes = b"none", not_before: float = 0.0) -> list[bytes]:
    window = log_tail.LogWindow(wanted=wanted, over=lambda line: line.startswith(over), n=n)
    told: list[str] = []
    with ExitStack() as stack:
        found = list(log_tail.log_lines(log_tail.open_log(path, stack, not_before=not_before), window, tell=told.append))
    return found + [text.encode() for text in told]


def written(path: Path, data: bytes, *, age: float) -> None:
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    os.utime(path, (time.time() - age, time.time() - age))


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    pieces=st.lists(st.sampled_from([b"", b"a", b"bb" * 9, b"\xff\r", b"x" * 70_000, b"y" * 65_535]), max_size=9),
    ends=st.booleans(),
)
def test_backwards_gives_the_lines_of_the_file_with_their_offsets(pieces: list[bytes], ends: bool) -> None:
    data = b"\n".join(pieces) + (b"\n" if ends and pieces else b"")
    found = list(log_tail.backwards(io.BytesIO(data), len(data)))
    expected = data.removesuffix(b"\n").split(b"\n") if data else []
    assert [line for _, line in reversed(found)] == expected
    assert all(data[offset : offset + len(line)] == line for offset, line in found)


def test_the_last_lines_are_taken_from_as_many_rotated_files_as_it_needs(tmp_path: Path) -> None:
    path = tmp_path / "backup.log"
    written(path, b"7\n8\n", age=0)
    written(tmp_path / "backup.log.1", b"5\n6\n", age=10)
    written(tmp_path / "backup.log.2.gz", b"3\n4\n", age=20)
    written(tmp_path / "backup.log-20251206", b"1\n2", age=30)
    written(tmp_path / "backup.log.bak", b"no\n", age=5)
    written(tmp_path / "other.log", b"no\n", age=5)
    whole = [b"1", b"2", b"3", b"4", b"5", b"6", b"7", b"8"]
    assert read(path) == whole
    for n in range(1, 9):
        assert read(path, n=n) == whole[-n:]
    for number in range(8):
        assert read(path, over=whole[number]) == whole[number + 1 :]
    assert read(path, not_before=time.time() - 15) == whole[4:]


def test_a_rotated_file_that_is_damaged_is_told_and_left_out(tmp_path: Path) -> None:
    path = tmp_path / "backup.log"
    written(path, b"2\n", age=0)
    (tmp_path / "backup.log.1.gz").write_bytes(gzip.compress(os.urandom(9000))[:-20])
    found = read(path)
    assert found[0] == b"2" and b"skipped" in found[1]


def test_the_end_of_a_long_file_costs_no_more_than_that_of_a_short_one(tmp_path: Path) -> None:
    path = tmp_path / "backup.log"
    with path.open("wb") as file:
        file.truncate(64 * 1024**3)  # a hole: reading it all would take ten seconds and more
        file.seek(0, os.SEEK_END)
        file.write(b"\n" + b"".join(b"line %d\n" % number for number in range(5000)))
    begun = time.process_time()  # the wall's would be about what else the machine does
    assert read(path, n=3) == [b"line 4997", b"line 4998", b"line 4999"]
    assert time.process_time() - begun < 1


def test_a_line_without_end_comes_in_pieces(tmp_path: Path) -> None:
    path = tmp_path / "backup.log"
    path.write_bytes(b"first\n" + b"x" * (5 * log_tail.MAX_LINE_BYTES))
    found = read(path)
    assert found[0] == b"first" and max(len(line) for line in found) <= log_tail.MAX_LINE_BYTES
    assert b"".join(found[1:]) == b"x" * (5 * log_tail.MAX_LINE_BYTES)


def test_what_is_no_regular_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "directory").mkdir()
    for name in ("fifo", "directory"):
        with pytest.raises(ConfigError):
            read(tmp_path / name)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[tuple[Path, log_tail.LogFollower]]:
    path = tmp_path / "backup.log"
    path.write_bytes(b"old\n")
    descriptor = os.open(path, os.O_RDONLY)
    with closing(log_tail.LogFollower(path, descriptor=descriptor, offset=4)) as follower:
        os.close(descriptor)
        yield path, follower


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def test_following_waits_for_whole_lines(log: tuple[Path, log_tail.LogFollower]) -> None:
    path, follower = log
    append(path, b"one\ntw")
    assert follower.poll() == [b"one"]
    append(path, b"o\n")
    assert follower.poll() == [b"two"]
    assert follower.poll() == []


def test_following_survives_rotation_and_loses_no_line(log: tuple[Path, log_tail.LogFollower]) -> None:
    path, follower = log
    found: list[bytes] = []
    with path.open("ab", buffering=0) as still_open:
        append(path, b"1\n")
        path.rename(path.with_name("backup.log.1"))
        found += follower.poll()
        path.write_bytes(b"3\n")
        found += follower.poll()
        still_open.write(b"2\n")  # by a process that had it open
    found += follower.poll() + follower.poll()
    append(path, b"4\n")
    found += follower.poll()
    assert found == [b"1", b"2", b"3", b"4"]


def test_following_survives_a_file_that_is_cut_off_or_not_there_yet(log: tuple[Path, log_tail.LogFollower]) -> None:
    path, follower = log
    path.write_bytes(b"")
    assert follower.poll() == []
    append(path, b"again\n")
    assert follower.poll() == [b"again"]
    with closing(log_tail.LogFollower(path.with_name("later.log"), descriptor=None, offset=0)) as other:
        assert other.poll() == []
        append(path.with_name("later.log"), b"here\n")
        assert other.poll() == [b"here"]
