"""kill -9 at every durable step: what is listed restores, the target is the old or the new database, the next run succeeds."""

from __future__ import annotations

import shutil
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest

from continuum_tasks.failpoints import CREATE, RESTORE
from continuum_tasks.host import job_kinds
from continuum_tasks.host.jobs import Job, JobState, JsonValue
from continuum_tasks.model import Backup
from continuum_tasks.process import holder_died
from continuum_tasks.tasks.client import client_app, ring
from tests.integration import beside as b
from tests.integration.beside import Shape, beside
from tests.support import other
from tests.support.processes import until
from tests.support.sampling import matrix
from tests.support.sandbox import Sandbox, age, another_host, back_up, listed, make, objects, outcome, restore_to, start
from tests.support.stack import server, worker

SWEPT_AFTER_SECONDS = 2 * 3600  # staging directories of dead processes are old after a minute, incoming objects after an hour


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A host with one full backup of an older state; `states` tells what each backup must restore to."""

    sandbox: Sandbox
    full: Backup
    states: dict[str, str]

    def state_now(self, scratch: Path) -> str:
        return state_of(self.sandbox.database, scratch)


def state_of(database: Path, scratch: Path) -> str:
    """Hash what SQLite makes of a database and its sidecars, on a copy: recovery by the product comes after."""
    copy = scratch / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir(parents=True)
    for path in database.parent.glob(f"{database.name}*"):
        shutil.copyfile(path, copy / path.name)
    return beside(b.logical, copy / database.name)


def scene(directory: Path, *, journal: str = "wal") -> Scene:
    sandbox = make(directory)
    beside(b.create, sandbox.database, Shape(journal=journal, page_size=4096), seed=1)
    full = back_up(sandbox)
    old = state_of(sandbox.database, directory)
    beside(b.work, sandbox.database, seed=8, n_actions=4)
    beside(b.release, sandbox.database)
    return Scene(sandbox=sandbox, full=full, states={full.id: old})


def killed(sandbox: Sandbox, *arguments: object, at: str) -> None:
    assert outcome(start(sandbox, *arguments, failpoints=f"{at}=kill")).code == -signal.SIGKILL


def check_all_listed_restore(scene: Scene, tmp_path: Path) -> list[Backup]:
    """Restore everything the storage lists, on a host that has only the storage and the key."""
    blank = another_host(scene.sandbox, tmp_path / f"blank-{len(list(tmp_path.iterdir()))}")
    found = listed(blank)
    for backup in found:
        target = blank.directory / f"{backup.id}.db"
        restore_to(blank, backup.id, target)
        assert beside(b.logical, target) == scene.states.get(backup.id, scene.state_now(tmp_path)), backup.id
    return list(found)


@pytest.mark.sampled
@pytest.mark.parametrize(("point", "strategy"), matrix("a backup killed", CREATE, ["full", "incremental"]))
def test_a_backup_killed_anywhere_is_whole_or_not_there_and_the_next_one_succeeds(
    tmp_path: Path, point: str, strategy: str
) -> None:
    at = scene(tmp_path / "c", journal="wal" if strategy == "full" else "delete")
    sandbox, now = at.sandbox, at.state_now(tmp_path)
    if point == "create.digested":
        (sandbox.config.state_dir / "digests" / "local" / "main" / f"{at.full.id}.digests").unlink()
    killed(sandbox, "backup", strategy, at=point)
    assert at.state_now(tmp_path) == now

    committed = CREATE.index(point) >= CREATE.index("create.after_manifest")
    assert len(check_all_listed_restore(at, tmp_path)) == 1 + committed

    age(sandbox.config.temp_dir, seconds=SWEPT_AFTER_SECONDS)
    age(sandbox.store / "~incoming", seconds=SWEPT_AFTER_SECONDS)
    following = back_up(sandbox, "incremental")
    assert following.parent_id is not None
    found = check_all_listed_restore(at, tmp_path)
    assert len(found) == 2 + committed and found[0].id == following.id
    assert list(sandbox.config.temp_dir.iterdir()) == []
    assert objects(sandbox, "locks/") == {}
    assert list((sandbox.store / "~incoming").iterdir()) == []
    assert not list(sandbox.config.state_dir.rglob("*.part"))


TARGETS = ("nothing", "rollback", "wal", "hot journal")


def put_target(kind: str, target: Path) -> str:
    """Put an older database at the target as a killed service leaves it; returns its state as the next opener sees it."""
    target.parent.mkdir()
    if kind == "nothing":
        return ""
    other.run(target, {"rollback": other.ROLLBACK, "wal": other.WAL, "hot journal": other.HOT}[kind])
    suffix = {"rollback": "", "wal": "-wal", "hot journal": "-journal"}[kind]
    assert target.with_name(target.name + suffix).stat().st_size > 0
    return state_of(target, target.parent.parent)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """A host with a chain of two backups that all restores of this module read."""
    at = scene(tmp_path_factory.mktemp("archive") / "c")
    back_up(at.sandbox, "incremental")
    return at


@pytest.mark.sampled
@pytest.mark.parametrize(("point", "kind"), matrix("a restore killed", RESTORE, TARGETS))
def test_a_restore_killed_anywhere_leaves_the_old_or_the_new_database_and_the_next_one_succeeds(
    archive: Scene, tmp_path: Path, point: str, kind: str
) -> None:
    sandbox = archive.sandbox
    new = archive.state_now(tmp_path)
    (last, _) = listed(sandbox)
    target = tmp_path / "restored" / "memory.db"
    old = put_target(kind, target)
    killed(sandbox, "restore", last.id, target, at=point)

    replaced = RESTORE.index(point) >= RESTORE.index("install.renamed")
    if old or replaced:
        assert state_of(target, tmp_path) == (new if replaced else old)
    else:
        assert not target.exists()

    age(sandbox.config.temp_dir, seconds=SWEPT_AFTER_SECONDS)
    restore_to(sandbox, last.id, target, overwrite=True)
    assert beside(b.logical, target) == new
    kept = [path for path in target.parent.iterdir() if path != target]
    assert all(path.name.startswith(".memory.db.quarantine-") for path in kept), kept
    # A kill after the sidecars went keeps one in quarantine although the old file has all it held and goes on.
    whole = [path for path in kept if (path / "memory.db").exists()]
    assert {state_of(path / "memory.db", tmp_path) for path in whole} == {state for state in (old, replaced and new) if state}
    assert len(kept) - len(whole) == (point == "install.sidecars_gone" and kind in ("wal", "hot journal"))
    assert list(sandbox.config.temp_dir.iterdir()) == []


def run_by_workers(sandbox: Sandbox, kind: str, args: dict[str, JsonValue], monkeypatch: pytest.MonkeyPatch, *, at: str) -> Job:
    """Queue a job, let the worker process that does it be killed at a failpoint, and return how it ended with sound workers."""
    options = ("-Q", "agent.h1,transfer.h1", "-c", "3")
    with server(sandbox.config), sandbox.runtime() as runtime:

        def row() -> Job:
            found = runtime.jobs.get("j")
            assert found is not None
            return found

        runtime.jobs.add(kind, args, id="j", database="main", max_attempts=5, now=runtime.site.clock.now())
        task = {"create_backup": job_kinds.CREATE_BACKUP.task, "restore_backup": job_kinds.RESTORE_BACKUP.task}[kind]
        with monkeypatch.context() as armed:
            armed.setenv("CONTINUUM_FAILPOINTS", f"{at}=kill")
            # Nobody serves the transfer queue: the agent does the chunks too, and is the one to be killed.
            with worker(sandbox.config, "-Q", "agent.h1", app="workers.app"):
                ring(client_app(sandbox.config), task, row(), queue="agent.h1")
                assert until(lambda: row().attempts > 0 and holder_died(row().claimed_by))
        assert row().state is JobState.RUNNING
        with worker(sandbox.config, *options, app="workers.app"):
            assert until(lambda: row().state in (JobState.DONE, JobState.FAILED))
        return row()


@pytest.mark.parametrize("point", ["create.chunk_put", "create.after_manifest"])
def test_a_backup_whose_worker_is_killed_is_done_by_the_next_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    at = scene(tmp_path / "c")
    args: dict[str, JsonValue] = {"database": "main", "strategy": "incremental", "storage": ""}
    job = run_by_workers(at.sandbox, "create_backup", args, monkeypatch, at=point)
    assert job.state is JobState.DONE, job.error
    assert len(check_all_listed_restore(at, tmp_path)) == (3 if point == "create.after_manifest" else 2)
    assert objects(at.sandbox, "locks/") == {}


@pytest.mark.parametrize("point", ["restore.chunk_written", "install.old_quarantined"])
def test_a_restore_whose_worker_is_killed_is_done_by_the_next_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    at = scene(tmp_path / "c")
    target = tmp_path / "restored" / "memory.db"
    old = put_target("wal", target)
    args: dict[str, JsonValue] = {
        "backup_id": at.full.id,
        "target": str(target),
        "overwrite": True,
        "verify": False,
        "storage": "",
    }
    job = run_by_workers(at.sandbox, "restore_backup", args, monkeypatch, at=point)
    assert job.state is JobState.DONE, job.error
    assert beside(b.logical, target) == at.states[at.full.id]
    (quarantine,) = [path for path in target.parent.iterdir() if path != target]
    assert state_of(quarantine / "memory.db", tmp_path) == old
