"""One run per database at a time: across the processes of a host, and across hosts that share a storage."""

from __future__ import annotations

import contextlib
import os
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import Popen

import pytest

from continuum_tasks.backup import create
from continuum_tasks.errors import DatabaseLocked, ObjectDamaged, StaleClaim, StorageUnreachable
from continuum_tasks.model import Progress, Strategy
from continuum_tasks.repository import lock
from continuum_tasks.repository.lock import LEASE_SECONDS, Contender, hold_lock, host_lock
from continuum_tasks.storage.memory import MemoryStorage
from continuum_tasks.tasks.executor import backup_request
from tests.integration import beside as b
from tests.integration.beside import Shape, beside
from tests.support.processes import until
from tests.support.sandbox import Options, Sandbox, another_host, back_up, listed, make, objects, outcome, restore_to, start


@pytest.fixture
def one(tmp_path: Path) -> Sandbox:
    sandbox = make(tmp_path / "one")
    beside(b.create, sandbox.database, Shape(journal="wal", page_size=4096), seed=1)
    return sandbox


@pytest.fixture
def two(one: Sandbox, tmp_path: Path) -> Sandbox:
    """Another host with a database of the same name in the same storage."""
    sandbox = another_host(one, tmp_path / "two", Options(host="h2"))
    beside(b.create, sandbox.database, Shape(journal="wal", page_size=4096), seed=2)
    return sandbox


@contextmanager
def at_work(sandbox: Sandbox, *, seconds: float) -> Iterator[Popen[str]]:
    """Let another process hold the lock for that long in the middle of a backup."""
    with start(sandbox, "backup", "full", failpoints=f"create.staged=sleep:{seconds}") as process:
        assert until(lambda: bool(objects(sandbox, "locks/main/")))
        time.sleep(0.2)
        yield process


def leases(sandbox: Sandbox) -> list[str]:
    return list(objects(sandbox, "locks/main/"))


def put_lease(sandbox: Sandbox, owner: str, *, age_seconds: float) -> Path:
    path = sandbox.store / "locks" / "main" / f"{owner}-0123456789ab.lease"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(owner)
    at = time.time() - age_seconds
    os.utime(path, (at, at))
    return path


def test_of_two_processes_of_a_host_one_runs_and_the_other_is_told_who_does(one: Sandbox) -> None:
    with at_work(one, seconds=6) as first:
        with pytest.raises(DatabaseLocked, match=rf"main: another run is in progress \(process {first.pid} of this host\)"):
            back_up(one)
        assert outcome(first).code == 0
    assert [found.id for found in listed(one)] == [outcome_id(first, one)]
    assert back_up(one, "incremental").parent_id is not None


def outcome_id(process: Popen[str], sandbox: Sandbox) -> str:
    (key,) = objects(sandbox, "manifests/")
    return Path(key).stem


def test_of_two_hosts_that_share_a_storage_one_runs_and_the_other_is_told_the_lease(one: Sandbox, two: Sandbox) -> None:
    with at_work(one, seconds=30) as first:
        (lease,) = leases(one)
        assert "/h1." in lease
        with pytest.raises(DatabaseLocked, match=rf"main: another run is in progress \(lease {lease}\)"):
            back_up(two)
        assert leases(one) == [lease], "the loser took the winner's lease away"
        assert listed(two) == ()
        first.kill()


def test_when_hosts_start_in_the_same_instant_never_two_run_at_once(one: Sandbox, two: Sandbox) -> None:
    """The winner holds on for longer than the others try, so a second success would be a second holder."""
    runs = [start(host, "backup", "full", failpoints="create.locked=sleep:10") for host in (one, two)]
    ended = [outcome(run) for run in runs]
    assert sorted(end.error for end in ended) == ["", "DatabaseLocked"]
    assert len(objects(one, "manifests/")) == 1
    assert leases(one) == []


def test_the_lock_of_a_killed_process_of_this_host_is_taken_over_at_once(one: Sandbox) -> None:
    assert outcome(start(one, "backup", "full", failpoints="create.staged=kill")).code == -9
    assert len(leases(one)) == 1
    began = time.monotonic()
    back_up(one)
    assert time.monotonic() - began < 30
    assert leases(one) == []


class Falling(MemoryStorage):
    """A storage that refuses to delete."""

    def delete(self, key: str) -> None:
        raise StorageUnreachable(f"object {key}: no answer")


def contender(directory: Path) -> Contender:
    return Contender(owner="h1.0", nonce="0", directory=directory, pause=lambda attempt: None)


def test_a_lease_that_cannot_be_given_back_changes_nothing_about_how_the_run_ended(tmp_path: Path) -> None:
    with hold_lock("main", Falling(), contender(tmp_path)):
        pass
    with pytest.raises(ObjectDamaged, match="the run's own"), hold_lock("main", Falling(), contender(tmp_path)):
        raise ObjectDamaged("the run's own")


def test_a_lease_that_was_taken_away_is_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "LEASE_SECONDS", 0.1)  # renewed every 0.02 s
    storage = MemoryStorage()
    with hold_lock("main", storage, contender(tmp_path)) as held:
        before = storage.stat(held.key).modified_at
        assert until(lambda: storage.stat(held.key).modified_at > before)
        storage.delete(held.key)
        time.sleep(0.2)
        with pytest.raises(StaleClaim):
            held.check()


def test_a_full_disk_does_not_keep_a_host_from_its_lock(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with contextlib.ExitStack() as held:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))  # every write to a file fails
        try:
            held.enter_context(host_lock("main", contender(tmp_path)))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        with pytest.raises(DatabaseLocked, match=r"process \? of this host"), host_lock("main", contender(tmp_path)):
            pass


def test_a_live_lease_of_another_host_holds_and_an_expired_one_is_taken_over(one: Sandbox) -> None:
    put_lease(one, "h9.deadbeef", age_seconds=LEASE_SECONDS - 30)
    with pytest.raises(DatabaseLocked, match=r"lease locks/main/h9\.deadbeef-0123456789ab\.lease"):
        back_up(one)
    put_lease(one, "h9.deadbeef", age_seconds=LEASE_SECONDS + 5)
    back_up(one)
    assert leases(one) == []


def test_a_lease_on_one_database_does_not_hold_up_another(one: Sandbox) -> None:
    path = put_lease(one, "h9.deadbeef", age_seconds=0)
    path.parent.rename(path.parent.with_name("other"))
    back_up(one)


def test_a_run_that_lost_its_lease_commits_nothing(one: Sandbox) -> None:
    with one.runtime() as runtime:
        request = backup_request(runtime, database="", strategy=Strategy.FULL)
        action = create.create_backup(
            request,
            repository=runtime.repository(request.database.storage),
            site=runtime.site,
            fan=runtime.fan(),
            check_lease=lambda: None,
        )
        while next(action) != Progress(phase="commit"):
            pass
        (lease,) = objects(one, "locks/main/").values()
        lease.unlink()
        with pytest.raises(StaleClaim, match=r"lock locks/main/h1\..*: taken over by another run"):
            next(action)
    assert objects(one, "manifests/") == {}
    assert back_up(one).parent_id is None


def test_a_stalled_run_whose_lease_another_host_took_over_commits_nothing(one: Sandbox, two: Sandbox) -> None:
    with start(one, "backup", "full", failpoints="create.chunks_put=sleep:3") as stalled:
        assert until(lambda: bool(objects(one, "layers/")))
        (lease,) = objects(one, "locks/main/").values()
        at = time.time() - LEASE_SECONDS - 5
        os.utime(lease, (at, at))
        made = back_up(two)
        assert outcome(stalled).error == "StaleClaim"
    assert [found.id for found in listed(two)] == [made.id]


def test_a_run_that_lost_its_job_commits_nothing(one: Sandbox) -> None:
    def lost() -> None:
        raise StaleClaim("job 1: taken over")

    with one.runtime() as runtime:
        request = backup_request(runtime, database="", strategy=Strategy.FULL)
        action = create.create_backup(
            request,
            repository=runtime.repository(request.database.storage),
            site=runtime.site,
            fan=runtime.fan(),
            check_lease=lost,
        )
        with pytest.raises(StaleClaim, match="job 1"):
            list(action)
    assert objects(one, "manifests/") == {}
    assert leases(one) == []


def test_two_restores_to_one_target_at_once_each_install_a_whole_file(one: Sandbox, tmp_path: Path) -> None:
    """The slower one was told to overwrite: it puts what the other installed into quarantine, and leaves nothing else."""
    made = back_up(one)
    target = tmp_path / "out" / "memory.db"
    target.parent.mkdir()
    with start(one, "restore", made.id, target, failpoints="restore.temp_created=sleep:2") as slower:
        assert until(lambda: bool(list(target.parent.iterdir())))
        restore_to(one, made.id, target)
        whole = target.read_bytes()
        assert outcome(slower).code == 0
    assert target.read_bytes() == whole
    left, quarantine = sorted(target.parent.iterdir(), key=lambda path: path.name != "memory.db")
    assert left == target and quarantine.name.startswith(".memory.db.quarantine-")
