"""Bytes reserved on every page (page checksums, other VFSs) are kept to the byte, or computed as documented, or refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from continuum_tasks.clock import Clock
from continuum_tasks.errors import SourceRefused, TargetError
from continuum_tasks.restore.install.install import check_target, install
from continuum_tasks.restore.install.quarantine import copy_out, newest_quarantine
from continuum_tasks.sqlite import reserved
from continuum_tasks.sqlite.inspect import inspect
from continuum_tasks.sqlite.snapshot import Staged, StageLimits, stage_copy
from tests.support import reserving
from tests.support.reserving import files
from tests.unit.sqlite.conftest import NOW

PAGE_SIZES = [512, 1024, 2048, 4096, 8192, 16384, 32768, 65536]


@contextmanager
def staged_copy(path: Path, clock: Clock, limits: StageLimits) -> Iterator[Staged]:
    with stage_copy(inspect(path), path.parent / "stage", limits=limits, clock=clock) as staged:
        yield staged


@pytest.mark.parametrize("page_size", PAGE_SIZES)
def test_the_reserved_bytes_of_a_file_at_rest_are_copied_whatever_they_are(
    tmp_path: Path, clock: Clock, limits: StageLimits, page_size: int
) -> None:
    counts = [n for n in (4, 8, 12, 16, 32, 255) if page_size - n >= 480]
    cases = [(n, mode, tmp_path / f"{n}-{mode}.db") for n in counts for mode in ("delete", "wal")]
    made = "".join(f"create({str(path)!r}, {page_size}, {n}, {mode!r}).close()\n" for n, mode, path in cases)
    reserving.run(tmp_path, made, sums=False)
    for n, mode, path in cases:
        content = reserving.scramble(path, page_size=page_size, n_bytes=n)
        assert content[20] == n and (content[18] == 2) == (mode == "wal")
        with staged_copy(path, clock, limits) as staged:
            assert staged.damaged == ()
            assert staged.path.read_bytes() == content
        assert path.read_bytes() == content


@pytest.mark.parametrize("page_size", PAGE_SIZES)
def test_the_log_of_a_database_with_page_checksums_is_copied_with_checksums_as_cksumvfs_computes_them(
    tmp_path: Path, clock: Clock, limits: StageLimits, page_size: int
) -> None:
    path = tmp_path / "memory.db"
    with reserving.living(path, reserving.LIVE.replace("4096", str(page_size))) as service:
        before = files(path)
        with staged_copy(path, clock, limits) as staged:
            assert staged.damaged == ()
            assert reserving.judge(staged.path) == "[] ok"
            assert reserving.rows(staged.path) == reserving.rows(path)
            copied = staged.path.read_bytes()
        assert files(path) == before and "memory.db-wal" in before
        assert service.poll() is None
    reserving.run(path, "checkpoint()")
    assert copied[page_size:] == path.read_bytes()[page_size:]  # what cksumvfs itself makes of that log


def test_a_page_that_the_file_itself_has_wrong_is_copied_as_it_is_and_said_to_be_damaged(
    tmp_path: Path, clock: Clock, limits: StageLimits
) -> None:
    path = tmp_path / "memory.db"
    with reserving.living(path, reserving.LIVE.replace("change(c)", "c.execute('CREATE TABLE u(x)')")):
        data = bytearray(path.read_bytes())
        pgno = len(data) // 4096 - 1
        data[(pgno - 1) * 4096 + 2000] ^= 1
        with path.open("r+b") as file:
            file.write(data)
        with staged_copy(path, clock, limits) as staged:
            assert staged.damaged == (f"page {pgno} does not match its page checksum (cksumvfs)",)
            assert staged.path.read_bytes()[(pgno - 1) * 4096 : pgno * 4096] == data[(pgno - 1) * 4096 : pgno * 4096]
    reserving.run(path, "checkpoint()")
    with staged_copy(path, clock, limits) as staged:  # at rest too
        assert staged.damaged == (f"page {pgno} does not match its page checksum (cksumvfs)",)


def test_copies_made_while_a_service_commits_and_copies_its_log_back_have_every_checksum_right(
    tmp_path: Path, clock: Clock, limits: StageLimits
) -> None:
    path = tmp_path / "memory.db"
    busy = """
import random, threading
def go():
    d, chance = connect(), random.Random(7)
    d.wal_autocheckpoint(0)
    while True:
        change(d, 30)
        if chance.random() < 0.5:
            d.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
threading.Thread(target=go, daemon=True).start()
"""
    with reserving.living(path, reserving.LIVE + busy) as service:
        for _ in range(12):
            with staged_copy(path, clock, limits) as staged:
                assert staged.damaged == ()
                assert staged.path.stat().st_size == int.from_bytes(staged.path.read_bytes()[28:32], "big") * 4096
                assert reserving.judge(staged.path) == "[] ok"
        assert service.poll() is None


@pytest.mark.parametrize("n_bytes", [8, 12, 32])
def test_unknown_reserved_bytes_are_refused_until_the_log_is_copied_back_and_then_kept(
    tmp_path: Path, clock: Clock, limits: StageLimits, n_bytes: int
) -> None:
    path = tmp_path / "memory.db"
    code = f"c = create(path, 4096, {n_bytes}, 'wal'); c.wal_autocheckpoint(0); change(c)"
    with reserving.living(path, code, sums=False) as service:
        reserving.scramble(path, page_size=4096, n_bytes=n_bytes)
        before = files(path)
        with pytest.raises(SourceRefused, match=f"{n_bytes} bytes are reserved") as refused, staged_copy(path, clock, limits):
            pass
        assert "wal_checkpoint" in refused.value.hint and files(path) == before
        assert service.poll() is None
    with reserving.living(path, "c = connect(); change(c); checkpoint(c, mode=apsw.SQLITE_CHECKPOINT_PASSIVE)", sums=False):
        content = reserving.scramble(path, page_size=4096, n_bytes=n_bytes)
        assert "memory.db-wal" in files(path)
        with staged_copy(path, clock, limits) as staged:
            assert staged.damaged == () and staged.path.read_bytes() == content


@pytest.mark.parametrize("code", [reserving.HOT, reserving.HOT.replace(" 8,", " 12,")])
def test_a_journal_of_such_a_database_is_left_to_its_service(
    tmp_path: Path, clock: Clock, limits: StageLimits, code: str
) -> None:
    path = tmp_path / "memory.db"
    reserving.run(path, code)
    before = files(path)
    assert "memory.db-journal" in before
    with pytest.raises(SourceRefused, match=r"bytes are reserved on every page.*-journal") as refused:  # noqa: SIM117
        with staged_copy(path, clock, limits):
            pass
    assert "start and stop the service" in refused.value.hint and files(path) == before


def test_the_log_of_a_service_that_was_killed_is_copied_and_stays(tmp_path: Path, clock: Clock, limits: StageLimits) -> None:
    path = tmp_path / "memory.db"
    reserving.run(path, reserving.LIVE + "die()")
    before = files(path)
    with staged_copy(path, clock, limits) as staged:
        assert staged.damaged == () and reserving.judge(staged.path) == "[] ok"
    assert files(path) == before and "memory.db-wal" in before


def test_reserved_bytes_that_only_the_log_knows_of_are_refused(tmp_path: Path, clock: Clock, limits: StageLimits) -> None:
    path = tmp_path / "memory.db"
    with reserving.living(path, reserving.SWITCHED):
        before = files(path)
        with pytest.raises(SourceRefused, match="reserved on every page were changed") as refused:  # noqa: SIM117
            with staged_copy(path, clock, limits):
                pass
        assert "wal_checkpoint" in refused.value.hint and files(path) == before


@pytest.mark.parametrize("code", [reserving.HOT, reserving.LIVE + "die()"])
def test_an_old_database_whose_sidecars_hold_content_is_not_replaced_and_not_changed(tmp_path: Path, code: str) -> None:
    path, temp = tmp_path / "memory.db", tmp_path / "new.tmp"
    reserving.run(path, code)
    reserving.run(temp, "create(path, 4096, 8, 'delete').close()")
    before = files(path)
    for attempt in (
        lambda: check_target(path, overwrite=True, need_bytes=0),
        lambda: install(temp, path, overwrite=True, now=NOW),
    ):
        with pytest.raises(TargetError, match="would have to be written into it") as refused:
            attempt()
        assert "move the file away" in refused.value.hint and files(path) == before
    assert not list(tmp_path.glob(".memory.db*"))


def test_an_old_database_whose_log_alone_knows_of_reserved_bytes_is_not_replaced_and_not_changed(tmp_path: Path) -> None:
    path, temp = tmp_path / "memory.db", tmp_path / "new.tmp"
    reserving.run(path, reserving.SWITCHED + "die()")
    reserving.run(temp, "create(path, 4096, 8, 'delete').close()")
    before = files(path)
    with pytest.raises(TargetError, match="8 bytes are reserved on every page"):
        install(temp, path, overwrite=True, now=NOW)
    assert files(path) == before and "memory.db-wal" in before and not list(tmp_path.glob(".memory.db*"))


def test_an_old_database_at_rest_is_kept_in_quarantine_and_put_back_to_the_byte(tmp_path: Path) -> None:
    path, temp, back = tmp_path / "memory.db", tmp_path / "new.tmp", tmp_path / "back.tmp"
    reserving.run(tmp_path, f"create({str(path)!r}, 1024, 16, 'wal').close(); create({str(temp)!r}, 4096, 8, 'wal').close()")
    content = reserving.scramble(path, page_size=1024, n_bytes=16)
    installed = install(temp, path, overwrite=True, now=NOW)
    assert installed.findings == () and reserving.judge(path) == "[] ok"
    assert copy_out(newest_quarantine(path), back) == () and back.read_bytes() == content


def test_sums_are_missed_only_where_there_are_some(tmp_path: Path) -> None:
    path = tmp_path / "memory.db"
    reserving.run(path, "create(path, 4096, 8, 'delete').close()")
    assert reserved.findings(path) == ()
    reserving.run(path, "change(connect())", sums=False)  # as SQLite without cksumvfs writes
    (finding,) = reserved.findings(path)
    assert finding.startswith("page 1 and ") and reserving.judge(path) != "[] ok"
    reserving.scramble(path, page_size=4096, n_bytes=8)
    assert reserved.findings(path) == ()
