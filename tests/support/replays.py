"""A small database, recorded commit by commit, and restored to any of them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from continuum_tasks.model import Backup, CommitRef
from continuum_tasks.restore import restore
from continuum_tasks.runtime import finish
from tests.support.recording import SECOND_US, Recorder, stand
from tests.support.sandbox import Sandbox, back_up

NOW_US = 1_795_600_000 * SECOND_US


def make_database(path: Path, *, page_size: int = 4096, auto_vacuum: int = 0) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            f"PRAGMA page_size={page_size}; PRAGMA auto_vacuum={auto_vacuum}; VACUUM;CREATE TABLE t (id INTEGER PRIMARY KEY, x)"
        )
        connection.executemany("INSERT INTO t VALUES (?, ?)", [(n, "x" * 200) for n in range(400)])
        connection.commit()


def open_recorder(sandbox: Sandbox, tmp_path: Path, *, now_us: int = NOW_US) -> Recorder:
    """Record the sandbox's database; its repository comes into being with a first backup, which stands nowhere."""
    back_up(sandbox)
    scratch = tmp_path / f"scratch-{now_us}"
    scratch.mkdir()
    with sandbox.runtime() as runtime:
        key_id = "" if sandbox.config.backup.encryption == "none" else sandbox.config.backup.encryption_key_id
        return Recorder(
            path=sandbox.database,
            repository=runtime.repository(),
            scratch=scratch,
            database="main",
            now_us=now_us,
            key_id=key_id,
        )


def base_at(sandbox: Sandbox, recorder: Recorder, *, commit: int | None = None, strategy: str = "full") -> Backup:
    """Back the database up as it is now, which is after the last commit; it may claim less."""
    made = back_up(sandbox, strategy)
    at = recorder.number if commit is None else commit
    with sandbox.runtime() as runtime:
        return stand(runtime, made, recorder.timeline.id, at, settled=recorder.number)


def restored(sandbox: Sandbox, recorder: Recorder, base: Backup, number: int, target: Path) -> restore.Restored:
    wanted = CommitRef(timeline=recorder.timeline.id, number=number)
    request = restore.RestoreRequest(backup_id=base.id, target=target, overwrite=True, verify=True, commit=wanted)
    with sandbox.runtime() as runtime:
        done: restore.Restored = finish(
            restore.restore_backup(
                request, repository=runtime.repository(), site=runtime.site, fan=runtime.fan(), check_lease=lambda: None
            )
        )
    return done
