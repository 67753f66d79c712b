"""Machines for the scenarios: installed, with a database, and with workers that run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from continuum_tasks.sample.generate import SampleSpec, generate
from tests.runbook import machine as machines
from tests.runbook.machine import Machine

NEVER = ("full_every", "incremental_every", "verify_every", "test_restore_every", "drill_every")


def install(machine: Machine, *init: str) -> None:
    """Make the configuration as `continuum init` does, with the paths of the runbook, and nothing on the timetable."""
    place = str(machine.path("/etc/continuum"))
    machine.run("init", "--config-dir", place, "--database", str(machine.database), *init, "--yes")
    settle(machine)


def settle(machine: Machine) -> None:
    """Give state and logs their places, the host a name, and take everything off the timetable: a test is not surprised."""
    places = {
        "state_dir": "/var/lib/continuum/backups",
        "temp_dir": "/tmp/continuum-backup",
        "log_file": "/var/log/continuum/backup.log",
    }
    machine.edit("backup.conf", {key: str(machine.path(name)) for key, name in places.items()})
    machine.edit("backup.conf", {"host": "h1", "agent": "1", "transfer": "2", **dict.fromkeys(NEVER, "never")})


@contextmanager
def installed(root: Path, *, size_bytes: int = 2 << 20) -> Iterator[Machine]:
    """Run a machine with a sample database and a local storage, and its backup service."""
    with machines.running(root) as machine:
        generate(machine.database, SampleSpec(size_bytes=size_bytes))
        install(machine, "--storage", str(machine.path("/var/backups/continuum")))
        machines.ask(machine, "start", "continuum-backup")
        yield machine


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """One machine for all tests of a module."""
    with installed(tmp_path_factory.mktemp("machine")) as machine:
        yield machine
