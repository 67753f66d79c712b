"""Make tests/golden/v1 with the program of format 1. It was run once; what it made is kept and never made again.

    python -m tests.golden.make_v1 DIRECTORY

A later format gets a directory and a script of its own. The command line and the capturing process are the product's; the
databases are written, and every restored file is judged, by the standard library's sqlite3 in this process.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
HOUR_SECONDS = 3600
N_ROWS = 40
_JOBS = """
import json, sys
from datetime import UTC, datetime
from pathlib import Path
from continuum_tasks.errors import StorageUnreachable
from continuum_tasks.host.jobs import open_jobs
jobs, now = open_jobs(Path(sys.argv[1])), datetime.now(UTC)
backup = {"database": "main", "storage": "local", "backup_id": sys.argv[2]}
create = {"database": "main", "strategy": "full", "storage": "local"}
jobs.add("create_backup", create, now=now, id="job-queued", database="main")
jobs.add("verify_backup", {**backup, "level": "restore"}, now=now, id="job-running", database="main")
jobs.claim("job-running", "gone:1:1", lease_seconds=1, now=now)
jobs.add("create_backup", {"database": "main", "strategy": "incremental"}, now=now, id="job-done", database="main")
done = jobs.claim("job-done", "gone:1:1", lease_seconds=60, now=now)
jobs.note("job-done", "built on the last full")
jobs.finish("job-done", done.token, {"backup_id": sys.argv[2]}, now=now)
jobs.add("drill", backup, now=now, id="job-failed", database="main", max_attempts=1)
failed = jobs.claim("job-failed", "gone:1:1", lease_seconds=60, now=now)
jobs.fail("job-failed", failed.token, StorageUnreachable("storage local: away", hint="mount it"), retry=False, now=now)
jobs.beat("agent", "agent.h1", host="h1", now=now)
jobs.close()
"""


@dataclass(slots=True)
class Host:
    """One configured host under `directory`. `states` are the digests the database had, by the number of its last note."""

    directory: Path
    page_size: int
    encrypted: bool
    states: dict[int, str] = field(default_factory=dict)
    n: int = 0

    @property
    def database(self) -> Path:
        return self.directory / "main.db"

    @property
    def store(self) -> Path:
        return self.directory / "store"

    def environment(self) -> dict[str, str]:
        return {**os.environ, "CONTINUUM_CONFIG_DIR": str(self.directory), "CONTINUUM_LOCAL": "1", "PYTHONPATH": str(ROOT)}

    def continuum(self, *words: str, codes: tuple[int, ...] = (0,)) -> Any:
        command = [sys.executable, "-m", "continuum_tasks.cli", "backup", *words, "--format", "json"]
        done = subprocess.run(command, env=self.environment(), capture_output=True, text=True, check=False, timeout=300)
        if done.returncode not in codes:
            raise SystemExit(f"{words}: {done.returncode}: {done.stdout} {done.stderr}")
        return json.loads(done.stdout) if done.stdout else None

    def create(self, strategy: str) -> str:
        return str(self.continuum("create", "--strategy", strategy, "--force")["backup_id"])

    def write(self, n: int = 1, *, pause: float = 0) -> None:
        """Commit `n` notes, and remember what the database then held."""
        with closing(sqlite3.connect(self.database, isolation_level=None)) as connection:
            for _ in range(n):
                self.n += 1
                connection.execute("INSERT INTO notes (n, text) VALUES (?, ?)", (self.n, f"note {self.n} " + "x" * 40))
                self.states[self.n] = dump_digest(self.database)
                time.sleep(pause)

    @contextmanager
    def captured(self) -> Iterator[None]:
        """Capture every commit meanwhile; all of them are in the storage at the end."""
        self.configure(continuous=True)
        status = self.directory / "state" / "capture" / "main" / "status.json"
        status.unlink(missing_ok=True)
        n_backups = len(self.continuum("list"))
        with (self.directory / "capture.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "workers.capture"], env=self.environment(), stdout=log, stderr=log
            )
        try:
            wait_for(lambda: status.exists() and json.loads(status.read_text()).get("state") == "running")
            wait_for(lambda: len(self.continuum("list")) > n_backups)  # capture has its base made by itself
            yield
            time.sleep(4)
        finally:
            process.terminate()
            process.wait(timeout=60)
            self.configure(continuous=False)

    def configure(self, *, continuous: bool) -> None:
        encryption = "aes-256-gcm\nencryption_key_id = golden-v1" if self.encrypted else "none"
        (self.directory / "backup.conf").write_text(
            f"[continuum]\nhost = h1\nstate_dir = {self.directory}/state\nkeys_dir = {self.directory}/keys\n\n"
            f"[backup]\nencryption = {encryption}\n\n"
            f"[database:main]\npath = {self.database}\ncontinuous = {'yes' if continuous else 'no'}\n"
            "full_every = never\nincremental_every = never\nverify_every = never\n"
        )
        (self.directory / "storage.conf").write_text(f"[storage:local]\ntype = local\npath = {self.store}\n")
        (self.directory / "retention.conf").write_text("")


def dump_digest(path: Path) -> str:
    """Return the SHA-256 of all that a database holds, as its dump says it."""
    with closing(sqlite3.connect(path)) as connection:
        return hashlib.sha256("\n".join(connection.iterdump()).encode()).hexdigest()


def wait_for(claim: Any, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not claim():
        if time.monotonic() > deadline:
            raise SystemExit("waited in vain")
        time.sleep(0.1)


def make_host(directory: Path, *, page_size: int, encrypted: bool) -> Host:
    host = Host(directory=directory, page_size=page_size, encrypted=encrypted)
    directory.mkdir(parents=True)
    host.configure(continuous=False)
    if encrypted:
        words = ["import secrets, sys", "from datetime import UTC, datetime", "from pathlib import Path"]
        words += ["from continuum_tasks.keyring import generate_key"]
        words += ["generate_key(Path(sys.argv[1]), 'golden-v1', random_bytes=secrets.token_bytes, now=datetime.now(UTC))"]
        subprocess.run([sys.executable, "-c", "\n".join(words), str(directory / "keys")], env=host.environment(), check=True)
    with closing(sqlite3.connect(host.database, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA page_size = {page_size}")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE notes (n INTEGER PRIMARY KEY, text TEXT NOT NULL)")
        connection.execute("CREATE TABLE many (n INTEGER PRIMARY KEY)")
        connection.execute(
            "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 1200) INSERT INTO many SELECT n FROM c"
        )
    host.write(N_ROWS)
    return host


def make_backups(host: Host) -> dict[str, str]:
    """Make backups of each strategy, and each document that stands beside one."""
    full = host.create("full")
    host.write(2)
    differential = host.create("differential")
    host.write(2)
    incremental = host.create("incremental")
    host.write(1)
    second = host.create("incremental")
    host.continuum("verify", full, "--level", "restore")
    host.continuum("verify", incremental, "--level", "objects")
    host.continuum("verify", second, "--level", "restore")
    host.continuum("drill", second)
    host.continuum("hold", full, "--reason", "kept for ever")
    host.continuum("hold", differential, "--reason", "for a while")
    host.continuum("release", differential)
    return {"full": full, "differential": differential, "incremental": incremental, "second": second}


def make_suspect(host: Host) -> dict[str, str]:
    """Make a backup that has an anomaly, and accept it."""
    with closing(sqlite3.connect(host.database, isolation_level=None)) as connection:
        connection.execute("DELETE FROM many")
    suspect = host.create("incremental")
    host.continuum("accept", suspect, "--reason", "the rows were archived")
    return {"accepted": suspect}


def capture(host: Host) -> None:
    """Capture two timelines: one with a hole and merged segments, and one that begins with a restored commit."""
    with host.captured():
        host.write(3, pause=1.3)
        host.create("incremental")
        host.write(4, pause=1.3)
    host.write(2)
    with host.captured():
        host.write(4, pause=1.3)
    _age(host)
    host.continuum("compact")
    wanted = _history(host)[3]
    host.continuum(
        "restore",
        "--commit",
        str(wanted["number"]),
        "--timeline",
        wanted["timeline"],
        "--target",
        str(host.database),
        "--overwrite",
    )
    with host.captured():
        host.write(3, pause=1.3)


def _history(host: Host) -> list[dict[str, Any]]:
    found = host.continuum("history", "--limit", "1000", codes=(0, 8))
    return [one for one in found["commits"] if not one.get("resumed")] if found else []


def _age(host: Host) -> None:
    """Let the storage have got all but the newest segment some hours ago, so that they are merged."""
    now = time.time()
    for path in sorted(host.store.rglob("r-*.segment"))[:-1]:
        os.utime(path, (now - 3 * HOUR_SECONDS,) * 2)


def expected(host: Host, scratch: Path) -> dict[str, Any]:
    """Restore everything once and note what it holds. A commit must be one of the states that were seen."""
    backups, commits = {}, []
    for one in host.continuum("list"):
        name = str(one["backup_id"])
        host.continuum("restore", name, "--target", str(_free(scratch)))
        backups[name] = dump_digest(scratch)
    for one in _history(host):
        where = ["--commit", str(one["number"]), "--timeline", str(one["timeline"])]
        if host.continuum("restore", *where, "--target", str(_free(scratch)), codes=(0, 8)):
            digest = dump_digest(scratch)
            assert digest in host.states.values(), one
            commits.append({"timeline": one["timeline"], "number": one["number"], "digest": digest})
    return {"backups": backups, "commits": commits}


def _free(path: Path) -> Path:
    path.unlink(missing_ok=True)
    return path


def keep(host: Host, known: dict[str, Any], target: Path) -> None:
    """Copy what is kept: the storage, the keys, `metadata.db`, what capture keeps on its host, and the audit log."""
    target.mkdir(parents=True)
    shutil.copytree(host.store, target / "store", ignore=shutil.ignore_patterns("~incoming"))
    if host.encrypted:
        shutil.copytree(host.directory / "keys", target / "keys")
        metadata = host.directory / "state" / "metadata.db"
        with closing(sqlite3.connect(metadata)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        shutil.copyfile(metadata, target / "metadata.db")
        state = host.directory / "state"
        shutil.copyfile(state / "audit.log", target / "audit.log")
        shutil.copytree(state / "capture" / "main", target / "capture", ignore=shutil.ignore_patterns("*.log", "spool"))
        with closing(sqlite3.connect(host.database)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        shutil.copyfile(host.database, target / "main.db")
    (target / "expected.json").write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")


def main(directory: Path) -> None:
    for name, page_size in (("sealed", 512), ("plain", 1024)):
        host = make_host(directory / name, page_size=page_size, encrypted=name == "sealed")
        made = make_backups(host)
        capture(host)
        made |= make_suspect(host)
        host.continuum("reindex")
        subprocess.run(
            [sys.executable, "-c", _JOBS, str(directory / name / "state" / "metadata.db"), made["full"]],
            env=host.environment(),
            check=True,
        )
        known = {**expected(host, directory / "restored.db"), "made": made, "page_size": page_size}
        keep(host, known, Path(__file__).parent / "v1" / name)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
