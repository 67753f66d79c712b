"""A captured commit restored, and segments merged, by real workers that job rows reach."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from continuum_tasks.config import load_config
from continuum_tasks.model import BackupId
from continuum_tasks.runtime import open_runtime
from tests.support.cli import Done, command
from tests.support.oracle import dump
from tests.support.recording import SECOND_US, Recorder, stand
from tests.support.replays import make_database
from tests.support.stack import stack, write_config_files

Run = Callable[..., Done]
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

    def run(*words: str) -> Done:
        return command(config, "backup", *words, "--format", "json", cwd=config.directory)

    made = run("create", "--strategy", "full", "--local").json
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
    assert done.code == 0, done.err
    fields = done.json
    assert (fields["commit"]["number"], fields["commit"]["timeline"]) == (7, recorder.timeline.id)
    assert dump(Path(fields["target"])) == dump(recorder.state(7))
    proof = run("verify-recovery")
    assert (proof.code, proof.json["verdict"]) == (0, "identical")


def test_a_worker_merges_segments_and_the_commits_stay(host: tuple[Run, Recorder]) -> None:
    run, recorder = host
    done = run("compact", "--no-local")
    assert done.code == 0, done.err
    assert [(one["first_seq"], one["last_seq"]) for one in done.json["merges"]] == [(1, 10)]
    again = run("restore", "--commit", "8", "--target", "s.db", "--no-local")
    assert again.code == 0, again.err
    assert dump(Path(again.json["target"])) == dump(recorder.state(8))
