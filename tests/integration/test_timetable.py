"""The tasks that keep the rows, and what a message may make of itself: called in this process, with a broker in memory."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from continuum_tasks.config import load_config
from continuum_tasks.errors import StorageError
from continuum_tasks.host import job_kinds, routing
from continuum_tasks.host.jobs import Job, JobState
from continuum_tasks.model import Backup, Level
from continuum_tasks.runtime import Runtime, open_runtime
from continuum_tasks.schedule import queue_due, reconcile
from continuum_tasks.schedule.plan.schedule import Due
from tests.integration import beside as b
from tests.integration.beside import Shape, beside
from tests.support.sandbox import Options, Sandbox, another_host, back_up, make, verified
from workers import settings

LOST = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


@pytest.fixture
def one(tmp_path: Path) -> Sandbox:
    sandbox = make(tmp_path / "one")
    beside(b.create, sandbox.database, Shape(journal="wal", page_size=4096), seed=1)
    return sandbox


@pytest.fixture
def made(one: Sandbox) -> Backup:
    return back_up(one)


@pytest.fixture
def runtime(one: Sandbox) -> Iterator[Runtime]:
    with one.runtime() as opened:
        yield opened


def worker_app(sandbox: Sandbox) -> Celery:
    app = Celery("timetable", set_as_current=False)
    app.conf.update(
        broker_url="memory://", result_backend=None, include=settings.TASK_MODULES, continuum_config_directory=sandbox.directory
    )
    app.loader.import_default_modules()
    return app


def deliver(sandbox: Sandbox, task: str, *words: object, **arguments: Any) -> Any:
    """Do what a worker of that host does with one message."""
    with worker_app(sandbox) as app:
        return app.tasks[task](*words, **arguments)


def message(backup: Backup, **changes: str) -> dict[str, str]:
    return {"backup_id": backup.id, "level": "objects", "storage": "local", **changes}


def row(runtime: Runtime, job_id: str) -> Job:
    found = runtime.jobs.get(job_id)
    assert found is not None
    return found


def asked_for(runtime: Runtime, backup: Backup, job_id: str, *, storage: str = "local") -> None:
    """Queue a verification that was rung long ago, and of which nothing was heard since."""
    args = message(backup, storage=storage)
    runtime.jobs.add("verify_backup", args, id=job_id, database=backup.database, now=backup.created_at)
    runtime.jobs.mark_rung([job_id], now=datetime.now(UTC) - timedelta(minutes=1))


def forget_ring(runtime: Runtime, job_id: str) -> None:
    runtime.jobs.mark_rung([job_id], now=datetime.now(UTC) - 2 * reconcile.RING_ANYWHERE_AGAIN_AFTER)


@pytest.mark.parametrize(
    "job_id",
    [
        *("due-full-main-202611231200", "due-incremental-main-202611231200", "restore", "", "job-1", "job-0123456789ABCDEF"),
        *(
            "job-0123456789abcdef\n",
            "job-0123456789abcdef.1.seal_chunk.0",
            "due-verify-main-\u0662\u0660\u0662\u066611231200",
            "due-verify--1",
        ),
    ],
)
def test_a_message_makes_no_row_under_an_id_of_other_work(
    one: Sandbox, made: Backup, runtime: Runtime, job_id: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert deliver(one, job_kinds.VERIFY_BACKUP.task, job_id, **message(made)) is None
    assert "not the id of a verification" in caplog.text
    assert runtime.jobs.get(job_id) is None
    assert runtime.jobs.unfinished() == ()


@pytest.mark.parametrize("job_id", ["job-0123456789abcdef", "due-verify-my_memory-2-202611231200"])
def test_a_machine_that_helps_does_a_verification_without_its_row_and_the_asking_host_finds_the_verdict(
    one: Sandbox, made: Backup, runtime: Runtime, tmp_path: Path, job_id: str
) -> None:
    asked_for(runtime, made, job_id)
    helper = another_host(one, tmp_path / "helper", Options(host="h1"))

    assert deliver(helper, job_kinds.VERIFY_BACKUP.task, job_id, **message(made))["attestation"]["passed"] is True
    assert row(runtime, job_id).state is JobState.QUEUED
    deliver(one, routing.RECONCILE)

    ended = row(runtime, job_id)
    assert ended.state is JobState.DONE and isinstance(ended.result, dict)
    assert ended.result["backup"] == {**ended.result["backup"], "id": made.id}  # type: ignore[dict-item]


def test_a_row_whose_id_was_taken_by_other_work_is_queued_under_another(
    one: Sandbox, made: Backup, runtime: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    forged = "due-verify-main-202611231200"
    runtime.jobs.add("verify_backup", message(made), id=forged, now=LOST)
    runtime.jobs.add("verify_backup", message(made), id="due-full-main-202611231200", now=LOST)
    database = one.config.database("main")

    verification = Due(kind=job_kinds.VERIFY_BACKUP, backup=made, reason="")
    for due in (verification, Due(kind=job_kinds.CREATE_BACKUP, strategy=made.strategy, reason="")):
        with caplog.at_level(logging.WARNING):
            added = queue_due._add(runtime, database, due, now=LOST)
        assert added.id.startswith("job-") and "is taken by other work" in caplog.text
        assert (added.database, added.state) == ("main", JobState.QUEUED)
        assert added.kind == due.kind.word
        assert added.args.get("level", "restore") == "restore"


def test_what_is_due_twice_in_a_minute_is_one_row(one: Sandbox, made: Backup, runtime: Runtime) -> None:
    due = Due(kind=job_kinds.CREATE_BACKUP, strategy=made.strategy, reason="")
    added = [queue_due._add(runtime, one.config.database("main"), due, now=LOST).id for _ in range(2)]
    assert added == ["due-full-main-202611231200"] * 2


def test_a_row_that_nothing_can_be_found_out_about_does_not_hold_up_the_rows_behind_it(
    one: Sandbox, made: Backup, runtime: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    asked_for(runtime, made, "a-storage-that-is-no-longer-declared", storage="gone")
    asked_for(runtime, made, "b-verified-elsewhere")
    runtime.jobs.add("of_a_newer_version", {}, id="c", now=LOST)
    runtime.jobs.add("create_backup", {}, id="d", now=datetime.now(UTC))
    verified(one, made.id, level=Level.OBJECTS)

    with caplog.at_level(logging.WARNING):
        deliver(one, routing.RECONCILE)

    assert "job a-storage-that-is-no-longer-declared: cannot look for a verdict: " in caplog.text
    assert "job c: nobody does of_a_newer_version here" in caplog.text
    assert row(runtime, "b-verified-elsewhere").state is JobState.DONE
    assert row(runtime, "d").rung_at is not None


def test_a_row_that_nothing_can_be_found_out_about_is_rung_again_so_that_it_ends(
    one: Sandbox, made: Backup, runtime: Runtime
) -> None:
    asked_for(runtime, made, "job-0123456789abcdef", storage="gone")
    forget_ring(runtime, "job-0123456789abcdef")
    before = datetime.now(UTC)
    deliver(one, routing.RECONCILE)
    rung_at = row(runtime, "job-0123456789abcdef").rung_at
    assert rung_at is not None and rung_at >= before


def test_a_row_is_not_settled_by_looking_into_a_catalog_that_was_lost(
    one: Sandbox, made: Backup, runtime: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    """The row names its database, so nothing but the storage is asked while there is no verdict."""
    asked_for(runtime, made, "job-0123456789abcdef")
    runtime.catalog.forget("local", made.id)
    with caplog.at_level(logging.WARNING):
        deliver(one, routing.RECONCILE)
    assert "cannot look for a verdict" not in caplog.text


def test_hosts_with_different_storages_of_one_name_do_not_verify_for_each_other(one: Sandbox) -> None:
    with open_runtime(replace(load_config(one.directory), host="h2")) as other:
        queue = job_kinds.VERIFY_BACKUP.queue(other.config.host)
    assert queue not in {found.name for found in settings.queues(one.config.host)}


def test_a_storage_that_never_answered_keeps_neither_retention_nor_measurement_of_the_others_from_their_turn(
    one: Sandbox, made: Backup, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a second storage was declared with a wrong password, and the disk of the first fills up."""
    conf = one.directory / "storage.conf"
    away = "[storage:away]\ntype = s3\nbucket = nobody\nendpoint = http://127.0.0.1:1\nregion = us-east-1\n"
    conf.write_text(f"{conf.read_text()}\n{away}\n[storages]\ndefault = local\n")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "k")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")

    for task in (routing.RETENTION_DUE, routing.MEASURE_STORAGES):
        with pytest.raises(StorageError, match="away"):
            deliver(one, task)

    assert [(job.kind, job.args["storage"]) for job in runtime.jobs.unfinished()] == [("apply_retention", "local")]
    measured = {sample.labels["storage"]: sample.value for sample in runtime.site.metrics.series("storage_used_bytes")}
    assert measured["local"] == made.stored_size_bytes
