"""Restores by time and by region, done by real workers from a real S3 server, then undone and proven."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from continuum_tasks.sample.generate import SampleSpec, generate
from tests.support.cli import Done, command
from tests.support.servers import rclone
from tests.support.stack import stack, write_config_files

Run = Callable[..., Done]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """A host with workers, whose default storage is an S3 server's bucket; returns how to call its command line."""
    folder = tmp_path_factory.mktemp("points")
    config = write_config_files(folder / "c")
    generate(config.directory / "memory.db", SampleSpec(size_bytes=1024 * 1024))
    (config.directory / "keys").mkdir(mode=0o700)
    backup = config.directory / "backup.conf"
    backup.write_text(backup.read_text() + "\n[backup]\nencryption = none\n")
    with rclone(folder) as server:
        credentials = server.write_credentials(folder)
        (config.directory / "storage.conf").write_text(
            f"[storage:s3]\ntype = s3\nbucket = {server.bucket}\nendpoint = {server.endpoint}\nregion = us-east-1\n"
            f"credentials_file = {credentials}\nchecksum_mode = required\n"
        )

        def run(*words: str) -> Done:
            return command(config, "backup", *words, "--format", "json", cwd=config.directory)

        with stack(config):
            yield run


def test_a_worker_restores_the_state_at_a_time_from_the_region_that_was_asked_for(run: Run) -> None:
    made = run("create", "--strategy", "full", "--no-local")
    assert made.code == 0, made.err
    created = made.json
    done = run("restore", "--pitr", "0s", "--region", "us-west-2", "--target", "r.db", "--verify", "--no-local")
    assert done.code == 0, done.err
    assert f"--pitr: {created['backup_id']}" in done.err
    directory = Path(done.json["target"]).parent
    (line,) = filter(None, (directory / "state" / "recoveries.jsonl").read_text().splitlines())
    assert json.loads(line)["region"] == "us-west-2"  # written by the agent: the region came with the row
    proof = run("verify-recovery")
    assert (proof.code, proof.json["verdict"]) == (0, "identical")


def test_a_restore_by_a_worker_is_undone_by_the_command_line(run: Run) -> None:
    done = run("restore", "--latest", "--target", "r.db", "--overwrite", "--no-local")
    assert done.code == 0, done.err
    undone = run("restore", "--undo", "--target", "r.db")
    assert undone.code == 0, undone.err
    assert undone.json["put_back"] == done.json["quarantine"]


def test_a_worker_writes_a_state_into_a_live_database_and_its_connections_see_it(run: Run) -> None:
    first = run("restore", "--latest", "--target", "live.db", "--no-local").ok().json
    code = """
import sqlite3, sys
c = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)
tables = lambda: [name for (name,) in c.execute("SELECT name FROM sqlite_schema WHERE name = 'wrong'")]
c.execute('CREATE TABLE wrong(x)'); print(tables(), flush=True); sys.stdin.readline(); print(tables(), flush=True)
"""
    with subprocess.Popen(
        [sys.executable, "-IS", "-c", code, first["target"]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as service:
        assert service.stdin is not None and service.stdout is not None
        assert service.stdout.readline() == "['wrong']\n"
        done = run("restore", "--latest", "--target", "live.db", "--online", "--wait-writers", "--no-local")
        assert done.code == 0, done.err
        service.stdin.write("\n")
        service.stdin.flush()
        assert service.stdout.readline() == "[]\n"
    assert done.json["online"]["n_pages_written"] > 0
    undone = run("restore", "--undo", "--target", "live.db")
    assert undone.code == 0, undone.err
