from __future__ import annotations

import os
import random
from array import array
from pathlib import Path

import pytest

from continuum_tasks.clock import Clock
from continuum_tasks.errors import ProofFailed
from continuum_tasks.layer.format import ZERO_DIGEST, digest_root, page_digest
from continuum_tasks.sqlite.changes import changed_pages, digest_file
from continuum_tasks.sqlite.inspect import inspect
from continuum_tasks.sqlite.pages import read_runs, write_pages
from continuum_tasks.sqlite.snapshot import StageLimits, stage_copy
from tests.support import other

pytestmark = pytest.mark.slow

PAGE = 512
LOCK_PAGE = 0x40000000 // 65536 + 1


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "staged.db"
    path.write_bytes(random.Random(5).randbytes(100 * PAGE))
    return path


def _pages(path: Path, pages: range | array[int], buffer_bytes: int) -> tuple[list[tuple[int, int]], dict[int, bytes]]:
    runs, found = [], {}
    for first, data in list(read_runs(path, page_size=PAGE, pages=pages, buffer_bytes=buffer_bytes)):
        n = len(data) // PAGE
        runs.append((first, n))
        found.update({first + i: bytes(data[i * PAGE : (i + 1) * PAGE]) for i in range(n)})
    return runs, found


@pytest.mark.parametrize("buffer_bytes", [1, PAGE, 7 * PAGE, 1 << 20])
def test_runs_hold_every_page_asked_for_once_and_keep_to_the_buffer(path: Path, buffer_bytes: int) -> None:
    data = path.read_bytes()
    chosen = array("I", sorted(random.Random(6).sample(range(1, 101), 60)))
    for pages in (range(1, 101), range(13, 14), chosen, array("I"), range(5, 5)):
        runs, found = _pages(path, pages, buffer_bytes)
        assert found == {pgno: data[(pgno - 1) * PAGE : pgno * PAGE] for pgno in pages}
        assert runs == sorted(runs)
        assert all(n * PAGE <= max(PAGE, buffer_bytes) for _, n in runs)


def test_neighbours_are_read_together(path: Path) -> None:
    assert _pages(path, array("I", [1, 2, 3, 7, 9, 10]), 1 << 20)[0] == [(1, 3), (7, 1), (9, 2)]


def test_a_page_beyond_the_end_is_told_and_never_made_up(path: Path) -> None:
    with pytest.raises(ProofFailed, match=r"staged\.db: ends inside page 101"):
        _pages(path, range(99, 103), 1 << 20)


def test_written_pages_are_read_back_at_their_place(tmp_path: Path) -> None:
    path = tmp_path / "new.db"
    fd = os.open(path, os.O_CREAT | os.O_RDWR)
    write_pages(fd, 5, b"b" * 3 * PAGE, page_size=PAGE)
    write_pages(fd, 1, memoryview(b"a" * PAGE), page_size=PAGE)
    os.close(fd)
    assert path.read_bytes() == b"a" * PAGE + bytes(3 * PAGE) + b"b" * 3 * PAGE


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize(("page_size", "n_pages"), [(512, 1), (512, 20001), (65536, 130), (4096, 0)])
def test_digests_are_those_of_every_page_whatever_the_threads(
    tmp_path: Path, n_threads: int, page_size: int, n_pages: int
) -> None:
    path, out = tmp_path / "staged.db", tmp_path / "digests"
    path.write_bytes(random.Random(8).randbytes(page_size * n_pages))

    found = digest_file(path, out, page_size=page_size, n_pages=n_pages, n_threads=n_threads)

    data = path.read_bytes()
    expected = b"".join(page_digest(data[at : at + page_size]) for at in range(0, len(data), page_size))
    assert out.read_bytes() == expected
    assert found == digest_root([expected])
    assert out.stat().st_mode & 0o777 == 0o600
    assert sorted(tmp_path.iterdir()) == [out, path]


def test_a_file_of_another_length_is_not_digested(path: Path, tmp_path: Path) -> None:
    for n_pages in (99, 101):
        with pytest.raises(ProofFailed, match=r"staged\.db: 51200 bytes, not"):
            digest_file(path, tmp_path / "digests", page_size=PAGE, n_pages=n_pages, n_threads=2)
    assert not (tmp_path / "digests").exists()


@pytest.mark.parametrize("n_old", [0, 50, 9000, 12000])
def test_changed_pages_are_those_that_differ_or_are_new(tmp_path: Path, n_old: int) -> None:
    rng = random.Random(n_old)
    old, new = tmp_path / "old", tmp_path / "new"
    before = [rng.randbytes(16) for _ in range(n_old)]
    after = [*before[:10000], *(rng.randbytes(16) for _ in range(10000 - n_old))]
    touched = sorted(rng.sample(range(10000), 77))
    for at in touched:
        after[at] = rng.randbytes(16)
    old.write_bytes(b"".join(before))
    new.write_bytes(b"".join(after))

    expected = sorted({at + 1 for at in touched} | set(range(n_old + 1, 10001)))
    assert list(changed_pages(old, new)) == expected


def test_an_unchanged_file_has_no_changed_pages_and_a_torn_one_is_told(tmp_path: Path) -> None:
    old, torn = tmp_path / "old", tmp_path / "torn"
    old.write_bytes(bytes(range(160)))
    torn.write_bytes(bytes(range(150)))
    assert list(changed_pages(old, old)) == []
    for pair in ((old, torn), (torn, old)):
        with pytest.raises(ProofFailed, match="torn: torn file of page digests"):
            changed_pages(*pair)


def test_the_lock_page_of_a_database_beyond_1_gib_is_never_read_digested_or_changed(
    tmp_path: Path, clock: Clock, limits: StageLimits
) -> None:
    path = tmp_path / "memory.db"
    other.sql(path, "PRAGMA page_size=65536; CREATE TABLE t(x); INSERT INTO t VALUES ('first')")
    with path.open("r+b") as file:  # sparse up to the byte at 0x40000000: pages nobody uses
        file.truncate((LOCK_PAGE - 1) * 65536)
        file.seek(28)
        file.write((LOCK_PAGE - 1).to_bytes(4, "big"))
    other.sql(path, "INSERT INTO t VALUES (zeroblob(200000)); INSERT INTO t VALUES ('beyond')")
    assert path.stat().st_size > LOCK_PAGE * 65536
    empty = tmp_path / "empty"
    empty.touch()

    with stage_copy(inspect(path), tmp_path / "stage", limits=limits, clock=clock) as staged:
        out = tmp_path / "digests"
        digest_file(staged.path, out, page_size=65536, n_pages=staged.n_pages, n_threads=2)
        digests = out.read_bytes()
        near = range(LOCK_PAGE - 2, LOCK_PAGE + 2)
        runs = [(first, len(data) // 65536) for first, data in read_runs(staged.path, page_size=65536, pages=near)]
        listed = read_runs(staged.path, page_size=65536, pages=array("I", near))
        assert [(first, len(data) // 65536) for first, data in listed] == runs
        assert other.sql(staged.path, "SELECT count(*), max(x) FROM t WHERE typeof(x) = 'text'") == "(2, 'first')"

    assert runs == [(LOCK_PAGE - 2, 2), (LOCK_PAGE + 1, 1)]
    assert digests[(LOCK_PAGE - 1) * 16 : LOCK_PAGE * 16] == ZERO_DIGEST
    assert digests.count(ZERO_DIGEST) == 1
    assert LOCK_PAGE not in changed_pages(empty, out)
    assert len(changed_pages(empty, out)) == len(digests) // 16 - 1
