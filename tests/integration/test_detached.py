"""`continuum up --detach` and `continuum down`: a stack without a terminal, found again by its state directory."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import psutil
import pytest

from continuum_tasks.config import Config
from continuum_tasks.host.stack_record import running_stack
from tests.support.cli import PROGRAM
from tests.support.processes import ROOT, environment, such, until
from tests.support.stack import live_pools, stack, write_config_files


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return write_config_files(tmp_path / "host")


def command(config: Config, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PROGRAM, *words],
        cwd=ROOT,
        env=environment(config),
        capture_output=True,
        text=True,
        timeout=540,
    )


def test_a_detached_stack_outlives_the_command_is_found_again_and_goes_down_whole(config: Config) -> None:
    started = command(config, "up", "--detach")
    try:
        assert started.returncode == 0, started.stderr
        found = running_stack(config.state_dir)
        assert found is not None and found.ready and f"ready (process {found.pid})" in started.stdout
        assert str(config.state_dir / "logs" / "stack.log") in started.stdout
        assert os.getsid(found.pid) == found.pid, "a session of its own"
        assert set(live_pools(config)) >= {"agent", "transfer", "verify", "control"}
        family = [psutil.Process(found.pid), *psutil.Process(found.pid).children(recursive=True)]
        again = command(config, "up", "--detach", "--format", "json")
        assert again.returncode == 0
        assert {"state": "ready", "changed": False, "pid": found.pid}.items() <= json.loads(again.stdout).items()
        attached = command(config, "up")
        assert attached.returncode == 10 and "another `continuum up`" in attached.stderr
    finally:
        stopped = command(config, "down")
    assert (stopped.returncode, stopped.stdout) == (0, f"stopped (process {found.pid})\n"), stopped.stderr
    assert until(lambda: not such(family, lambda _process: True))
    second = command(config, "down")
    assert (second.returncode, second.stdout) == (0, "not running: there is nothing to stop\n")


def test_a_stack_in_a_terminal_goes_down_the_same_way(config: Config) -> None:
    with stack(config) as started:
        stopped = command(config, "down", "--format", "json")
        assert (stopped.returncode, json.loads(stopped.stdout)["pid"]) == (0, started.process.pid), stopped.stderr
        out, _ = started.process.communicate(timeout=90)
        assert started.process.returncode == 0 and out.splitlines()[-1] == "stopped"


def test_a_detached_stack_that_cannot_start_says_why_with_its_own_exit_code(config: Config) -> None:
    text = (config.directory / "backup.conf").read_text().replace("url = \n", "url = redis://127.0.0.1:1/0\n")
    (config.directory / "backup.conf").write_text(text)
    done = command(config, "up", "--detach")
    assert done.returncode == 11
    assert "the stack ended while it started: " in done.stderr and "stack.log" in done.stderr
    assert running_stack(config.state_dir) is None
