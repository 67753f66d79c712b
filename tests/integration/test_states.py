"""Every backup restores to a state the source committed: random histories, both journal modes, every chain, two witnesses."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest

from continuum_tasks.model import Backup, BackupStatus, Level, Strategy
from tests.integration import beside as b
from tests.integration.beside import Shape, Witness, beside, witness
from tests.support.processes import ROOT, until
from tests.support.sampling import matrix
from tests.support.sandbox import Options, Sandbox, another_host, back_up, back_up_finished, listed, make, restore_to, verified

PAGE_SIZES = (512, 1024, 4096, 65536)
JOURNALS = ("delete", "wal")
CODECS = ("zstd", "lz4", "gzip", "none")


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """One backup and what the witness saw in the source when it was made."""

    backup: Backup
    seen: Witness


def lose(sandbox: Sandbox, what: str) -> None:
    """Lose something that is only an index, a cache, or can be made again."""
    state = sandbox.config.state_dir
    if what == "metadata":
        for path in state.glob("metadata.db*"):
            path.unlink()
    if what == "digests":
        shutil.rmtree(state / "digests", ignore_errors=True)
    if what == "identity":
        (sandbox.store / "repository.json").unlink(missing_ok=True)


def history(sandbox: Sandbox, shape: Shape, *, seed: int, n_backups: int) -> list[Moment]:
    """Let a database live through random work and mishaps, with a backup after each stretch."""
    rng = Random(seed)
    beside(b.create, sandbox.database, shape, seed=seed)
    moments = []
    for n in range(n_backups):
        beside(b.work, sandbox.database, seed=seed * 1000 + n, n_actions=rng.randrange(4))
        if rng.random() < 0.3:
            beside(b.release, sandbox.database)
        lose(sandbox, rng.choice(("nothing", "nothing", "nothing", "metadata", "digests", "identity")))
        seen = witness(sandbox.database)
        made = back_up(sandbox, rng.choice(("full", "differential", "incremental", "incremental", "incremental")))
        assert witness(sandbox.database) == seen, "a backup changed its source"
        moments.append(Moment(backup=made, seen=seen))
    beside(b.release, sandbox.database)
    return moments


def check_restores(sandbox: Sandbox, moments: list[Moment], folder: Path) -> None:
    folder.mkdir()
    for moment in moments:
        target = folder / f"{moment.backup.id}.db"
        restore_to(sandbox, moment.backup.id, target)
        assert [path.name for path in folder.iterdir()] == [target.name]
        assert witness(target) == moment.seen, moment.backup.id
        target.unlink()


@pytest.mark.sampled
@pytest.mark.parametrize(("journal", "page_size", "seed"), matrix("random histories", JOURNALS, PAGE_SIZES, range(2)))
def test_every_backup_of_a_random_history_restores_to_the_state_it_was_made_of(
    tmp_path: Path, journal: str, page_size: int, seed: int
) -> None:
    number = seed * 100 + PAGE_SIZES.index(page_size) * 10 + JOURNALS.index(journal)
    options = Options(codec=CODECS[number % 4], encryption="none" if number % 5 == 0 else "aes-256-gcm")
    sandbox = make(tmp_path / "c", options)
    shape = Shape(journal=journal, page_size=page_size, auto_vacuum=number % 3)
    moments = history(sandbox, shape, seed=number, n_backups=6)
    check_restores(sandbox, moments, tmp_path / "out")
    blank = another_host(sandbox, tmp_path / "blank")
    assert {found.id for found in listed(blank)} == {moment.backup.id for moment in moments}
    check_restores(blank, moments[-2:], tmp_path / "out-of-a-blank-host")
    assert verified(blank, moments[-1].backup.id).attestation.passed


@pytest.mark.parametrize("journal", JOURNALS)
def test_a_delta_stores_the_pages_that_changed_and_no_other(tmp_path: Path, journal: str) -> None:
    sandbox = make(tmp_path / "c")
    beside(b.create, sandbox.database, Shape(journal=journal, page_size=1024), seed=5)
    seen: dict[str, Witness] = {}
    for n, strategy in enumerate(("full", "incremental", "differential", "incremental", "incremental")):
        beside(b.work, sandbox.database, seed=n, n_actions=2)
        state = witness(sandbox.database)
        made = back_up(sandbox, strategy)
        assert made.strategy == strategy
        stored = made.layer_size_bytes // 1024
        if made.parent_id is None:
            assert stored == len(state.pages)
        else:
            assert 0 <= stored - len(state.differing(seen[made.parent_id]) - {1}) <= 1
        seen[made.id] = state
    beside(b.release, sandbox.database)


def test_a_source_that_did_not_change_stores_nothing_and_still_restores(tmp_path: Path) -> None:
    sandbox = make(tmp_path / "c")
    beside(b.create, sandbox.database, Shape(journal="delete", page_size=4096), seed=1)
    seen = witness(sandbox.database)
    moments = [Moment(backup=back_up(sandbox, strategy), seen=seen) for strategy in ("full", "incremental", "incremental")]
    assert [moment.backup.layer_size_bytes for moment in moments[1:]] == [0, 0]
    beside(b.release, sandbox.database)
    check_restores(sandbox, moments, tmp_path / "out")


@pytest.mark.parametrize("lost", ["metadata", "digests", "identity"])
def test_a_chain_goes_on_after_what_is_only_an_index_or_a_cache_was_lost(tmp_path: Path, lost: str) -> None:
    sandbox = make(tmp_path / "c")
    beside(b.create, sandbox.database, Shape(journal="wal", page_size=4096), seed=2)
    full = back_up(sandbox)
    beside(b.work, sandbox.database, seed=2, n_actions=3)
    lose(sandbox, lost)
    seen = witness(sandbox.database)
    made = back_up(sandbox, "incremental")
    assert (made.strategy, made.parent_id) == (Strategy.INCREMENTAL, full.id)
    beside(b.release, sandbox.database)
    check_restores(sandbox, [Moment(backup=made, seen=seen)], tmp_path / "out")


@pytest.mark.parametrize("journal", JOURNALS)
def test_a_changed_page_size_starts_a_new_chain_and_says_so(tmp_path: Path, journal: str) -> None:
    sandbox = make(tmp_path / "c")
    beside(b.create, sandbox.database, Shape(journal=journal, page_size=4096), seed=3)
    moments = [Moment(seen=witness(sandbox.database), backup=back_up(sandbox))]
    beside(b.change_page_size, sandbox.database, 1024)
    seen = witness(sandbox.database)
    done = back_up_finished(sandbox, "incremental")
    assert done.backup.strategy is Strategy.FULL and done.backup.base_id == done.backup.id
    assert "page size changed from 4096 to 1024" in done.reason
    moments.append(Moment(backup=done.backup, seen=seen))
    beside(b.work, sandbox.database, seed=3, n_actions=2)
    moments.append(Moment(seen=witness(sandbox.database), backup=back_up(sandbox, "incremental")))
    assert moments[-1].backup.parent_id == done.backup.id
    beside(b.release, sandbox.database)
    check_restores(sandbox, moments, tmp_path / "out")


def test_a_database_that_shrank_to_almost_nothing_and_grew_again_restores_at_every_size(tmp_path: Path) -> None:
    sandbox = make(tmp_path / "c")
    beside(b.create, sandbox.database, Shape(journal="delete", page_size=512), seed=4)
    moments = []
    numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)"
    fill = f"INSERT INTO t(a) {numbers} SELECT 'row ' || i FROM n"
    for statements in (
        (fill,),
        ("DROP TABLE t", "DROP TABLE w", "DROP TABLE f", "VACUUM"),
        ("CREATE TABLE t(id INTEGER PRIMARY KEY, a TEXT)", fill),
        ("DELETE FROM t WHERE id > 5", "VACUUM"),
        (fill,),
    ):
        beside(b.release, sandbox.database)
        beside(b.script, sandbox.database, *statements, page_size=512)
        moments.append(Moment(seen=witness(sandbox.database), backup=back_up(sandbox, "incremental")))
    newest_good = None
    for made in (moment.backup for moment in moments):  # losing nearly all rows makes one suspect, and no parent
        assert made.parent_id == newest_good
        newest_good = made.id if made.status is BackupStatus.COMPLETED else newest_good
    assert moments[1].backup.n_pages == 1
    check_restores(sandbox, moments, tmp_path / "out")


def test_a_database_beyond_the_lock_page_restores_byte_for_byte(tmp_path: Path) -> None:
    """1 GiB mostly of pages nobody uses, so the file is sparse; what is written afterwards lies beyond the lock page."""
    sandbox = make(tmp_path / "c", Options(chunk_bytes="32M", check="none", busy_seconds=60))
    beside(b.script, sandbox.database, "CREATE TABLE t(x)", page_size=65536)
    beside(b.stretch, sandbox.database, n_pages=(1 << 30) // 65536 - 1)
    beside(b.script, sandbox.database, "INSERT INTO t VALUES (randomblob(300000))")
    full = back_up(sandbox)
    assert full.original_size_bytes > (1 << 30) + 65536
    assert verified(sandbox, full.id, Level.PAGES).attestation.passed
    beside(b.script, sandbox.database, "UPDATE t SET x = x || 'later'", "INSERT INTO t VALUES (randomblob(200000))")
    made = back_up(sandbox, "incremental")
    assert made.layer_size_bytes <= 14 * 65536
    target = tmp_path / "restored.db"
    restore_to(sandbox, made.id, target)
    may_differ = {*range(24, 28), *range(40, 44), *range(92, 100)}
    with sandbox.database.open("rb") as source, target.open("rb") as restored:
        for at in range(0, target.stat().st_size, 1 << 24):
            ours, theirs = restored.read(1 << 24), source.read(1 << 24)
            if ours != theirs:
                assert at == 0 and {i for i in range(100) if ours[i] != theirs[i]} <= may_differ and ours[100:] == theirs[100:]
        assert not source.read(1)


@contextmanager
def writing(database: Path, log: Path, *, rate: float, seed: int) -> Iterator[None]:
    """Let the sample's writer commit as the service does, in its own process, until the block ends."""
    command = ["-m", "continuum_tasks.sample", "write", str(database), "--forever", "--rate", str(rate)]
    process = subprocess.Popen(
        [sys.executable, *command, "--seed", str(seed), "--commits-log", str(log)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said


def logged(log: Path) -> list[int]:
    """Return the numbers of the commits the writer knows to be durable."""
    lines = log.read_text().splitlines() if log.exists() else []
    return [int(json.loads(line)["sequence"]) for line in lines]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bracket:
    """A backup made beside a writer: commit `first` was durable before it began, none after `last` was when it ended."""

    backup: Backup
    first: int
    last: int


def check_replayed(sandbox: Sandbox, start: Path, brackets: list[Bracket], *, seed: int) -> list[int]:
    """Restore each and compare with a replay of just so many commits on the start; returns which commit each is."""
    numbers = []
    for bracket in brackets:
        target = start.with_name(f"{bracket.backup.id}.db")
        restore_to(sandbox, bracket.backup.id, target)
        number = beside(b.last_commit, target)
        assert bracket.first <= number <= bracket.last, bracket
        done = beside(b.last_commit, start)
        if number > done:
            assert beside(b.commits, start, number - done, seed=seed) == number
        assert witness(target).logical == beside(b.logical, start), f"{bracket.backup.id} is not commit {number}"
        numbers.append(number)
    return numbers


@pytest.mark.parametrize("page_size", PAGE_SIZES)
@pytest.mark.parametrize("journal", JOURNALS)
def test_a_backup_beside_a_writer_is_the_state_after_one_of_its_commits(tmp_path: Path, journal: str, page_size: int) -> None:
    sandbox = make(tmp_path / "c", Options(busy_seconds=30))  # the writer is at it all the time, and waits as long as we copy
    seed = page_size
    size_bytes = max(1 << 19, page_size * 64)
    beside(b.sample, sandbox.database, Shape(journal=journal, page_size=page_size), size_bytes=size_bytes, seed=seed)
    start, log = tmp_path / "start.db", tmp_path / "commits.log"
    shutil.copyfile(sandbox.database, start)
    beside(b.attend, sandbox.database)  # as the service's own worker does; the writer alone would leave nothing in the -wal
    brackets = []
    with writing(sandbox.database, log, rate=200, seed=seed):
        for n, strategy in enumerate(("full", "incremental", "incremental", "differential", "incremental")):
            assert until(lambda wanted=12 * (n + 1): len(logged(log)) >= wanted)  # type: ignore[misc]
            first = logged(log)[-1]
            made = back_up(sandbox, strategy)
            assert made.strategy == strategy
            # a commit may be durable a moment before the writer has logged it
            brackets.append(Bracket(backup=made, first=first, last=logged(log)[-1] + 1))
    beside(b.release, sandbox.database)
    numbers = check_replayed(sandbox, start, brackets, seed=seed)
    assert numbers == sorted(set(numbers))
    assert verified(sandbox, brackets[-1].backup.id, Level.RESTORE).attestation.passed
