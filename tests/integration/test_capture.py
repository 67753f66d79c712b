"""Capture with real processes: `continuum up`, commands, a killed broker, a cloned host, and Celery's remote control."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from shutil import copytree
from typing import Any

import psutil
import pytest

from continuum_tasks.capture.descriptors import EACH, SPARE
from continuum_tasks.capture.state.environment import CAPTURE
from continuum_tasks.capture.state.progress import STANDING
from continuum_tasks.capture.state.requests import requests
from continuum_tasks.capture.state.status import CaptureState, read_status
from continuum_tasks.config import Config, load_config
from continuum_tasks.errors import NoSpace, TargetBusy, TargetError, TargetExists
from continuum_tasks.host.jobs import JobState, open_jobs
from continuum_tasks.model import BackupId, Strategy
from continuum_tasks.process import pid_of
from continuum_tasks.restore import undo
from continuum_tasks.runtime import finish
from tests.support import other
from tests.support.capturing import PATIENT, _captures, a_host, capturing, settled, status, writing
from tests.support.cli import command
from tests.support.processes import ROOT, environment, such, until
from tests.support.sandbox import Sandbox, listed, make, objects, restore_to
from tests.support.stack import Stack, live_pools, stack


def segments(sandbox: Sandbox) -> list[str]:
    return list(objects(sandbox, "segments/main/"))


def broker_of(running: Stack) -> psutil.Process | None:
    return next(iter(such(running.family(), lambda process: process.name().endswith("-server"))), None)


def inspected(config: Config) -> dict[str, Any]:
    """Return what the agent answers to Celery's remote control."""
    words = ["-A", "workers.app", "inspect", "--timeout", "20", "--destination", "agent@h1", "--json", "capture"]
    done = subprocess.run(
        [sys.executable, "-m", "celery", *words], cwd=ROOT, env=environment(config), capture_output=True, text=True, timeout=90
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)["agent@h1"]
    return found


def test_up_captures_while_a_service_commits_and_the_broker_dies(tmp_path: Path) -> None:
    """The whole way: ready, captured, the broker killed and back, remote control, stopped and started by the command line."""
    sandbox = a_host(tmp_path / "host")
    with stack(sandbox.config) as running:
        assert "capture: 1 database" in running.lines
        assert until(lambda: settled(sandbox), seconds=PATIENT), status(sandbox)
        before, server = status(sandbox), broker_of(running)
        assert before is not None and before.commit == 1 and server is not None
        with writing(sandbox.database) as writer:
            assert until(lambda: _durable(sandbox) > 1, seconds=PATIENT), status(sandbox)
            server.suspend()  # away for as long as we like: it answers nobody, and nothing restarts it
            n_rows = writer.n_rows
            assert until(lambda: _durable(sandbox) > 1 + n_rows + 10, seconds=PATIENT), status(sandbox)
            server.kill()
            assert until(lambda: broker_of(running) not in (None, server), seconds=PATIENT)
        assert until(lambda: _durable(sandbox) == 1 + writer.n_rows, seconds=PATIENT), (writer.n_rows, status(sandbox))
        after = status(sandbox)
        assert after is not None
        assert (after.timeline, after.n_holes, after.worker) == (before.timeline, 0, before.worker)
        assert until(lambda: "agent" in live_pools(sandbox.config), seconds=PATIENT)
        answer = inspected(sandbox.config)["main"]
        assert (answer["state"], answer["wanted"], answer["troubles"]) == ("running", True, [])
        assert answer["commit"] == answer["durable_commit"] == after.commit and answer["lag_p50_seconds"] >= 0
        assert 0 <= answer["rpo_seconds"] < PATIENT
        stopped = command(sandbox, "backup", "capture", "stop").ok()
        assert "no longer captured" in stopped.out and f"{after.commit} on {after.timeline}" in stopped.out
        found = status(sandbox)
        assert found is not None and (found.state, found.n_pins) == (CaptureState.STOPPED, 0)


def _durable(sandbox: Sandbox) -> int:
    found = status(sandbox)
    return 0 if found is None else found.durable_commit


def test_under_a_small_limit_of_open_files_what_it_carries_is_captured_and_the_rest_is_refused_by_name(tmp_path: Path) -> None:
    """Sixty databases where ten can be: the process raises its soft limit, and no database harms another."""
    sandbox = a_host(tmp_path / "host")
    path, names = sandbox.directory / "backup.conf", [f"d{number:02}" for number in range(60)]
    for name in names:
        with closing(sqlite3.connect(tmp_path / f"{name}.db")) as connection:
            connection.execute("PRAGMA journal_mode = wal")
            connection.execute("CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT)")
    sections = (f"\n[database:{name}]\npath = {tmp_path / name}.db\ncontinuous = yes\n" for name in names)
    before = (
        path.read_text().replace("continuous = yes\n", "").replace("[continuum]\n", "[continuum]\ndefault_database = main\n")
    )
    path.write_text(before + "".join(sections))
    n_files = SPARE + 10 * EACH
    config = load_config(sandbox.directory)

    def states() -> dict[str, CaptureState]:
        found = {name: read_status(config.state_dir, name) for name in names}
        return {name: one.state for name, one in found.items() if one is not None}

    expected = {name: CaptureState.RUNNING if number < 10 else CaptureState.WAITING for number, name in enumerate(names)}
    with capturing(config, n_files=(n_files // 2, n_files)):
        assert until(lambda: states() == expected, seconds=PATIENT), states()
        with closing(sqlite3.connect(tmp_path / "d09.db", isolation_level=None)) as connection:
            connection.execute("INSERT INTO notes (text) VALUES ('captured')")
        assert until(lambda: _commit(config, "d09") == 2, seconds=PATIENT)
        one = command(sandbox, "backup", "capture", "status", "d10")
        assert one.code == 1 and f"database d10: waiting: {n_files} open files carry the capture of 10 databases" in one.err
        assert "raise LimitNOFILE" in one.err
        many = command(sandbox, "backup", "capture", "status", "d00", "d01")
        assert many.code == 0 and "carry 10 captured databases" in many.out
        path.write_text(path.read_text().replace(f"{tmp_path / 'd00.db'}\ncontinuous = yes", f"{tmp_path / 'd00.db'}"))
        assert until(lambda: states()["d10"] is CaptureState.RUNNING, seconds=PATIENT), states()
        assert states()["d11"] is CaptureState.WAITING


def _commit(config: Config, name: str) -> int:
    found = read_status(config.state_dir, name)
    return 0 if found is None else found.commit


def test_the_backup_that_a_capture_begins_with_is_made_by_a_worker_where_one_serves(tmp_path: Path) -> None:
    sandbox = a_host(tmp_path / "host", continuous=False)
    with stack(sandbox.config) as running:
        command(sandbox, "backup", "create", "--strategy", "continuous").ok()
        assert until(lambda: settled(sandbox), seconds=PATIENT), status(sandbox)
        with closing(open_jobs(sandbox.config.state_dir / "metadata.db")) as jobs:
            (job,) = jobs.ended("create_backup", database="main", limit=5)
        (agent,) = [pool.pid for name, pool in live_pools(sandbox.config).items() if name == "agent"]
        children = {process.pid for process in psutil.Process(agent).children(recursive=True)}
        assert (job.state, job.attempts) == (JobState.DONE, 1) and pid_of(job.claimed_by) in {agent, *children}
        assert running.process.poll() is None


def test_a_process_of_its_own_begins_stops_and_begins_again_on_the_same_timeline(tmp_path: Path) -> None:
    sandbox = a_host(tmp_path / "host", continuous=False)
    with capturing(sandbox.config):
        begun = command(sandbox, "backup", "create", "--strategy", "continuous", "--format", "json").ok().json
        assert (begun["state"], begun["commit"], begun["base_after"], begun["changed"]) == ("running", 1, 0, True)
        shown = command(sandbox, "backup", "capture", "status").ok()
        assert begun["timeline"] in shown.out
        assert command(sandbox, "backup", "capture", "stop", "--format", "json").ok().json["state"] == "stopped"
        again = command(sandbox, "backup", "create", "--strategy", "continuous", "--format", "json").ok().json
        assert (again["timeline"], again["n_holes"], again["changed"]) == (begun["timeline"], 0, True)
        second = command(sandbox, "backup", "capture", "run")
        assert second.code == 10 and "another process captures here" in second.err
    gone = command(sandbox, "backup", "capture", "status", "--format", "json")
    assert gone.code == 1 and gone.json[0]["state"] == "stopped" and gone.json[0]["durable_commit"] == gone.json[0]["commit"]


def test_a_journal_database_is_captured_once_it_is_switched_to_wal_mode(tmp_path: Path) -> None:
    sandbox = a_host(tmp_path / "host", wal=False)
    with capturing(sandbox.config):
        done = command(sandbox, "backup", "create", "--strategy", "continuous", "--format", "json").ok()
        assert done.json["state"] == "journal" and "continuum backup enable-wal main" in done.err
        assert until(lambda: bool(listed(sandbox)), seconds=PATIENT)
        command(sandbox, "backup", "enable-wal", "main", "--yes").ok()
        assert until(lambda: settled(sandbox), seconds=PATIENT), status(sandbox)
        with closing(sqlite3.connect(sandbox.database)) as connection:
            connection.execute("INSERT INTO notes (text) VALUES ('captured')")
            connection.commit()
            assert until(lambda: _durable(sandbox) == 2, seconds=PATIENT), status(sandbox)


def test_a_cloned_host_is_fenced_off_until_it_begins_a_timeline_of_its_own(tmp_path: Path) -> None:
    """The clone has the name, keys, state and database of the first host, to the inode, and both write to one storage."""
    first = a_host(tmp_path / "first")
    with capturing(first.config):
        assert until(lambda: settled(first), seconds=PATIENT), status(first)
    clone = _clone(first, tmp_path / "clone")
    with capturing(first.config):
        assert until(lambda: _is_running(first), seconds=PATIENT)
        with capturing(clone.config):
            assert until(lambda: _is_running(clone) and _durable(clone) == 1, seconds=PATIENT), status(clone)
            _write(first, "on the first host")
            assert until(lambda: _durable(first) == 2, seconds=PATIENT), status(first)
            _write(clone, "on the clone")
            assert until(lambda: _state(clone) is CaptureState.FENCED, seconds=PATIENT), status(clone)
            said = command(clone, "backup", "capture", "status")
            assert said.code == 1 and "fenced: segment 2" in said.err and "which this host did not write" in said.err
            begun = command(clone, "backup", "create", "--strategy", "continuous", "--format", "json").ok().json
            assert "did not write" in begun["fence"] and begun["state"] == "running" and begun["troubles"] == []
            mine, theirs = begun["timeline"], status(first)
            assert theirs is not None and theirs.state is CaptureState.RUNNING and theirs.timeline != mine
            assert {key.split("/")[2] for key in segments(first)} == {mine, theirs.timeline}


def test_a_clone_that_comes_later_is_fenced_off_before_it_ships_anything(tmp_path: Path) -> None:
    """Compaction may have taken away the very segment whose name would have been taken."""
    first = a_host(tmp_path / "first")
    with capturing(first.config):
        assert until(lambda: settled(first), seconds=PATIENT), status(first)
    clone = _clone(first, tmp_path / "clone")
    with capturing(first.config):
        assert until(lambda: _is_running(first), seconds=PATIENT)
        _write(first, "on the first host")
        assert until(lambda: _durable(first) == 2, seconds=PATIENT), status(first)
    with capturing(clone.config):
        assert until(lambda: _state(clone) is CaptureState.FENCED, seconds=PATIENT), status(clone)
    assert len(segments(first)) == 2


def _clone(sandbox: Sandbox, directory: Path) -> Sandbox:
    copytree(sandbox.directory, directory, ignore=lambda *_: ["store"])
    for name in ("backup.conf", "storage.conf"):
        text = (directory / name).read_text()
        (directory / name).write_text(text.replace(str(sandbox.directory / "data"), str(directory / "data")))
    cloned = replace(sandbox, config=load_config(directory))
    standing = cloned.config.state_dir / CAPTURE / "main" / STANDING
    found = cloned.database.stat()  # a copied disk has the numbers of the first one
    standing.write_text(json.dumps({**json.loads(standing.read_text()), "source": f"{found.st_dev}:{found.st_ino}"}))
    return cloned


def _write(sandbox: Sandbox, text: str) -> None:
    with closing(sqlite3.connect(sandbox.database)) as connection:
        connection.execute("INSERT INTO notes (text) VALUES (?)", (text,))
        connection.commit()


def _state(sandbox: Sandbox) -> CaptureState | None:
    found = status(sandbox)
    return None if found is None else found.state


def _is_running(sandbox: Sandbox) -> bool:
    return _state(sandbox) is CaptureState.RUNNING


def test_capture_begins_while_a_configured_broker_is_away(tmp_path: Path) -> None:
    sandbox = a_host(tmp_path / "host")
    path = sandbox.directory / "backup.conf"
    path.write_text(path.read_text() + "\n[broker]\nurl = redis://127.0.0.1:1/0\n")
    config = load_config(sandbox.directory)
    words = [sys.executable, "-m", "workers.stack", "--config-dir", str(config.directory)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment(config))
    try:
        assert process.stdout is not None and "does not answer; commits are captured" in process.stdout.readline()
        assert until(lambda: settled(sandbox), seconds=PATIENT), status(sandbox)
    finally:
        process.terminate()
        out, _ = process.communicate(timeout=PATIENT)
    assert process.returncode == 0 and out.splitlines()[-1] == "stopped"


@pytest.mark.parametrize("words", [["agent", "more"], ["other"]])
def test_the_pools_command_knows_capture_and_names_it(tmp_path: Path, words: list[str]) -> None:
    config = make(tmp_path / "host").config
    done = subprocess.run(
        [sys.executable, "-m", "workers.pools", *words], cwd=ROOT, env=environment(config), capture_output=True, text=True
    )
    assert done.returncode == 1 and "|capture" in done.stderr


def test_the_pools_command_becomes_the_process_that_captures(tmp_path: Path) -> None:
    sandbox = a_host(tmp_path / "host")
    words = [sys.executable, "-m", "workers.pools", "capture"]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, cwd=ROOT, env=environment(sandbox.config))
    try:
        assert until(lambda: _captures(sandbox.config, process.pid), seconds=PATIENT)
    finally:
        process.terminate()
    assert process.wait(timeout=PATIENT) == 0


def test_what_is_refused_makes_no_hole_and_no_timeline(tmp_path: Path) -> None:
    """A target that exists, one that a service has open, one without room, and an undo with nothing to put back."""
    sandbox = a_host(tmp_path / "host")
    with capturing(sandbox.config):
        assert until(lambda: settled(sandbox), seconds=PATIENT), status(sandbox)
        before, (backup,) = status(sandbox), listed(sandbox)
        assert before is not None
        with sandbox.runtime() as runtime:
            repository, huge = runtime.repository(), BackupId("backup-full-20200101-000000")
            manifest = repository.read_manifest("main", backup.id)
            most = {"page_size": 65536, "n_pages": 2**32 - 1, "original_size_bytes": 65536 * (2**32 - 1)}
            larger = replace(manifest.backup, id=huge, base_id=huge, parent_id=None, strategy=Strategy.FULL, **most)
            repository.put_manifest(replace(manifest, backup=larger, objects=()))
        with pytest.raises(TargetExists):
            restore_to(sandbox, backup.id, sandbox.database)
        with pytest.raises(NoSpace):
            restore_to(sandbox, huge, sandbox.database, overwrite=True)
        use = "c = connect(); c.execute('SELECT * FROM notes').fetchall()"
        with other.living(sandbox.database, use) as holder, pytest.raises(TargetBusy, match=str(holder.pid)):
            restore_to(sandbox, backup.id, sandbox.database, overwrite=True)
        with sandbox.runtime() as runtime, pytest.raises(TargetError, match="no replaced file"):
            finish(undo.undo_restore(sandbox.database, site=runtime.site))
        assert list(requests(sandbox.config.state_dir).iterdir()) == []  # nobody was asked to let go
        _write(sandbox, "after all that")
        assert until(lambda: _durable(sandbox) == before.commit + 1, seconds=PATIENT), status(sandbox)
        after = status(sandbox)
        assert after is not None and (after.timeline, after.n_holes) == (before.timeline, before.n_holes)
