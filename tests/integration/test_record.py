"""Settings, log and audit log with real workers: a change counts at the next task, and who asked stands in the record."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from continuum_tasks.config import Config, load_config
from continuum_tasks.host import audit
from continuum_tasks.host.audit_trail import TIMETABLE, user
from continuum_tasks.host.jobs import open_jobs
from tests.integration import history
from tests.support.cli import command
from tests.support.processes import until
from tests.support.stack import live_pools, stack


@pytest.fixture
def config(tmp_path: Path) -> Config:
    made = history.make(tmp_path, size_bytes=history.MIB)
    path = made.config_dir / "backup.conf"
    text = path.read_text().replace("host =", "host = h1", 1)
    for name in ("full_every", "incremental_every", "verify_every", "test_restore_every", "drill_every"):
        text = "\n".join(f"{name} = never" if line.startswith(f"{name} =") else line for line in text.splitlines())
    path.write_text(f"{text}\n")
    return load_config(made.config_dir, environment={})


def call(config: Config, *words: str) -> Any:
    return command(config, "backup", *words, "--format", "json").json


def events(config: Config) -> list[tuple[str, str, str]]:
    lines = list(audit.read_events(config.state_dir / audit.FILE))
    assert all(line.intact for line in lines)
    return [(line.event.action, line.event.user, line.event.outcome) for line in lines if line.event is not None]


def test_workers_take_a_change_at_their_next_task_and_the_record_says_who_asked(config: Config) -> None:
    me = user()
    with stack(config):
        assert until(lambda: {"agent", "transfer", "verify", "control"} <= set(live_pools(config)))
        made = call(config, "create", "--strategy", "full", "--no-local")
        assert made["codec"] == "zstd"
        call(config, "config", "set", "compression_algorithm", "lz4")
        assert call(config, "create", "--strategy", "full", "--no-local")["codec"] == "lz4"
        call(config, "verify", made["backup_id"], "--no-local")
        assert [one for one in events(config) if one[0] != "init"] == [
            *(("create", me, "begun"), ("create", me, "done"), ("config-set", me, "done")),
            *(("create", me, "begun"), ("create", me, "done"), ("verify", me, "begun"), ("verify", me, "done")),
        ]

        jobs = open_jobs(config.state_dir / "metadata.db")
        jobs.add(  # as the timetable does
            "test_restore", {"backup_id": made["backup_id"], "storage": "local"}, database="memory", now=datetime.now(UTC)
        )
        jobs.close()
        assert until(lambda: ("test-restore", TIMETABLE, "done") in events(config))

        Path(config.databases[0].path).rename(config.directory / "away.db")
        assert call(config, "create", "--strategy", "full", "--no-local")["error"]["name"] == "SourceMissing"
        assert events(config)[-1] == ("create", me, "SourceMissing")
        loggers = {line["logger"] for line in call(config, "logs", "--since", "1h")}
        assert any(name.startswith("celery") for name in loggers)
        config.log_file.rename(config.log_file.with_name("backup.log.1"))
        os.utime(config.log_file.with_name("backup.log.1"))
        call(config, "create", "--strategy", "full", "--no-local")
        assert until(lambda: len(call(config, "logs", "--level", "error", "--since", "1h")) >= 2)
