"""What an idle host costs its storage: next to nothing."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from continuum_tasks import runtime as runtimes
from continuum_tasks.errors import StorageUnreachable
from continuum_tasks.findings import Severity
from continuum_tasks.health import health
from continuum_tasks.host.jobs import Job
from continuum_tasks.model import Position, TimelineId
from continuum_tasks.storage.open import open_storage
from continuum_tasks.tasks import periodic
from continuum_tasks.tasks.health import surroundings
from continuum_tasks.tasks.periodic import ASK_AFTER
from tests.support import sandbox as boxes
from tests.support.sandbox import Sandbox, back_up
from tests.support.statuses import TIMELINE, status, tell


class Counting:
    """A storage that counts what it is asked."""

    def __init__(self, inner: Any, asked: Counter[str]) -> None:
        self._inner = inner
        self._asked = asked

    def __getattr__(self, name: str) -> Any:
        self._asked[name] += 1
        return getattr(self._inner, name)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Return what tells how often storages were asked since it was last called."""
    counted: Counter[str] = Counter()
    monkeypatch.setattr(runtimes, "open_storage", lambda settings: Counting(open_storage(settings), counted))

    def count() -> int:
        n = counted.total()
        counted.clear()
        return n

    return count


@pytest.fixture
def sandbox(tmp_path: Path) -> Sandbox:
    made = boxes.make(tmp_path / "h1")
    conf = made.directory / "backup.conf"
    conf.write_text(conf.read_text().replace("incremental_every = never", "incremental_every = 1m") + "continuous = yes\n")
    connection = sqlite3.connect(made.database)
    connection.execute("CREATE TABLE t (x)")
    connection.commit()
    connection.close()
    return replace(made, config=boxes.load_config(made.directory))


def captured(sandbox: Sandbox) -> None:
    """Make it look captured, with a backup at the last commit and nothing committed since."""
    back_up(sandbox)
    with sandbox.runtime() as runtime:
        (one,) = runtime.catalog.backups()
        manifest = runtime.repository().read_manifest(one.database, one.id)
        position = Position(timeline=TimelineId(TIMELINE), commit=7, settled=7)
        runtime.catalog.add(replace(manifest, backup=replace(one, position=position)))
    now = datetime.now(UTC) + timedelta(minutes=1)  # as if the process went on while the test runs
    tell(sandbox.config.state_dir, status(now, database="main"), heard_at=now)


def test_the_timetable_asks_a_storage_once_an_hour_of_an_idle_captured_database(
    sandbox: Sandbox, asked: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten minutes of it: two health checks, ten looks at what is due and at recovery points, forty reconciliations."""
    captured(sandbox)
    app = Celery("control", set_as_current=False)
    app.conf["continuum_config_directory"] = str(sandbox.directory)

    def ring(_app: object, _config: object, job: Job) -> bool:
        assert job.kind == "apply_retention", "nothing is due but the run of the day, which is another matter"
        return True

    monkeypatch.setattr(periodic, "ring_row", ring)
    app.tasks[periodic.run_health_check.name]()
    assert asked() > 0
    app.tasks[periodic.schedule_due.name]()
    asked()

    for _ in range(2):
        app.tasks[periodic.run_health_check.name]()
    for _ in range(10):
        app.tasks[periodic.schedule_due.name]()
        app.tasks[periodic.rpo_watchdog.name]()
    for _ in range(4):
        app.tasks[periodic.reconcile.name]()
    app.tasks[periodic.retention_due.name]()
    app.tasks[periodic.measure_storages.name]()

    assert asked() == 0


def test_a_storage_is_asked_again_after_an_hour_and_at_once_by_the_command(sandbox: Sandbox, asked: Callable[[], int]) -> None:
    captured(sandbox)
    with sandbox.runtime() as runtime:
        around = replace(surroundings(runtime), ask_after=ASK_AFTER)
        health.check_health(around)
        asked()
        (line,) = [one for one in health.check_health(around).findings if one.subject == "storage local"]
        assert (asked(), line.severity, "ago" in line.text) == (0, Severity.OK, True)

        health.check_health(surroundings(runtime))
        assert asked() == 2  # who it is, and the manifest of the last backup

        later = replace(runtime.site.clock, now=lambda: datetime.now(UTC) + timedelta(hours=1))
        health.check_health(replace(around, site=replace(runtime.site, clock=later)))
        assert asked() == 2


@pytest.mark.parametrize("sign", ["job", "behind", "gone"])
def test_a_sign_of_trouble_has_it_asked_at_once_and_until_it_answers(
    sandbox: Sandbox, asked: Callable[[], int], sign: str
) -> None:
    captured(sandbox)
    with sandbox.runtime() as runtime:
        around = replace(surroundings(runtime), ask_after=ASK_AFTER)
        health.check_health(around)
        asked()
        now = datetime.now(UTC)
        if sign == "job":
            error = StorageUnreachable("storage local: no connection")
            runtime.jobs.note_failed("create_backup", {"storage": "local"}, error, database="main", now=now)
        elif sign == "behind":
            told = status(now - timedelta(minutes=2), database="main", commit=8)
            tell(sandbox.config.state_dir, told, heard_at=now)
        else:
            sandbox.store.rename(sandbox.store.with_name("away"))
        found = health.check_health(around)
        assert asked() > 0
        assert (found.severity is Severity.CRITICAL) is (sign == "gone")

        health.check_health(around)
        assert (asked() == 0) is (sign == "job")


def test_what_was_found_bad_is_looked_at_each_time(sandbox: Sandbox, asked: Callable[[], int]) -> None:
    captured(sandbox)
    boxes.objects(sandbox, "manifests/main/").popitem()[1].unlink()
    with sandbox.runtime() as runtime:
        around = replace(surroundings(runtime), ask_after=ASK_AFTER)
        for _ in range(2):
            assert health.check_health(around).severity is Severity.CRITICAL
            assert asked() > 0
