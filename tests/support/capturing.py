"""A host whose capture runs as `continuum backup capture run`, a writer on its database, and what its status says."""

from __future__ import annotations

import resource
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from continuum_tasks.capture.state.status import CaptureState, CaptureStatus, read_heartbeat, read_status
from continuum_tasks.config import Config, load_config
from continuum_tasks.process import pid_of
from tests.support.cli import PROGRAM
from tests.support.processes import ROOT, environment, until
from tests.support.sandbox import Sandbox, make

PATIENT = 180.0  # seconds until a claim must hold: a machine that does ten other things needs many of them


@dataclass(slots=True, kw_only=True)
class Writer:
    """A service that commits now and then, one row each time."""

    path: Path
    n_rows: int = 0
    stopped: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        with closing(sqlite3.connect(self.path, isolation_level=None, timeout=30)) as connection:
            while not self.stopped.wait(0.02):
                connection.execute("INSERT INTO notes (text) VALUES (?)", (f"note {self.n_rows}",))
                self.n_rows += 1


@contextmanager
def writing(path: Path) -> Iterator[Writer]:
    writer = Writer(path=path)
    thread = threading.Thread(target=writer.run)
    thread.start()
    try:
        yield writer
    finally:
        writer.stopped.set()
        thread.join()


def a_host(directory: Path, *, wal: bool = True, continuous: bool = True) -> Sandbox:
    made = make(directory)
    with closing(sqlite3.connect(made.database)) as connection:
        connection.execute(f"PRAGMA journal_mode = {'wal' if wal else 'delete'}")
        connection.execute("CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT)")
        connection.commit()
    if continuous:
        path = made.directory / "backup.conf"
        path.write_text(path.read_text().replace("[database:main]\n", "[database:main]\ncontinuous = yes\n"))
    return replace(made, config=load_config(made.directory))


def status(sandbox: Sandbox) -> CaptureStatus | None:
    return read_status(sandbox.config.state_dir, "main")


def settled(sandbox: Sandbox) -> bool:
    """Everything that was committed is in the storage, and a backup stands behind the first commit."""
    found = status(sandbox)
    return found is not None and found.state is CaptureState.RUNNING and not found.base_after and _is_durable(found)


def _is_durable(found: CaptureStatus) -> bool:
    return 0 < found.commit == found.durable_commit and not found.spool_segments


@contextmanager
def capturing(config: Config, *, n_files: tuple[int, int] | None = None) -> Iterator[subprocess.Popen[str]]:
    """Run `continuum backup capture run` until the context ends, under a soft and a hard limit of open files."""
    words = [*PROGRAM, "backup", "capture", "run", "--config-dir", str(config.directory)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT, env=_plain(config))
    if n_files is not None:
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, n_files)
    try:
        assert until(lambda: _captures(config, process.pid), seconds=PATIENT), process.communicate(timeout=5)
        yield process
    finally:
        process.terminate()
        try:
            process.communicate(timeout=PATIENT)
        finally:
            process.kill()


def _captures(config: Config, pid: int) -> bool:
    found = read_heartbeat(config.state_dir)
    return found is not None and pid_of(found.worker) == pid


def _plain(config: Config) -> dict[str, str]:
    return {name: value for name, value in environment(config).items() if name != "CONTINUUM_CONFIG_DIR"}
