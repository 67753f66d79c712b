"""Drills through real workers: rung twice and done once, asked for and followed, with the operator's own command."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from continuum_tasks.config import Config, load_config
from continuum_tasks.host.metrics import open_metrics
from continuum_tasks.host.routing import RPO_WATCHDOG, SCHEDULE_DUE, control_queue
from continuum_tasks.tasks.client import client_app
from tests.support.cli import Done, call, command
from tests.support.processes import ROOT, until
from tests.support.stack import stack


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    directory: Path
    config: Config

    def run(self, *words: str) -> Done:
        return command(self.config, *words, cwd=self.directory)

    def log(self) -> list[str]:
        return self.config.drill_log.read_text().splitlines() if self.config.drill_log.exists() else []


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    with closing(sqlite3.connect(tmp_path / "memory.db")) as connection:
        connection.execute("CREATE TABLE t (x)")
        connection.execute("INSERT INTO t VALUES (randomblob(100000))")
        connection.commit()
    words = ("--config-dir", "etc", "--database", "memory.db", "--storage", "store", "--yes")
    call("init", *words, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}).ok()
    path = tmp_path / "etc/backup.conf"
    text = path.read_text().replace("\nhost =\n", "\nhost = h1\n").replace("drill_every = 30d", "drill_every = 1s")
    text = text.replace("drill_command =", "drill_command = printenv CONTINUUM_DRILL_NAME")
    path.write_text(text)
    config = load_config(tmp_path / "etc", environment={})
    with stack(config):
        yield Host(directory=tmp_path, config=config)


def test_what_is_due_is_drilled_once_by_the_verify_pool_and_the_watchdog_measures(host: Host) -> None:
    made = host.run("backup", "create", "--strategy", "full", "--no-local")
    assert made.code == 0, made.err
    time.sleep(1.2)  # a database younger than drill_every owes no drill
    with closing(client_app(host.config)) as app:
        for _ in range(3):
            app.send_task(SCHEDULE_DUE, queue=control_queue("h1"), ignore_result=True)
        app.send_task(RPO_WATCHDOG, queue=control_queue("h1"), ignore_result=True)

    assert until(lambda: len(host.log()) == 1)

    assert ": SUCCESS backup-full-" in host.log()[0]
    metrics = open_metrics(host.config.state_dir / "metadata.db")
    assert until(lambda: len(metrics.series("backup_rpo_seconds")) >= 1)
    assert {s.labels["phase"] for s in metrics.series("drill_phase_seconds")} >= {"fetch", "prove", "command"}
    metrics.close()
    assert not list(host.config.temp_dir.glob("*"))

    asked = host.run("backup", "drill", "--random", "--no-local", "--format", "json")
    assert asked.code == 0, asked.err
    assert Path(json.loads(asked.out)["output"]).read_text() == "memory\n"
    assert host.run("backup", "test-restore", "--latest", "--no-local").code == 0
    assert host.run("backup", "verify-all", "--since", "7d", "--no-local").code == 0
