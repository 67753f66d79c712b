from __future__ import annotations

import os
import random
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from time import monotonic

import apsw
import pytest

from continuum_tasks.clock import Clock
from continuum_tasks.errors import NoSpace, SourceBusy, SourceMissing, SourceRefused
from continuum_tasks.sqlite.check import integrity_check, quick_check_file
from continuum_tasks.sqlite.inspect import inspect
from continuum_tasks.sqlite.snapshot import StageLimits, stage_copy
from tests.support import other
from tests.unit.sqlite.conftest import NOW

pytestmark = pytest.mark.slow

_BIG = "CREATE TABLE big(id INTEGER PRIMARY KEY, v, b)"


def _staged_dump(path: Path, tmp_path: Path, limits: StageLimits, clock: Clock) -> str:
    with stage_copy(inspect(path), tmp_path / "stage", limits=limits, clock=clock) as staged:
        assert staged.damaged == ()
        assert staged.path.stat().st_size == staged.n_pages * staged.page_size
        assert list(staged.path.parent.iterdir()) == [staged.path]
        assert integrity_check(staged.path) == ()
        return other.dump(staged.path)


@pytest.mark.parametrize("page_size", [512, 1024, 2048, 4096, 8192, 16384, 32768, 65536])
@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_a_staged_copy_is_the_source_in_every_page_size_and_journal_mode(
    tmp_path: Path, clock: Clock, limits: StageLimits, page_size: int, mode: str
) -> None:
    path = tmp_path / "memory.db"
    other.sql(path, f"PRAGMA page_size={page_size}; PRAGMA journal_mode={mode}; CREATE TABLE t(x)")
    other.run(path, "c = connect(); c.executemany('INSERT INTO t VALUES (?)', [(('y' * (i % 3000)),) for i in range(200)])")

    with stage_copy(inspect(path), tmp_path / "stage", limits=limits, clock=clock) as staged:
        assert (staged.page_size, staged.journal_mode, staged.taken_at) == (page_size, mode, NOW)
        assert staged.sqlite_version == apsw.sqlite_lib_version()
        assert stat.S_IMODE(staged.path.stat().st_mode) == 0o600
        assert stat.S_IMODE(staged.path.parent.stat().st_mode) == 0o700
        copied = staged.path.read_bytes()
        assert other.dump(staged.path) == other.dump(path)

    assert copied[page_size:] == path.read_bytes()[page_size:]
    assert copied[18:20] == (b"\x02\x02" if mode == "wal" else b"\x01\x01")
    assert list((tmp_path / "stage").iterdir()) == []


@pytest.mark.parametrize(
    "schema",
    [
        "PRAGMA auto_vacuum=full; CREATE TABLE t(x); INSERT INTO t VALUES (zeroblob(90000)); DELETE FROM t",
        "PRAGMA auto_vacuum=incremental; CREATE TABLE t(x); INSERT INTO t VALUES (zeroblob(90000)); DELETE FROM t",
        "CREATE TABLE w(k TEXT PRIMARY KEY, v) WITHOUT ROWID; INSERT INTO w VALUES ('a', 1), ('b', 2)",
        "CREATE VIRTUAL TABLE f USING fts5(body); INSERT INTO f VALUES ('words to find'), ('and more')",
        "CREATE TABLE t(x); INSERT INTO t VALUES (zeroblob(900000)); DELETE FROM t; VACUUM",
        "CREATE TABLE t(x); INSERT INTO t VALUES (1); PRAGMA page_size=8192; VACUUM",
        "CREATE TABLE t(x); CREATE VIEW v AS SELECT x FROM t; CREATE TRIGGER g AFTER INSERT ON t BEGIN DELETE FROM t;END",
    ],
)
def test_every_kind_of_content_survives_staging(tmp_path: Path, clock: Clock, limits: StageLimits, schema: str) -> None:
    path = tmp_path / "memory.db"
    other.sql(path, schema)
    assert _staged_dump(path, tmp_path, limits, clock) == other.dump(path)


def test_the_copy_follows_a_source_that_shrinks_and_changes_its_page_size(
    tmp_path: Path, clock: Clock, limits: StageLimits
) -> None:
    path = tmp_path / "memory.db"
    other.sql(path, "CREATE TABLE t(x); INSERT INTO t VALUES (zeroblob(2000000))")
    seen = []
    for change in ("SELECT 1", "DELETE FROM t; VACUUM", "PRAGMA page_size=512; VACUUM"):
        source = inspect(path)
        other.sql(path, change)  # after the look, before the copy
        with stage_copy(source, tmp_path / "stage", limits=limits, clock=clock) as staged:
            assert staged.page_size * staged.n_pages == path.stat().st_size
            seen.append((staged.page_size, staged.n_pages > 400))
    assert seen == [(4096, True), (4096, False), (512, False)]


def _fingerprint(path: Path) -> dict[str, tuple[bytes, int]]:
    names = [path, *(Path(f"{path}{suffix}") for suffix in ("-wal", "-journal"))]
    return {name.name: (name.read_bytes(), name.stat().st_mtime_ns) for name in names if name.exists()}


@pytest.mark.parametrize(
    "make", [other.ROLLBACK, other.WAL, "c = connect(); c.execute('PRAGMA journal_mode=wal')\n" + other.ROLLBACK]
)
def test_staging_leaves_main_file_and_sidecars_to_the_byte_and_the_nanosecond(
    tmp_path: Path, clock: Clock, limits: StageLimits, make: str
) -> None:
    path = tmp_path / "memory.db"
    other.run(path, make)
    before = _fingerprint(path)

    _staged_dump(path, tmp_path, limits, clock)

    assert _fingerprint(path) == before


def test_a_living_service_keeps_its_wal_and_its_locks_while_it_is_staged(
    tmp_path: Path, clock: Clock, limits: StageLimits
) -> None:
    path = tmp_path / "memory.db"
    other.sql(path, "PRAGMA journal_mode=wal; CREATE TABLE t(x)")
    with other.living(path, "c = connect(); c.execute('INSERT INTO t VALUES (1)'); c.execute('BEGIN IMMEDIATE')"):
        before = _fingerprint(path)
        _staged_dump(path, tmp_path, limits, clock)
        assert _fingerprint(path) == before
        assert other.write(path) == "database is locked"


def test_locks_of_other_connections_of_this_process_outlive_staging(tmp_path: Path, clock: Clock, limits: StageLimits) -> None:
    path = tmp_path / "memory.db"
    other.run(path, other.ROLLBACK)
    connection = apsw.Connection(str(path))
    connection.execute("BEGIN IMMEDIATE")

    _staged_dump(path, tmp_path, limits, clock)

    assert other.write(path) == "database is locked"
    connection.close()


def test_a_hot_journal_is_rolled_back_and_the_committed_state_copied(tmp_path: Path, clock: Clock, limits: StageLimits) -> None:
    path = tmp_path / "memory.db"
    other.run(path, other.HOT)
    assert b"torn" in path.read_bytes()
    dump = _staged_dump(path, tmp_path, limits, clock)
    assert "torn" not in dump
    assert dump.count("old ") == 500


def _big(path: Path, mode: str, mib: int) -> None:
    other.run(
        path,
        f"""
c = connect(); c.execute('PRAGMA journal_mode={mode}'); c.execute('{_BIG}')
c.execute('BEGIN'); rows = [(i,) for i in range({mib})]
c.executemany('INSERT INTO big VALUES (?, 0, zeroblob(1000000))', rows); c.execute('COMMIT')
""",
    )


def test_commits_made_between_two_steps_are_not_in_the_copy_and_do_not_restart_it(tmp_path: Path, limits: StageLimits) -> None:
    """The clock is read between steps, so this service commits right there: to rows copied already and to rows yet to come."""
    path = tmp_path / "memory.db"
    _big(path, "wal", 48)
    steps = count()

    def commit() -> float:
        next(steps)
        other.sql(path, "UPDATE big SET v = v + 1")
        return monotonic()

    clock = Clock(now=lambda: NOW, monotonic=commit)
    with stage_copy(inspect(path), tmp_path / "stage", limits=limits, clock=clock) as staged:
        seen = other.sql(staged.path, "SELECT DISTINCT v FROM big")
        assert integrity_check(staged.path) == ()

    n_steps = next(steps)
    assert n_steps == 4  # once for the beginning, then after each of three steps
    assert seen == "(0,)"  # the state the transaction began with, before the first commit here
    assert other.sql(path, "SELECT DISTINCT v FROM big") == f"({n_steps},)"


_WRITER = """
import threading
c = connect(timeout=30)
rng = __import__('random').Random(3)
stop = []
threading.Thread(target=lambda: (sys.stdin.readline(), stop.append(1)), daemon=True).start()
print('ready', flush=True)
n = 0
while not stop:
    n += 1
    amount = rng.randrange(100)
    c.execute('BEGIN IMMEDIATE')
    c.execute('UPDATE a SET v = v - ? WHERE id = ?', (amount, rng.randrange(200)))
    c.execute('UPDATE b SET v = v + ? WHERE id = ?', (amount, rng.randrange(200)))
    c.execute('INSERT INTO log VALUES (?)', (n,))
    c.execute('COMMIT')
    time.sleep(0.002)
print(n)
"""


_TRUNCATING = "c.execute('PRAGMA busy_timeout=0'); c.execute('PRAGMA wal_checkpoint(TRUNCATE)').fetchall(); time.sleep(0.002)"


@pytest.mark.parametrize("how", ["delete", "wal", "wal, truncated after every commit"])
def test_a_copy_taken_under_a_committing_writer_is_a_state_it_committed(tmp_path: Path, clock: Clock, how: str) -> None:
    """Both tables sum to the same as ever and the log has no gap: nothing torn, nothing half.

    With the -wal truncated after every commit it is often empty, and the file itself is copied while others commit and
    try to checkpoint.
    """
    mode = how.partition(",")[0]
    script = _WRITER if mode == how else _WRITER.replace("time.sleep(0.002)", _TRUNCATING)
    path = tmp_path / "memory.db"
    _big(path, mode, 20)
    other.run(
        path,
        """
c = connect(); c.execute('CREATE TABLE log(n INTEGER PRIMARY KEY)')
for t in 'ab':
    c.execute(f'CREATE TABLE {t}(id INTEGER PRIMARY KEY, v, pad)'); c.execute('BEGIN')
    c.executemany(f'INSERT INTO {t} VALUES (?, 1000, zeroblob(3000))', [(i,) for i in range(200)]); c.execute('COMMIT')
""",
    )
    limits = StageLimits(busy_timeout_seconds=30, busy_window_seconds=30)
    seen = []
    with subprocess.Popen(
        [sys.executable, "-IS", "-c", other.START + script, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        for _ in range(8):
            with stage_copy(inspect(path), tmp_path / "stage", limits=limits, clock=clock) as staged:
                assert integrity_check(staged.path) == ()
                query = "SELECT (SELECT sum(v) FROM a) + (SELECT sum(v) FROM b), count(*), max(n) FROM log"
                total, n_rows, last = eval(other.sql(staged.path, query))
            assert (total, n_rows) == (400_000, last or 0)
            seen.append(n_rows)
        committed = int(writer.communicate("stop\n")[0])
    assert seen == sorted(seen)
    assert seen[0] < seen[-1] <= committed


def test_writers_of_a_rollback_database_get_it_back_when_the_window_is_over(tmp_path: Path, limits: StageLimits) -> None:
    path = tmp_path / "memory.db"
    _big(path, "delete", 40)
    ticks = count(step=20)

    clock = Clock(now=lambda: NOW, monotonic=lambda: float(next(ticks)))
    with (
        pytest.raises(SourceBusy, match=r"memory\.db: .*longer than its writers may wait \(30 s\)") as busy,
        stage_copy(inspect(path), tmp_path / "stage", limits=limits, clock=clock),
    ):
        pass

    assert "WAL" in busy.value.hint
    assert "busy_window_seconds" in busy.value.hint
    assert other.write(path) == "written"
    assert list((tmp_path / "stage").iterdir()) == []


def test_the_window_does_not_bound_a_wal_database(tmp_path: Path, limits: StageLimits) -> None:
    path = tmp_path / "memory.db"
    _big(path, "wal", 40)
    ticks = count(step=20)
    clock = Clock(now=lambda: NOW, monotonic=lambda: float(next(ticks)))
    with stage_copy(inspect(path), tmp_path / "stage", limits=limits, clock=clock) as staged:
        assert quick_check_file(staged.path) == ()


def test_a_writer_waits_for_the_copy_and_not_for_what_is_done_with_it(
    tmp_path: Path, clock: Clock, limits: StageLimits
) -> None:
    path = tmp_path / "memory.db"
    other.run(path, other.ROLLBACK)
    with stage_copy(inspect(path), tmp_path / "stage", limits=limits, clock=clock):
        assert other.write(path) == "written"


def test_the_instant_is_read_after_the_state_is_held(tmp_path: Path, limits: StageLimits) -> None:
    path = tmp_path / "memory.db"
    other.sql(path, "PRAGMA journal_mode=wal; CREATE TABLE t(x)")
    calls = iter((NOW, NOW + timedelta(seconds=5)))

    def now() -> datetime:
        other.sql(path, "INSERT INTO t VALUES (1)")
        return next(calls)

    clock = Clock(now=now, monotonic=monotonic)
    with stage_copy(inspect(path), tmp_path / "stage", limits=limits, clock=clock) as staged:
        assert staged.taken_at == NOW + timedelta(seconds=5)
        assert other.sql(staged.path, "SELECT count(*) FROM t") == "(1,)"  # the commit of the second call is not inside


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_a_database_locked_exclusively_is_busy_and_its_holder_named(
    tmp_path: Path, clock: Clock, limits: StageLimits, mode: str
) -> None:
    path = tmp_path / "memory.db"
    other.sql(path, f"PRAGMA journal_mode={mode}; CREATE TABLE t(x)")
    hold = "c = connect(); c.execute('PRAGMA locking_mode=exclusive'); c.execute('BEGIN EXCLUSIVE')"
    with (
        other.living(path, hold) as holder,
        pytest.raises(SourceBusy, match=rf"memory\.db: locked .*pid {holder.pid} \(python") as busy,
        stage_copy(inspect(path), tmp_path / "stage", limits=limits, clock=clock),
    ):
        pass
    assert "busy_timeout_seconds" in busy.value.hint
    assert busy.value.transient


def _short(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 5000)


def _torn_header(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(21)
        file.write(b"\x00\x00\x00")


@pytest.mark.parametrize("damage", [_short, _torn_header])
def test_a_source_sqlite_cannot_read_is_copied_to_the_byte_and_called_damaged(
    tmp_path: Path, clock: Clock, limits: StageLimits, damage: Callable[[Path], None]
) -> None:
    path = tmp_path / "memory.db"
    other.run(path, other.ROLLBACK)
    damage(path)
    data = path.read_bytes()

    with stage_copy(inspect(path), tmp_path / "stage", limits=limits, clock=clock) as staged:
        assert "copied page by page" in staged.damaged[0]
        assert str(path) in staged.damaged[0]
        assert staged.n_pages == -(-len(data) // 4096)
        assert staged.path.read_bytes() == data + bytes(-len(data) % 4096)
        assert stat.S_IMODE(staged.path.stat().st_mode) == 0o600
    assert path.read_bytes() == data


def test_damage_inside_a_page_is_copied_and_found_by_the_check(tmp_path: Path, clock: Clock, limits: StageLimits) -> None:
    path = tmp_path / "memory.db"
    other.run(path, other.ROLLBACK)
    with path.open("r+b") as file:
        file.seek(4096 * 3)
        file.write(random.Random(2).randbytes(4096))
    with stage_copy(inspect(path), tmp_path / "stage", limits=limits, clock=clock) as staged:
        assert staged.path.read_bytes()[4096:] == path.read_bytes()[4096:]
        assert quick_check_file(staged.path)


def test_a_damaged_source_with_a_wal_says_that_the_wal_is_not_in_the_copy(
    tmp_path: Path, clock: Clock, limits: StageLimits
) -> None:
    path = tmp_path / "memory.db"
    other.sql(path, "PRAGMA journal_mode=wal; CREATE TABLE t(x); INSERT INTO t VALUES (1)")
    other.run(path, "c = connect(); c.execute('UPDATE t SET x = 2'); die()")  # leaves page 2 alone in the -wal
    _torn_header(path)
    with stage_copy(inspect(path), tmp_path / "stage", limits=limits, clock=clock) as staged:
        assert any("-wal: " in line and "could not be applied" in line for line in staged.damaged)


def test_too_little_space_is_told_before_the_first_byte(tmp_path: Path, clock: Clock, limits: StageLimits) -> None:
    path = tmp_path / "memory.db"
    other.sql(path, "PRAGMA page_size=65536; CREATE TABLE t(x)")
    n_pages = (8 << 40) // 65536  # 8 TiB, sparse
    with path.open("r+b") as file:
        file.truncate(n_pages * 65536)
        file.seek(28)
        file.write(n_pages.to_bytes(4, "big"))

    with (
        pytest.raises(NoSpace, match=r"memory\.db: staging needs 87961\d+ bytes in .*stage, \d+ are free") as full,
        stage_copy(inspect(path), tmp_path / "stage", limits=limits, clock=clock),
    ):
        pass

    assert "temp_dir" in full.value.hint
    assert list((tmp_path / "stage").iterdir()) == []


@pytest.mark.parametrize("make", [other.HOT, other.WAL])
def test_a_source_this_user_cannot_recover_is_refused_with_a_remedy(
    folder: Path, clock: Clock, limits: StageLimits, make: str
) -> None:
    home = folder / "home"
    home.mkdir()
    path = home / "memory.db"
    other.run(path, make)
    Path(f"{path}-shm").unlink(missing_ok=True)
    for file in home.iterdir():
        file.chmod(0o444)
    home.chmod(0o555)
    with (
        other.unprivileged(folder),
        pytest.raises(SourceRefused, match=r"memory\.db: cannot be opened as SQLite needs it") as refused,
        stage_copy(inspect(path), folder / "stage", limits=limits, clock=clock),
    ):
        pass
    assert "write" in refused.value.hint


def test_a_file_that_vanished_or_was_replaced_since_the_look_is_not_copied(
    tmp_path: Path, clock: Clock, limits: StageLimits
) -> None:
    path = tmp_path / "memory.db"
    other.run(path, other.ROLLBACK)
    source = inspect(path)
    path.rename(tmp_path / "away.db")
    with pytest.raises(SourceMissing, match="gone"), stage_copy(source, tmp_path / "stage", limits=limits, clock=clock):
        pass
    other.run(path, other.ROLLBACK)
    with pytest.raises(SourceBusy, match="replaced"), stage_copy(source, tmp_path / "stage", limits=limits, clock=clock):
        pass


_KILLED = """
import os, sys, time
from datetime import UTC, datetime
from pathlib import Path
from continuum_tasks.sqlite.inspect import inspect
from continuum_tasks.clock import Clock
from continuum_tasks.sqlite.snapshot import StageLimits, stage_copy
clock = Clock(now=lambda: datetime.now(UTC), monotonic=time.monotonic)
limits = StageLimits(busy_timeout_seconds=1, busy_window_seconds=9)
with stage_copy(inspect(Path(sys.argv[1])), Path(sys.argv[2]), limits=limits, clock=clock):
    os.kill(os.getpid(), 9)
"""


def test_what_a_killed_process_staged_is_swept_by_the_next_and_a_living_one_is_not(tmp_path: Path, limits: StageLimits) -> None:
    path, folder = tmp_path / "memory.db", tmp_path / "stage"
    other.run(path, other.ROLLBACK)
    killed = subprocess.run([sys.executable, "-c", _KILLED, path, folder], check=False)
    assert killed.returncode == -signal.SIGKILL
    (left,) = folder.iterdir()
    later = Clock(now=lambda: datetime.now(UTC) + timedelta(minutes=5), monotonic=monotonic)

    with (
        stage_copy(inspect(path), folder, limits=limits, clock=later) as first,
        stage_copy(inspect(path), folder, limits=limits, clock=later) as second,
    ):
        assert not left.exists()
        assert first.path.exists()
        assert second.path.exists()


def test_two_threads_stage_one_database_at_once(tmp_path: Path, clock: Clock, limits: StageLimits) -> None:
    path = tmp_path / "memory.db"
    other.run(path, other.WAL)
    sizes: list[int] = []

    def one() -> None:
        with stage_copy(inspect(path), tmp_path / "stage", limits=limits, clock=clock) as staged:
            sizes.append(staged.n_pages)

    threads = [threading.Thread(target=one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(sizes) == 4
    assert len(set(sizes)) == 1
