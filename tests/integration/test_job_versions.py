"""Job rows of other versions: what this one does not know is refused with that reason, what is missing has a default."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, Task

from continuum_tasks.errors import NewerFormat
from continuum_tasks.host.job_kinds import JOB_KINDS
from continuum_tasks.host.jobs import JobState, JsonValue
from continuum_tasks.tasks import shell
from tests.support.sandbox import Sandbox, back_up, make

NOW = datetime.now(UTC)


@pytest.fixture
def sandbox(tmp_path: Path) -> Sandbox:
    made = make(tmp_path / "h1")
    with closing(sqlite3.connect(made.database)) as connection:
        connection.executescript("CREATE TABLE t (n); INSERT INTO t VALUES (1)")
    return made


@pytest.fixture
def task(sandbox: Sandbox) -> Task[Any, Any]:
    app = Celery("versions", set_as_current=False)
    app.conf["continuum_config_directory"] = str(sandbox.directory)

    @app.task(name="versions.any", bind=True)
    def any_task(self: Task[Any, Any]) -> None:
        """Stand for the task that a message names."""

    return any_task


def done(sandbox: Sandbox, task: Task[Any, Any], kind: str, args: dict[str, JsonValue]) -> Any:
    """Do a row as a worker does, and return it as it then is."""
    with sandbox.runtime() as runtime:
        job = runtime.jobs.add(kind, args, now=NOW, database="main")
        try:
            shell.perform(task, job.id, kind=JOB_KINDS[kind])
        except NewerFormat as err:
            assert job.id in err.message
        return runtime.jobs.get(job.id)


def test_a_row_that_lacks_a_later_argument_is_done_with_its_default(sandbox: Sandbox, task: Task[Any, Any]) -> None:
    made = back_up(sandbox)
    row = done(sandbox, task, "verify_backup", {"backup_id": made.id, "storage": "local", "level": "objects"})
    assert row.state is JobState.DONE, row.error


def test_a_row_that_says_who_asked_is_done(sandbox: Sandbox, task: Task[Any, Any]) -> None:
    made = back_up(sandbox)
    args: dict[str, JsonValue] = {"backup_id": made.id, "storage": "local", "level": "objects", "asked_by": "somebody"}
    assert done(sandbox, task, "verify_backup", args).state is JobState.DONE


def test_a_row_with_an_argument_of_a_newer_version_is_refused_with_that_reason(sandbox: Sandbox, task: Task[Any, Any]) -> None:
    made = back_up(sandbox)
    args: dict[str, JsonValue] = {"backup_id": made.id, "storage": "local", "level": "objects", "only_tables": "t"}
    row = done(sandbox, task, "verify_backup", args)
    assert row.state is JobState.FAILED and row.attempts == 1
    assert row.error.name == "NewerFormat"
    assert row.error.message.endswith("verify_backup: its argument 'only_tables' was written by a newer version")
    assert "upgrade" in row.error.hint


def test_a_part_of_a_backup_with_a_field_of_a_newer_version_is_refused(sandbox: Sandbox, task: Task[Any, Any]) -> None:
    row = done(sandbox, task, "seal_chunk", {"staged_path": "/x", "wrapped_key": {"later": 1}})
    assert row.error.name == "NewerFormat" and "wrapped_key.later" in row.error.message
