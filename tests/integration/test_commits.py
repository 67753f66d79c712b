"""A captured commit restored, and segments merged, by real workers that job rows reach."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from continuum_tasks.config import load_config
from continuum_tasks.model import BackupId
from continuum_tasks.runtime import open_runtime
from tests.integration.processes import environment, stack, write_config_files
from tests.recording import SECOND_US, Recorder, content, stand
from tests.unit.assembly.test_replay import make_database

Run = Callable[..., subprocess.CompletedProcess[str]]
DAY = 86_400


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Run, Recorder]]:
    """A host with workers, and a recording of eleven commits, an hour apart from a later one."""
    folder = tmp_path_factory.mktemp("commits")
    config = write_config_files(folder / "c")
    backup = config.directory / "backup.conf"
    backup.write_text(backup.read_text() + "\n[backup]\nencryption = none\n")
    config = load_config(config.directory)
    make_database(config.directory / "memory.db")

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "continuum_tasks.cli", "backup", *words, "--format", "json"]
        return subprocess.run(
            command, cwd=config.directory, env=environment(config), capture_output=True, text=True, check=False
        )

    made = json.loads(run("create", "--strategy", "full", "--local").stdout)
    (folder / "scratch").mkdir()
    with open_runtime(config) as runtime:
        recorder = Recorder(
            path=config.directory / "memory.db",
            repository=runtime.repository(),
            scratch=folder / "scratch",
            database="main",
            now_us=(int(time.time()) - DAY) // 3600 * 3600 * SECOND_US,
        )
        with recorder:
            known = {b.id: b for b in runtime.catalog.backups()}
            stand(runtime, known[BackupId(made["backup_id"])], recorder.timeline.id, 1)
            for number in range(2, 12):
                recorder.run(f"INSERT INTO t (x) VALUES ({number})")
                recorder.ship()
            recorder.run("INSERT INTO t (x) VALUES (12)", seconds=2 * 3600)
            recorder.ship()
            _stamp(config.directory / "store", recorder)
            with stack(config):
                yield run, recorder


def _stamp(store: Path, recorder: Recorder) -> None:
    """Let the storage have got all but the newest segment a day ago."""
    for path in sorted(store.rglob("r-*.segment"))[:-1]:
        at = recorder.captured[0].commit.observed_us / SECOND_US + 60
        os.utime(path, (at, at))


def test_a_worker_restores_the_commit_its_row_names(host: tuple[Run, Recorder]) -> None:
    run, recorder = host
    done = run("restore", "--commit", "7", "--target", "r.db", "--verify", "--no-local")
    assert done.returncode == 0, done.stderr
    fields = json.loads(done.stdout)
    assert (fields["commit"]["number"], fields["commit"]["timeline"]) == (7, recorder.timeline.id)
    assert content(Path(fields["target"])) == content(recorder.state(7))
    proof = run("verify-recovery")
    assert (proof.returncode, json.loads(proof.stdout)["verdict"]) == (0, "identical")


def test_a_worker_merges_segments_and_the_commits_stay(host: tuple[Run, Recorder]) -> None:
    run, recorder = host
    done = run("compact", "--no-local")
    assert done.returncode == 0, done.stderr
    assert [(one["first_seq"], one["last_seq"]) for one in json.loads(done.stdout)["merges"]] == [(1, 10)]
    again = run("restore", "--commit", "8", "--target", "s.db", "--no-local")
    assert again.returncode == 0, again.stderr
    assert content(Path(json.loads(again.stdout)["target"])) == content(recorder.state(8))
