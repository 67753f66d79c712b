"""The guard of a replaced database (ADR 8), told by what other processes can do, and by who lives."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from continuum_tasks.errors import StorageUnreachable, TargetBusy, TargetError
from continuum_tasks.restore.install import guard, quarantine
from continuum_tasks.restore.install.guarded import guarded
from continuum_tasks.restore.install.install import Installed, install, prove_unused, recover
from tests.support import other
from tests.unit.restore.install.restored_files import new_file
from tests.unit.sqlite.conftest import NOW

# Opens the database, then tries to commit at each line of input and says what SQLite said.
_LATE = """
c = connect(timeout=0)
print('ready', flush=True)
for line in sys.stdin:
    try:
        c.execute('CREATE TABLE IF NOT EXISTS late(x)'); c.execute('INSERT INTO late VALUES (1)')
        print('written', flush=True)
    except sqlite3.DatabaseError as err:
        print(err, flush=True)
"""
# Stops at the points given, until a line comes; at the end it says whom the guard keeps out and stays.
_INSTALL = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from continuum_tasks.errors import TargetBusy
from continuum_tasks.restore.install import install
temp, target, stops = sys.argv[1:]
def say(text):
    print(text, flush=True)
    sys.stdin.readline()
def reach(name):
    if name in stops.split(","):
        say(name)
install.reach = reach
try:
    done = install.install(Path(temp), Path(target), overwrite=True, now=datetime(2026, 11, 23, 4, 5, 6, tzinfo=UTC))
except TargetBusy as err:
    say(err.message)
else:
    say(f"kept out {[holder.pid for holder in done.stale]}")
"""
BEFORE_RENAME = ("install.old_folded", "install.old_quarantined", "install.sidecars_gone")
AFTER_RENAME = ("install.renamed", "install.directory_synced", "install.checked")


def until(claim: Callable[[], bool]) -> bool:
    """Wait for something to become true: the limit is for what never comes."""
    deadline = time.monotonic() + 60
    while not claim() and time.monotonic() < deadline:
        time.sleep(0.05)
    return claim()


def guards(path: Path) -> list[int]:
    """Return the guards of a target, by what they were started with."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdigit() else []
            alive = bool(words) and (entry / "stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
        except OSError:
            continue
        if alive and b"continuum_tasks.restore.install.guard" in words and os.fsencode(path) in words:
            found.append(int(entry.name))
    return found


class Late:
    """A process that opened a database and has done nothing with it yet."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.pid = process.pid
        assert self._answer() == "ready"

    def use(self) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write("use\n")
        self.process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()

    def _answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()


@contextmanager
def late_opener(path: Path, *, before: tuple[str, ...] = ()) -> Iterator[Late]:
    words = [*before, sys.executable, "-IS", "-c", other.START + _LATE, str(path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Late(process)
        finally:
            process.kill()


@contextmanager
def replaced_under(
    target: Path, monkeypatch: pytest.MonkeyPatch, *, point: str = "install.sidecars_gone"
) -> Iterator[tuple[Installed, Late]]:
    """Install over a database that somebody opens at `point`."""
    opened: list[Late] = []
    stack = late_opener(target)

    def reach(name: str) -> None:
        if name == point:
            opened.append(stack.__enter__())

    monkeypatch.setattr("continuum_tasks.restore.install.install.reach", reach)
    temp = new_file(target.parent, mode="wal", text="next")
    try:
        done = install(temp, target, overwrite=True, now=NOW)
        monkeypatch.setattr("continuum_tasks.restore.install.install.reach", lambda name: None)
        yield done, opened[0]
    finally:
        stack.__exit__(None, None, None)


class Installer:
    """An install in a process of its own, stopped somewhere."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def stopped_at(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def go_on(self) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.stopped_at()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def installer(target: Path, *points: str, before: tuple[str, ...] = ()) -> Iterator[Installer]:
    words = [*before, sys.executable, "-c", _INSTALL, str(new_file(target.parent, mode="wal")), str(target), ",".join(points)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Installer(process)
        finally:
            process.kill()


@pytest.fixture(params=["rollback", "wal", "hot"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "memory.db"
    other.run(path, {"rollback": other.ROLLBACK, "wal": other.WAL, "hot": other.HOT}[request.param])
    return path


@pytest.fixture
def quiet(tmp_path: Path) -> Path:
    path = tmp_path / "memory.db"
    other.run(path, other.ROLLBACK)
    return path


@pytest.mark.parametrize("point", BEFORE_RENAME)
def test_who_opens_the_old_file_in_the_last_instant_is_kept_out_of_the_new_one_and_named(
    target: Path, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    with replaced_under(target, monkeypatch, point=point) as (done, late):
        assert done.quarantine is not None
        old = (done.quarantine / "memory.db").read_bytes()
        assert [holder.pid for holder in done.stale] == [late.pid]
        assert f"restart pid {late.pid} (python" in done.stale_warnings[0]
        with other.living(target, "c = connect(); c.execute('CREATE TABLE beside(n)'); c.execute('BEGIN IMMEDIATE')"):
            assert [late.use() for _ in range(3)] == ["database is locked"] * 3
        assert other.write(target, timeout=30) == "written"
        assert other.sql(target, "SELECT count(*) FROM beside; PRAGMA integrity_check") == "(1,)('ok',)"
        assert (done.quarantine / "memory.db").read_bytes() == old


def test_a_guard_ends_when_nobody_has_the_old_file_open_any_more_and_not_before(
    quiet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with replaced_under(quiet, monkeypatch) as (done, late):
        time.sleep(3 * guard.LEAST_SECONDS)
        assert guards(quiet) == [done.guard]
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            os.kill(done.guard, number)
        assert late.use() == "database is locked"
        assert guards(quiet) == [done.guard]
        late.close()
        assert until(lambda: not guards(quiet))
    assert done.quarantine is not None
    assert other.sql(done.quarantine / "memory.db", "SELECT count(*) FROM t") == "(500,)"


@pytest.mark.parametrize("point", BEFORE_RENAME)
def test_a_restore_that_is_killed_before_the_rename_leaves_no_guard(quiet: Path, point: str) -> None:
    with installer(quiet, point) as restoring:
        assert restoring.stopped_at() == point
        with late_opener(quiet) as late:
            assert late.use() == "database is locked"
            restoring.kill()
            assert until(lambda: not guards(quiet))
            assert late.use() == "written"  # nothing was replaced: it is a user like any other
    recover(quiet)
    assert other.sql(quiet, "SELECT count(*) FROM t; PRAGMA integrity_check") == "(500,)('ok',)"


@pytest.mark.parametrize("point", AFTER_RENAME)
def test_a_restore_that_is_killed_after_the_rename_leaves_its_guard_behind(quiet: Path, point: str) -> None:
    with installer(quiet, "install.sidecars_gone", point) as restoring:
        assert restoring.stopped_at() == "install.sidecars_gone"
        with late_opener(quiet) as late:
            assert restoring.go_on() == point
            restoring.kill()
            recover(quiet)
            assert other.write(quiet, timeout=30) == "written"
            assert late.use() == "database is locked"
            assert len(guards(quiet)) == 1
        assert until(lambda: not guards(quiet))
    assert other.sql(quiet, "SELECT count(*) FROM beside; PRAGMA integrity_check") == "(1,)('ok',)"


def test_a_restore_that_fails_before_the_rename_leaves_no_guard(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def reach(name: str) -> None:
        if name == "install.sidecars_gone":
            raise StorageUnreachable("no")

    monkeypatch.setattr("continuum_tasks.restore.install.install.reach", reach)
    with pytest.raises(StorageUnreachable):
        install(new_file(target.parent), target, overwrite=True, now=NOW)
    assert guards(target) == []
    assert other.write(target) == "written"
    assert other.sql(target, "SELECT count(*) FROM t; PRAGMA integrity_check") == "(500,)('ok',)"


def test_without_its_guard_nothing_is_replaced(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def reach(name: str) -> None:
        if name == "install.sidecars_gone":
            (pid,) = guards(target)
            os.kill(pid, signal.SIGKILL)
            assert until(lambda: not guards(target))

    monkeypatch.setattr("continuum_tasks.restore.install.install.reach", reach)
    with pytest.raises(TargetError, match="the process that guards it ended"):
        install(new_file(target.parent), target, overwrite=True, now=NOW)
    assert other.sql(target, "SELECT count(*) FROM t; PRAGMA integrity_check") == "(500,)('ok',)"


def test_a_restore_and_an_undo_succeed_while_an_older_guard_lives(quiet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with replaced_under(quiet, monkeypatch) as (first, late):
        second = install(new_file(quiet.parent, text="third"), quiet, overwrite=True, now=NOW)
        assert second.guard != first.guard
        assert late.use() == "database is locked"
        kept = next(one for one in quarantine.quarantines(quiet) if one.path == first.quarantine)
        temp = quiet.parent / ".memory.db.undone"
        assert quarantine.copy_out(kept, temp) == ()
        undone = install(temp, quiet, overwrite=True, now=NOW)
        assert undone.stale == ()
        assert late.use() == "database is locked"
        assert first.guard in guards(quiet)
    assert other.sql(quiet, "SELECT count(*) FROM t; PRAGMA integrity_check") == "(500,)('ok',)"
    assert until(lambda: not guards(quiet))


def test_the_replaced_file_can_be_opened_in_the_quarantine_by_a_patient_reader(
    quiet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = install(new_file(quiet.parent), quiet, overwrite=True, now=NOW)
    assert done.quarantine is not None
    assert (
        other.run(done.quarantine / "memory.db", "print(connect(timeout=60).execute('SELECT count(*) FROM t').fetchall())")
        == "[(500,)]"
    )


def _own_namespace() -> tuple[str, ...]:
    words = ("unshare", "--fork", "--pid", "--mount-proc")
    if subprocess.run([*words, "true"], check=False, capture_output=True).returncode:
        pytest.skip("needs the right to make a pid namespace")
    return words


def test_an_idle_connection_of_another_pid_namespace_is_in_use(quiet: Path) -> None:
    """It holds no lock, and /proc of this namespace does not show it: the kernel counts it all the same."""
    with late_opener(quiet) as late:
        assert late.use() == "written"
        with installer(quiet, before=_own_namespace()) as restoring:
            assert restoring.stopped_at() == f"{quiet}: in use by a process that /proc does not show to this user"
        assert late.use() == "written"


def test_a_late_opener_of_another_pid_namespace_is_kept_out_as_well(quiet: Path) -> None:
    with installer(quiet, "install.sidecars_gone", before=_own_namespace()) as restoring:
        assert restoring.stopped_at() == "install.sidecars_gone"
        with late_opener(quiet) as late:
            assert restoring.go_on() == "kept out [0]"
            time.sleep(3 * guard.LEAST_SECONDS)
            assert late.use() == "database is locked"
            assert other.write(quiet, timeout=30) == "written"
            assert len(guards(quiet)) == 1
        assert until(lambda: not guards(quiet))
    assert other.sql(quiet, "SELECT count(*) FROM beside; PRAGMA integrity_check") == "(1,)('ok',)"


@pytest.mark.parametrize("look", [prove_unused, lambda path: install(new_file(path.parent), path, overwrite=True, now=NOW)])
def test_a_database_that_was_deleted_while_it_is_open_is_in_use(quiet: Path, look: Callable[[Path], object]) -> None:
    """Its users go on opening the sidecars by name: those of whatever is put there."""
    with late_opener(quiet) as late:
        assert late.use() == "written"
        quiet.unlink()
        with pytest.raises(TargetBusy, match=f"pid {late.pid}"):
            look(quiet)
    prove_unused(quiet)


def test_a_guard_of_a_deleted_quarantine_hinders_no_further_restore(quiet: Path) -> None:
    done = install(new_file(quiet.parent), quiet, overwrite=True, now=NOW)
    assert done.quarantine is not None
    shutil.rmtree(done.quarantine)
    install(new_file(quiet.parent), quiet, overwrite=True, now=NOW)


def test_a_database_whose_log_is_open_is_in_use_though_its_file_was_moved_away(tmp_path: Path) -> None:
    path = tmp_path / "memory.db"
    other.run(path, "c = connect(); c.execute('PRAGMA journal_mode=wal'); c.execute('CREATE TABLE t(x)')")
    with late_opener(path) as late:
        assert late.use() == "written"
        path.rename(tmp_path / "memory.db.bad")
        with pytest.raises(TargetBusy, match=f"pid {late.pid}"):
            prove_unused(path)


def test_the_guard_of_a_block_that_replaced_nothing_is_gone_when_the_block_ends(target: Path) -> None:
    with guarded(target) as held:
        assert other.write(target) == "database is locked"
        assert held.kept_out() == ()
        held.check()
    assert guards(target) == []
    assert other.write(target) == "written"
