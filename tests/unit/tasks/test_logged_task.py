"""What a task that fails leaves in the log: a line for what is documented, a traceback for a defect alone."""

from __future__ import annotations

import logging

import pytest
from celery import Celery

from continuum_tasks.errors import TargetExists
from continuum_tasks.tasks.shell import LoggedTask


def log_of(error: Exception, caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    app = Celery("logged", task_cls=LoggedTask, set_as_current=False)
    app.conf.task_store_eager_result = False

    @app.task(name="continuum.restore_backup")
    def fail(job_id: str) -> None:
        raise error

    with caplog.at_level(logging.WARNING):
        fail.apply(("j1",))
    return caplog.records


def test_an_error_of_ours_is_one_line_with_its_hint(caplog: pytest.LogCaptureFixture) -> None:
    records = log_of(TargetExists("/x/memory.db: exists", hint="give --overwrite"), caplog)

    assert [(record.levelname, record.getMessage()) for record in records] == [
        ("ERROR", "restore_backup j1: TargetExists: /x/memory.db: exists (give --overwrite)")
    ]
    assert not records[0].exc_info


def test_a_defect_keeps_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    records = log_of(ZeroDivisionError("no"), caplog)

    assert [record.levelname for record in records] == ["ERROR"]
    assert records[0].exc_info and "ZeroDivisionError" in records[0].getMessage()
