"""A whole small installation in one directory: configuration, keys, a database, a storage; and the actions on it."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from shutil import copytree

from continuum_tasks.backup import create
from continuum_tasks.config import Config, load_config
from continuum_tasks.host import reindex
from continuum_tasks.keyring import generate_key
from continuum_tasks.model import Backup, BackupId, Level, Strategy
from continuum_tasks.restore import restore
from continuum_tasks.runtime import Runtime, finish, open_runtime
from continuum_tasks.tasks.executor import backup_request
from continuum_tasks.verify import verify
from tests.support.processes import ROOT, environment

KEY_ID = "backup-key-v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sandbox:
    """One host. `store` may be shared with other hosts."""

    config: Config
    store: Path

    @property
    def directory(self) -> Path:
        return self.config.directory

    @property
    def database(self) -> Path:
        return self.config.database("").path

    @contextmanager
    def runtime(self) -> Iterator[Runtime]:
        with open_runtime(self.config) as runtime:
            yield runtime


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a sandbox differs from the usual one. `chunk_bytes` 64 KiB is the least: small databases then fan out."""

    host: str = "h1"
    encryption: str = "aes-256-gcm"
    chunk_bytes: str = "64K"
    codec: str = "zstd"
    check: str = "quick"
    busy_seconds: int = 2


def make(
    directory: Path, options: Options | None = None, *, store: Path | None = None, database: Path | None = None
) -> Sandbox:
    """Write the configuration of a host and its key; the database and the storage come into being when they are used."""
    o = options or Options()
    directory.mkdir(parents=True)
    where = store or directory / "store"
    (directory / "backup.conf").write_text(
        f"[continuum]\nhost = {o.host}\n\n[backup]\nencryption = {o.encryption}\nencryption_key_id = {KEY_ID}\n"
        f"chunk_bytes = {o.chunk_bytes}\ncompression_algorithm = {o.codec}\nlease_seconds = 5\n\n"
        "[workers]\nagent = 1\ntransfer = 2\n\n"
        f"[database:main]\npath = {database or directory / 'data' / 'memory.db'}\ncheck = {o.check}\n"
        f"busy_timeout = {o.busy_seconds}s\nbusy_window = 60s\n"  # how long a small copy takes is the machine's affair
        "full_every = never\nincremental_every = never\nverify_every = never\n"
    )
    (directory / "storage.conf").write_text(f"[storage:local]\ntype = local\npath = {where}\n")
    (directory / "retention.conf").write_text("")
    (directory / "data").mkdir()
    config = load_config(directory)
    if o.encryption != "none":
        generate_key(config.keys_dir, KEY_ID, random_bytes=secrets.token_bytes, now=datetime.now(UTC))
    return Sandbox(config=config, store=where)


def another_host(sandbox: Sandbox, directory: Path, options: Options | None = None, *, keys: bool = True) -> Sandbox:
    """Make a host that has nothing but the storage, and, unless told otherwise, the keys."""
    other = make(directory, options or Options(host="h2", encryption=sandbox.config.backup.encryption), store=sandbox.store)
    for path in other.config.keys_dir.glob("*.key"):
        path.unlink()
    if keys and sandbox.config.keys_dir.is_dir():
        copytree(sandbox.config.keys_dir, other.config.keys_dir, dirs_exist_ok=True)
    return other


def back_up(sandbox: Sandbox, strategy: str = "full") -> Backup:
    return back_up_finished(sandbox, strategy).backup


def back_up_finished(sandbox: Sandbox, strategy: str) -> create.Finished:
    with sandbox.runtime() as runtime:
        request = backup_request(runtime, database="", strategy=Strategy(strategy))
        done: create.Finished = finish(
            create.create_backup(
                request,
                repository=runtime.repository(request.database.storage),
                site=runtime.site,
                fan=runtime.fan(),
                check_lease=lambda: None,
            )
        )
    return done


def restore_to(
    sandbox: Sandbox, backup_id: str, target: Path, *, overwrite: bool = False, check: bool = False
) -> restore.Restored:
    with sandbox.runtime() as runtime:
        request = restore.RestoreRequest(backup_id=BackupId(backup_id), target=target, overwrite=overwrite, verify=check)
        done: restore.Restored = finish(
            restore.restore_backup(
                request, repository=runtime.repository(), site=runtime.site, fan=runtime.fan(), check_lease=lambda: None
            )
        )
    return done


def verified(sandbox: Sandbox, backup_id: str, level: Level = Level.RESTORE) -> verify.Verified:
    with sandbox.runtime() as runtime:
        request = verify.VerifyRequest(backup_id=BackupId(backup_id), level=level)
        done: verify.Verified = finish(
            verify.verify_backup_chain(request, repository=runtime.repository(), site=runtime.site, fan=runtime.fan())
        )
    return done


def listed(sandbox: Sandbox) -> tuple[Backup, ...]:
    """Return what the storage's manifests say there is, newest first. A damaged document fails the test."""
    with sandbox.runtime() as runtime:
        found = reindex.reindex_storage(runtime.repository(), site=runtime.site)
    assert found.damaged == ()
    return found.backups


def objects(sandbox: Sandbox, prefix: str = "") -> dict[str, Path]:
    """Return the files of the stored objects by key."""
    files = [path for path in sandbox.store.rglob("*") if path.is_file() and "~incoming" not in path.parts]
    named = {str(path.relative_to(sandbox.store)): path for path in files}
    return {key: named[key] for key in sorted(named) if key.startswith(prefix)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How an action in another process ended: `result` when it worked, else the class and message of its error."""

    code: int
    result: dict[str, str]
    error: str
    message: str


def start(sandbox: Sandbox, *arguments: object, failpoints: str = "") -> subprocess.Popen[str]:
    """Start `backup STRATEGY` or `restore ID TARGET` in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.support.act", str(sandbox.directory), *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment(sandbox.config, CONTINUUM_FAILPOINTS=failpoints),
    )


def outcome(process: subprocess.Popen[str]) -> Outcome:
    """Wait for it and read how it ended."""
    out, _ = process.communicate(timeout=180)
    said = json.loads(out) if out else {}
    return Outcome(
        code=process.returncode, result=said.get("result", {}), error=said.get("error", ""), message=said.get("message", "")
    )


def age(directory: Path, *, seconds: float) -> None:
    """Make everything under a directory look that much older, as if the time had passed."""
    for path in directory.rglob("*"):
        at = path.lstat().st_mtime - seconds
        os.utime(path, (at, at), follow_symlinks=False)
