"""The product on one small host: its configuration, its capturing process, its command line, and what it has stored.

The command line runs in processes of their own: the tests look at restored files with the standard library's sqlite3.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from continuum_tasks.config import Config, load_config
from continuum_tasks.errors import BackupNotFound
from continuum_tasks.keyring import generate_key
from continuum_tasks.sample import oracle
from tests.capture import crew
from tests.capture.agent import Agent
from tests.capture.verdict import Seen
from tests.support.cli import Done, command
from tests.support.processes import ROOT, environment, until

KEY_ID = "backup-key-v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """One captured commit as the segments in the storage have it; `n` is the workload's number in its page 1.

    `key` names the segment.
    """

    timeline: str
    number: int
    n: int
    resumed: bool
    observed_us: int
    unseen_us: int
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """A configured host; every database of it is captured when its capturing process runs."""

    config: Config

    @property
    def database(self) -> Path:
        return self.config.database("").path

    @property
    def store(self) -> Path:
        return self.config.directory / "store"

    def continuum(self, *arguments: object) -> Done:
        """Run `continuum ARGUMENTS`."""
        return command(self, *arguments, CONTINUUM_LOCAL="1")

    def status(self, database: str = "main") -> dict[str, Any]:
        """Return what the capturing process last wrote about a database, empty before that."""
        path = self.config.state_dir / "capture" / database / "status.json"
        try:
            found: dict[str, Any] = json.loads(path.read_text())
        except FileNotFoundError:
            return {}
        return found

    def stored(self, database: str = "main") -> list[Stored]:
        """Return every commit in the storage, timeline after timeline, read from its segments."""
        words = [sys.executable, "-m", "tests.capture.stored", str(self.config.directory), database]
        done = subprocess.run(
            words, capture_output=True, text=True, cwd=ROOT, env=environment(self.config), check=False, timeout=600
        )
        assert done.returncode == 0, done.stderr
        return [Stored(**json.loads(line)) for line in done.stdout.splitlines()]

    @contextmanager
    def captured(self, *, module: str = "workers.capture", seed: int = 1) -> Iterator[Agent]:
        """Run the capturing process; killed at the end if the test has not ended it."""

        def start() -> subprocess.Popen[bytes]:
            self._forget_pid()
            with (self.config.directory / "capture.log").open("ab") as log:
                return subprocess.Popen(
                    [sys.executable, "-m", module], stdout=log, stderr=log, cwd=ROOT, env=environment(self.config)
                )

        agent = Agent(start, lambda: self.status().get("state") == "running", seed=seed)
        try:
            agent.wait_ready()
            yield agent
        finally:
            agent.kill()
            print(self.log()[-4000:])  # shown by a test that fails

    def _forget_pid(self) -> None:
        """Note nothing of a killed process: a status of `running` is then the new one's."""
        path = self.config.state_dir / "capture" / "main" / "status.json"
        if path.exists():
            path.write_text(path.read_text().replace('"running"', '"stopped"'))

    def log(self) -> str:
        return (self.config.directory / "capture.log").read_text()

    def hashes_at(self, commits: Sequence[tuple[str, int]], target: Path) -> Iterator[str]:
        """Restore each (timeline, commit number) by the command line in one process; yield the logical hash of each.

        Empty for one that is refused because no backup stands between it and the hole before it.
        """
        words = [sys.executable, "-m", "tests.capture.restores"]
        with subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=environment(self.config, CONTINUUM_LOCAL="1"),
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            for timeline, number in commits:
                process.stdin.write(f"{timeline} {number} {target}\n")
                process.stdin.flush()
                answer = process.stdout.readline().strip()
                assert answer in ("0", str(BackupNotFound.exit_code)), f"commit {number} of {timeline}: {answer}"
                yield oracle.logical_hash(target).sha256 if answer == "0" else ""
                target.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a host differs from the usual one."""

    host: str = "h1"
    page_size: int = 4096
    capture: str = ""
    n_databases: int = 1


def make(directory: Path, options: Options | None = None) -> Host:
    """Configure a host with the workload's database in it, named main; the others are db1, db2 and so on."""
    o = options or Options()
    directory.mkdir(parents=True)
    (directory / "data").mkdir()
    names = ["main", *(f"db{number}" for number in range(1, o.n_databases))]
    sections = "".join(
        f"[database:{name}]\npath = {directory}/data/{name}.db\ncontinuous = yes\ncount_rows = no\n"
        "full_every = never\nincremental_every = never\nverify_every = never\n\n"
        for name in names
    )
    (directory / "backup.conf").write_text(
        f"[continuum]\nhost = {o.host}\n\n[backup]\nencryption = aes-256-gcm\nencryption_key_id = {KEY_ID}\n\n"
        f"[capture]\n{o.capture}\n\n{sections}"
    )
    (directory / "storage.conf").write_text(f"[storage:local]\ntype = local\npath = {directory}/store\n")
    (directory / "retention.conf").write_text("")
    config = load_config(directory)
    generate_key(config.keys_dir, KEY_ID, random_bytes=secrets.token_bytes, now=datetime.now(UTC))
    for name in names:
        crew.create(directory / "data" / f"{name}.db", o.page_size)
    return Host(config=config)


def await_captured(host: Host, n: int, *, seconds: float = 180.0, not_on: str = "") -> list[Stored]:
    """Wait until the workload's commit n is in the storage, on another timeline than `not_on`; return all that is there."""
    looked_at: frozenset[Path] = frozenset()
    stored: list[Stored] = []

    def there() -> bool:
        nonlocal looked_at, stored
        segments = frozenset(host.store.rglob("*.segment"))
        if segments != looked_at:
            looked_at, stored = segments, host.stored()
        return any(one.n == n and one.timeline != not_on for one in stored)

    assert until(there, seconds=seconds), [one.n for one in stored]
    return stored


def as_seen(stored: Sequence[Stored]) -> list[Seen]:
    """Number the commits of all timelines through; a timeline's first one ends a hole like any resumed one."""
    return [Seen(number=at, n=one.n, resumed=one.resumed) for at, one in enumerate(stored, 1)]


def await_base(host: Host) -> None:
    """Wait until a backup of a commit not before the last hole is made, as capture has it done by itself."""

    def made() -> bool:
        positions = [one.get("position") for one in host.continuum("backup", "list", "--format", "json").ok().json]
        resumed = [one for one in host.stored() if one.resumed]
        return bool(resumed) and any(
            position and (position["timeline"], position["commit"]) >= (resumed[-1].timeline, resumed[-1].number)
            for position in positions
        )

    log = host.config.state_dir / "capture" / "main" / "follow-up.log"
    assert until(made), (host.status(), log.read_text() if log.exists() else "no backup was requested")


def cpu_seconds(pid: int) -> float:
    """Return the processor time (seconds) a process and its children of now have used."""
    total = 0.0
    for path in [Path(f"/proc/{pid}/stat"), *_children(pid)]:
        fields = path.read_text().rpartition(")")[2].split()
        total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


def _children(pid: int) -> list[Path]:
    words = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [Path(f"/proc/{word}/stat") for word in words]
