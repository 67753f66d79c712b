"""`create` through a real broker and real workers: the steps, the costs and the error come back to who waits."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from continuum_tasks.config import load_config
from tests.integration import history
from tests.integration.history import Host
from tests.support.cli import Done, command
from tests.support.processes import until
from tests.support.stack import live_pools, stack


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """A host whose chunks are small, so that a backup of it fans out."""
    made = history.make(tmp_path, size_bytes=history.MIB)
    path = made.config_dir / "backup.conf"
    text = path.read_text().replace("chunk_bytes = 32M", "chunk_bytes = 256K").replace("host =", "host = h1", 1)
    path.write_text(
        text.replace("full_every = 7d", "full_every = never").replace("incremental_every = 4m", "incremental_every = never")
    )
    return made


def create(host: Host, *words: str) -> Done:
    return command(load_config(host.config_dir), "backup", "create", "--strategy", "full", "--no-local", *words)


def test_steps_costs_and_errors_of_a_worker_reach_who_waits_for_them(host: Host) -> None:
    config = load_config(host.config_dir)
    with stack(config):
        assert until(lambda: {"agent", "transfer"} <= set(live_pools(config)))
        done = create(host, "--debug", "--profile", "--format", "json")
        assert done.code == 0, done.err
        made = done.json
        by_phase = {cost["phase"]: cost["n_bytes"] for cost in made["profile"]}
        assert by_phase["compress"] == made["original_size_bytes"] and by_phase["upload"] == made["stored_size_bytes"]
        steps = [line.partition(" s: ")[2] for line in done.err.splitlines() if line.startswith("debug ")]
        n_chunks = -(-made["n_pages"] // 64)
        assert sorted(int(step.split()[1][:-1]) for step in steps if step.startswith("chunk ")) == list(range(1, n_chunks + 1))
        assert steps[0].startswith("source ") and steps[-1].endswith("no anomaly")
        logged = [json.loads(line)["event"] for line in config.log_file.read_text().splitlines()]
        assert all(any(event.endswith(step) for event in logged) for step in steps)

        quiet = create(host)
        assert quiet.code == 0 and "debug" not in quiet.err

        shutil.move(host.database, host.directory / "away.db")
        failed = create(host, "--debug")
        assert failed.code == 4 and "memory.db" in failed.err
