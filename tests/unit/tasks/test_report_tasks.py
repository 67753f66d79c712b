"""The tasks behind the weekly page and the hourly measurements, run as a control worker's process runs them."""

from __future__ import annotations

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from celery import Celery

from continuum_tasks.host import routing
from continuum_tasks.host.metrics import open_metrics
from continuum_tasks.report.html.document import BEGIN
from continuum_tasks.tasks import periodic


@pytest.fixture
def app(tmp_path: Path) -> Celery:
    (tmp_path / "backup.conf").write_text(f"[continuum]\nhost = h1\n\n[database:main]\npath = {tmp_path}/memory.db\n")
    (tmp_path / "storage.conf").write_text(f"[storage:local]\ntype = local\npath = {tmp_path}/store\n")
    (tmp_path / "retention.conf").write_text("")
    found = Celery("control", set_as_current=False)
    found.conf["continuum_config_directory"] = str(tmp_path)
    return found


def test_the_week_s_page_is_written_under_its_iso_week_and_written_again_in_place(app: Celery, tmp_path: Path) -> None:
    task = app.tasks[periodic.write_report.name]
    paths = {task(), task()}
    now = datetime.now(UTC)
    assert paths <= {str(tmp_path / f"state/reports/{at:%G-W%V}.html") for at in (now, now - timedelta(minutes=1))}
    page = Path(paths.pop())
    assert page.read_text(encoding="utf-8").startswith(BEGIN)
    assert (stat.S_IMODE(page.stat().st_mode), stat.S_IMODE(page.parent.stat().st_mode)) == (0o600, 0o700)
    assert task.name == routing.WRITE_REPORT


def test_storages_are_measured_and_measurements_of_last_year_forgotten(app: Celery, tmp_path: Path) -> None:
    metrics = open_metrics(tmp_path / "state/metadata.db")
    for days in (365, 99):
        metrics.record("storage_used_bytes", days, at=datetime.now(UTC) - timedelta(days=days), labels={"storage": "local"})
    app.tasks[periodic.measure_storages.name]()
    assert [sample.value for sample in metrics.series("storage_used_bytes")] == [99, 0]
    assert len(metrics.series("storage_free_bytes")) == 1
    metrics.close()


def test_of_what_is_measured_each_minute_the_greatest_of_an_hour_stays_after_two_days(app: Celery, tmp_path: Path) -> None:
    metrics = open_metrics(tmp_path / "state/metadata.db")
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    for days in (3, 1):
        for minute, value in enumerate((5, 9, 7)):
            at = hour - timedelta(days=days) + timedelta(minutes=minute)
            for name, labels in (("a", {"database": "a"}), ("b", {"database": "b"})):
                metrics.record("capture_wal_bytes", value + (name == "b"), at=at, labels=labels)
            metrics.record("backup_stored_bytes", value, at=at, labels={})
    app.tasks[periodic.measure_storages.name]()

    assert [one.value for one in metrics.series("backup_stored_bytes")] == [5, 9, 7, 5, 9, 7]
    kept = [(one.labels["database"], one.value) for one in metrics.series("capture_wal_bytes")]
    assert sorted(kept) == [*(("a", v) for v in (5, 7, 9, 9)), *(("b", v) for v in (6, 8, 10, 10))]
    assert metrics.series("capture_wal_bytes")[0].at == hour - timedelta(days=3) + timedelta(minutes=1)
    metrics.close()
