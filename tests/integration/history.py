"""One host with a small database, a clock that a test turns, and the real backup action: histories are made in seconds."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from continuum_tasks.backup import create
from continuum_tasks.backup.choose_parent import BackupRequest
from continuum_tasks.cli.main import run_command
from continuum_tasks.clock import Clock
from continuum_tasks.config import load_config
from continuum_tasks.model import Backup, Strategy
from continuum_tasks.runtime import Runtime, finish, open_runtime
from continuum_tasks.sample.generate import SampleSpec, generate
from continuum_tasks.sample.writer import WritePlan, write

START = datetime(2026, 10, 1, 2, tzinfo=UTC)
MIB = 1024 * 1024


@dataclass(slots=True, kw_only=True)
class Host:
    """A configuration in `etc`, `memory.db` and a storage in `store`, all under one directory."""

    directory: Path
    now: datetime = START
    seed: int = 1

    @property
    def config_dir(self) -> Path:
        return self.directory / "etc"

    @property
    def database(self) -> Path:
        return self.directory / "memory.db"

    @contextmanager
    def runtime(self) -> Iterator[Runtime]:
        with open_runtime(load_config(self.config_dir, environment={"CONTINUUM_HOST": "h1"})) as runtime:
            clock = Clock(now=lambda: self.now, monotonic=time.monotonic)
            yield replace(runtime, site=replace(runtime.site, clock=clock))

    def back_up(self, strategy: str = "incremental", *, after: timedelta = timedelta(hours=1)) -> create.Finished:
        """Turn the clock on and make a backup, with the action that tasks and commands use."""
        self.now += after
        with self.runtime() as runtime:
            request = BackupRequest(database=runtime.config.database(""), strategy=Strategy(strategy), is_default=True)
            action = create.create_backup(
                request, repository=runtime.repository(), site=runtime.site, fan=runtime.fan(), check_lease=lambda: None
            )
            done: create.Finished = finish(action)
        return done

    def backups(self) -> list[Backup]:
        with self.runtime() as runtime:
            return runtime.catalog.backups()

    def live(self, commits: int) -> None:
        """Let the service write so many transactions."""
        for _ in write(self.database, WritePlan(rate=1_000_000, commits=commits, seed=self.seed)):
            pass

    def execute(self, *statements: str) -> None:
        """Run SQL as some other program would, each statement a transaction."""
        with closing(sqlite3.connect(self.database, isolation_level=None)) as connection:
            connection.execute("PRAGMA foreign_keys = OFF")
            for statement in statements:
                connection.execute(statement)


def make(directory: Path, *, size_bytes: int = 5 * MIB, seed: int = 1) -> Host:
    """Make a host with a sample database and no backups."""
    directory.mkdir(parents=True, exist_ok=True)
    host = Host(directory=directory, seed=1000 * seed)
    generate(host.database, SampleSpec(size_bytes=size_bytes, seed=seed))
    words = ["--config-dir", str(host.config_dir), "--database", str(host.database), "--storage", str(directory / "store")]
    code = run_command(["init", *words, "--yes"])
    assert code == 0
    return host
