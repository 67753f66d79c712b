"""`report`, `storage-usage` and `metrics`, and what the actions measure, through the command line."""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from xml.etree import ElementTree

import pytest

from continuum_tasks.capture.state import holes
from continuum_tasks.capture.state.environment import CAPTURE, make_private_directory
from continuum_tasks.config import load_config
from continuum_tasks.errors import NoSpace, SourceBusy
from continuum_tasks.history.timeline import Hole
from continuum_tasks.host import measure as measure_action
from continuum_tasks.host.jobs import open_jobs
from continuum_tasks.host.metrics import Metrics, open_metrics
from continuum_tasks.report.html.document import BEGIN
from continuum_tasks.report.plan.trend import BLOCKS
from continuum_tasks.runtime import open_runtime
from continuum_tasks.sample.change import change
from continuum_tasks.units import microseconds
from tests.unit.cli.conftest import Call


def measured(site: Path, name: str) -> list[tuple[float, dict[str, str]]]:
    metrics = open_metrics(site / "etc/state/metadata.db")
    try:
        return [(sample.value, dict(sample.labels)) for sample in metrics.series(name)]
    finally:
        metrics.close()


def measure(site: Path, name: str, *values: float, every: timedelta = timedelta(days=1)) -> None:
    metrics = open_metrics(site / "etc/state/metadata.db")
    for i, value in enumerate(values):
        metrics.record(name, value, at=datetime.now(UTC) - every * (len(values) - i), labels={"storage": "local"})
    metrics.close()


def fail_a_job(site: Path) -> None:
    jobs, now = open_jobs(site / "etc/state/metadata.db"), datetime.now(UTC)
    job = jobs.add("create_backup", {}, now=now, database="memory", max_attempts=1)
    claimed = jobs.claim(job.id, "h1:1:1", lease_seconds=60, now=now)
    assert claimed is not None
    jobs.fail(job.id, claimed.token, SourceBusy("database memory: <locked>", hint="wait"), retry=False, now=now)
    jobs.close()


def test_create_and_verify_measure_what_they_did(call: Call, site: Path, full: str) -> None:
    change(site / "memory.db", fraction=0.01, seed=7)
    made = call("backup", "create", "--strategy", "incremental", "--format", "json").json
    call("backup", "verify", full)
    labels = {"database": "memory", "strategy": "incremental", "storage": "local"}
    changed, same = measured(site, "backup_changed_pages_ratio")[1]
    assert same == labels and changed == pytest.approx(made["layer_size_bytes"] / made["original_size_bytes"])
    assert 0 < changed < 1 and measured(site, "backup_changed_pages_ratio")[0][0] == 1
    assert measured(site, "backup_size_bytes")[1] == (made["original_size_bytes"], labels)
    assert measured(site, "backup_stored_bytes")[1] == (made["stored_size_bytes"], labels)
    assert measured(site, "backup_compression_ratio")[1] == (made["compression_ratio"], labels)
    assert measured(site, "backup_duration_seconds")[1][0] > 0
    ((seconds, verified),) = measured(site, "verify_duration_seconds")
    assert seconds >= 0 and verified["strategy"] == "full"


def test_restore_measures_what_it_fetched(call: Call, site: Path, full: str) -> None:
    done = call("backup", "restore", full, "--target", "out.db", "--format", "json").json
    assert measured(site, "restore_fetched_bytes")[0][0] == done["fetched_bytes"]
    assert measured(site, "restore_duration_seconds")[0][0] == done["seconds"]


def test_a_measurement_that_cannot_be_kept_fails_no_backup(call: Call, site: Path, full: str) -> None:
    """A full disk, for a while, right after the backup was committed."""

    class Full(Metrics):
        def record(self, name: str, value: float, *, at: datetime, labels: Mapping[str, str]) -> None:
            raise NoSpace("metadata.db: no space left")

    metrics = open_metrics(site / "etc/state/metadata.db")
    with open_runtime(load_config(site / "etc")) as runtime:
        broken = replace(runtime.site, metrics=Full(metrics._metadata))
        measure_action.measure_backup(runtime.catalog.find(full), 1.0, site=broken)
    metrics.close()
    assert len(measured(site, "backup_duration_seconds")) == 1


def test_metrics_shows_each_series_with_its_trend(call: Call, site: Path) -> None:
    measure(site, "storage_used_bytes", *(1024.0 * n for n in (4, 1, 2, 9)))
    done = call("backup", "metrics", "storage_used_bytes")
    (row,) = [line for line in done.out.splitlines() if line.startswith("local ")]
    assert re.findall(r"\d+\.\d KiB", row) == ["9.0 KiB", "1.0 KiB", "3.0 KiB", "9.0 KiB"]
    assert row.endswith(f"▄▁▂{BLOCKS[-1]}")
    (series,) = call("backup", "metrics", "--format", "json").json
    assert {key: series[key] for key in ("name", "labels", "n", "last", "min", "median", "max")} == {
        **{"name": "storage_used_bytes", "labels": {"storage": "local"}, "n": 4},
        **{"last": 9216.0, "min": 1024.0, "median": 3072.0, "max": 9216.0},
    }
    assert len(series["samples"]) == 4


def test_metrics_since_leaves_older_measurements_out(call: Call, site: Path) -> None:
    measure(site, "storage_used_bytes", 1.0, 2.0, 3.0)
    assert call("backup", "metrics", "--since", "36h", "--format", "json").json[0]["n"] == 1
    assert call("backup", "metrics", "--since", "1h").out.startswith("nothing measured since")
    assert call("backup", "metrics", "--since", "1h", "--format", "json").json == []


def test_metrics_for_prometheus_are_the_newest_values_in_its_text_format(call: Call, site: Path, full: str) -> None:
    measure(site, "storage_used_bytes", 5.0, 7.0)
    lines = call("backup", "metrics", "--prometheus").out.splitlines()
    assert 'storage_used_bytes{storage="local"} 7.0' in lines
    assert not [line for line in lines if line.endswith(" 5.0") and line.startswith("storage_used")]
    sample = re.compile(r'[a-z_]+\{[a-z]+="[^"\\]*"(,[a-z]+="[^"\\]*")*\} [0-9.e+-]+')
    for line in lines:
        assert line.startswith(("# HELP ", "# TYPE ")) or sample.fullmatch(line), line
    assert len([line for line in lines if line.startswith("# TYPE")]) == len({l.split("{")[0] for l in lines if l[0] != "#"})  # noqa: E741


def test_values_for_prometheus_carry_their_age_and_a_recovery_point_grows_old_with_nobody_there(
    call: Call, site: Path, full: str
) -> None:
    """What the watchdog kept last, before everything stopped, is not what holds now."""
    metrics, then = open_metrics(site / "etc/state/metadata.db"), datetime.now(UTC) - timedelta(minutes=5)
    for name, value in {"backup_rpo_seconds": 0.0, "capture_down": 0.0, "capture_wal_bytes": 4096.0}.items():
        metrics.record(name, value, at=then, labels={"database": "memory", "storage": "local"})
    metrics.record("storage_used_bytes", 7.0, at=then, labels={"storage": "local"})
    metrics.close()

    def shown() -> dict[str, float]:
        lines = call("backup", "metrics", "--prometheus").out.splitlines()
        return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}

    name = 'backup_rpo_seconds{database="memory",storage="local"}'
    first = shown()
    time.sleep(1.1)
    second = shown()
    assert second[name] >= first[name] + 1  # whole seconds
    assert not [name for name in second if name.startswith("capture_wal")]
    assert second['storage_used_bytes_timestamp_seconds{storage="local"}'] == pytest.approx(then.timestamp(), abs=0.001)
    at = name.replace("seconds{", "seconds_timestamp_seconds{")
    assert then.timestamp() < first[at] < second[at]


def test_labels_are_escaped_for_prometheus(call: Call, site: Path) -> None:
    metrics = open_metrics(site / "etc/state/metadata.db")
    metrics.record("storage_used_bytes", 1.0, at=datetime.now(UTC), labels={"storage": 'a"b\\c\nd'})
    metrics.record("storage_free_bytes", 2.0, at=datetime.now(UTC), labels={})
    metrics.close()
    out = call("backup", "metrics", "--prometheus").out
    assert 'storage_used_bytes{storage="a\\"b\\\\c\\nd"} 1.0' in out and "\nstorage_free_bytes 2.0" in out


def test_metrics_refuses_what_is_not_measured_and_what_excludes_itself(call: Call, site: Path) -> None:
    unknown = call("backup", "metrics", "backup_duration")
    assert unknown.code == 2 and "did you mean backup_duration_seconds?" in unknown.err
    assert "there are: backup_duration_seconds" in call("backup", "metrics", "zzz").err
    assert call("backup", "metrics", "--prometheus", "--format", "json").code == 2
    assert call("backup", "metrics", "--since", "yesterday").code == 2


def test_storage_usage_adds_up_the_catalog_and_keeps_the_sums(call: Call, site: Path, full: str) -> None:
    call("backup", "create", "--strategy", "incremental")
    listed = call("backup", "list", "--format", "json").json
    (usage,) = call("backup", "storage-usage", "--format", "json").json
    assert usage["used_bytes"] == sum(backup["stored_size_bytes"] for backup in listed)
    assert (usage["storage"], usage["n_backups"], usage["growth_bytes_per_day"]) == ("local", 2, None)
    assert usage["free_bytes"] > 0 and usage["fills_at"] is None and usage["growth_from"] == "catalog"
    assert [(s["database"], s["strategy"], s["n_backups"]) for s in usage["shares"]] == [
        ("memory", "full", 1),
        ("memory", "incremental", 1),
    ]
    assert sum(share["stored_bytes"] for share in usage["shares"]) == usage["used_bytes"]
    assert measured(site, "storage_used_bytes") == [(usage["used_bytes"], {"storage": "local"})]
    assert measured(site, "storage_free_bytes")[0][0] == pytest.approx(usage["free_bytes"], rel=0.2)


def test_storage_usage_tells_growth_and_when_it_fills_from_measurements(call: Call, site: Path) -> None:
    free = call("backup", "storage-usage", "--format", "json").json[0]["free_bytes"]
    measure(site, "storage_used_bytes", *(free / 10 * n for n in (6, 4, 2)))
    measure(site, "storage_used_bytes", 0.0, every=timedelta(seconds=1))
    shrinking = call("backup", "storage-usage", "--format", "json").json[0]
    assert shrinking["growth_bytes_per_day"] < 0 and shrinking["fills_at"] is None
    for path in (site / "etc/state").glob("metadata.db*"):
        path.unlink()
    measure(site, "storage_used_bytes", -free / 5, -free / 10, every=timedelta(days=1))
    growing = call("backup", "storage-usage", "--format", "json").json[0]
    assert growing["growth_from"] == "measurements"
    assert growing["growth_bytes_per_day"] == pytest.approx(free / 10, rel=0.05)
    days = (datetime.fromisoformat(growing["fills_at"]) - datetime.now(UTC)) / timedelta(days=1)
    assert days == pytest.approx(10, rel=0.05)
    assert re.search(r"local +0 +0 B +\+\S+ \S+ +\S+ \S+ +20\d\d-\d\d-\d\d", call("backup", "storage-usage").out)


def test_storage_usage_of_one_storage_and_of_none(call: Call, site: Path) -> None:
    assert call("backup", "storage-usage", "--storage", "local").code == 0
    assert "not known yet" in call("backup", "storage-usage").out
    assert call("backup", "storage-usage", "--storage", "nope").code == 2


def test_a_report_tells_what_happened(call: Call, site: Path, full: str) -> None:
    call("backup", "verify", full)
    fail_a_job(site)
    found = call("backup", "report", "--format", "json").json
    assert (found["host"], found["period"]["name"], found["n_made"], found["n_failed"]) == ("h1", "week", 1, 1)
    (memory,) = found["databases"]
    assert (memory["by_strategy"], memory["coverage"]["n_verified"]) == ([["full", 1]], 1)
    assert memory["exposure"]["gaps"] == [] and memory["exposure"]["last_seconds"] < 60
    assert found["failed"][0]["message"] == "database memory: <locked>"
    assert {one["subject"] for one in found["attention"]} == {"backups", "drills"}
    assert found["output"] is None
    text = call("backup", "report", "--day").out
    assert "h1: the day from" in text and "SourceBusy: database memory: <locked>" in text
    assert max(map(len, text.splitlines())) <= 100


def test_a_report_tells_how_much_was_captured(call: Call, site: Path, full: str) -> None:
    metrics, now = open_metrics(site / "etc/state/metadata.db"), datetime.now(UTC)
    values = {"capture_down": 0.0, "capture_wal_bytes": 2048.0, "backup_rpo_seconds": 2.0}
    for minute in range(100, 0, -1):
        at = now - timedelta(minutes=minute)
        values |= {"capture_commits_total": 100.0 - minute, "capture_requests": 3.0 * (100 - minute)}
        for name, value in values.items():
            metrics.record(name, value, at=at, labels={"database": "memory"})
        for quantile, value in (("0.5", 0.6), ("0.95", 1.1)):
            metrics.record("capture_lag_seconds", value, at=at, labels={"database": "memory", "quantile": quantile})
    metrics.close()
    directory = make_private_directory(site / "etc/state" / CAPTURE / "memory")
    begin_us = microseconds(now - timedelta(minutes=50))
    hole = Hole(timeline="t", commit=5, from_us=begin_us, to_us=begin_us + 60_000_000, reason="the log was restarted")
    holes.note_hole(directory, hole)

    (memory,) = call("backup", "report", "--format", "json").json["databases"]
    found = memory["capture"]
    assert (found["n_commits"], found["n_requests"], found["wal_peak_bytes"], found["stored_bytes"]) == (99, 297, 2048, 0)
    assert (found["lag_p50_seconds"], found["lag_p95_seconds"]) == (0.6, 1.1)
    assert found["share"] == pytest.approx(0.99, abs=0.001)
    assert [one["reason"] for one in found["holes"]] == ["the log was restarted"]
    assert found["holes"][0]["begins_at"].endswith("+00:00")
    assert memory["exposure"]["worst_seconds"] < 60
    text = call("backup", "report", "--day").out
    assert "99.00 %" in text and "hole in" in text and "memory, for 1 min" in text
    assert max(map(len, text.splitlines())) <= 100


def test_a_backup_that_left_the_catalog_is_still_in_the_report(call: Call, site: Path, full: str) -> None:
    metrics = open_metrics(site / "etc/state/metadata.db")
    at = datetime.now(UTC) - timedelta(hours=3)
    for name, value in (("backup_duration_seconds", 60.0), ("backup_stored_bytes", 77.0)):
        labels = {"database": "memory", "strategy": "incremental", "storage": "local"}
        metrics.record(name, value, at=at, labels=labels)
        metrics.record(name, value, at=at - timedelta(hours=1), labels={**labels, "status": "suspect"})
    metrics.close()
    (memory,) = call("backup", "report", "--format", "json").json["databases"]
    assert (memory["n_made"], memory["n_suspect"]) == (3, 1)
    assert memory["exposure"]["worst_seconds"] == pytest.approx(3 * 3600 + 60, abs=30)


def test_the_page_is_one_private_file_that_parses(call: Call, site: Path, full: str) -> None:
    fail_a_job(site)
    done = call("backup", "report", "--month", "--output", "report.html")
    path = site / "report.html"
    assert done.code == 0 and done.out.endswith(f"written: {path}\n")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    page = path.read_text(encoding="utf-8")
    ElementTree.fromstring(page.removeprefix(BEGIN))
    assert "1 backup made, 1 failed" in page and "&lt;locked&gt;" in page
    assert [name for name in os.listdir(site) if name.startswith(".continuum-report")] == []  # noqa: PTH208


def test_a_report_is_replaced_and_nothing_else_is(call: Call, site: Path) -> None:
    assert call("backup", "report", "--output", "report.html").code == 0
    assert call("backup", "report", "--output", "report.html", "--format", "json").json["output"] == str(site / "report.html")
    before = (site / "memory.db").read_bytes()
    refused = call("backup", "report", "--output", "memory.db")
    assert refused.code == 9 and "is not a report" in refused.err
    assert (site / "memory.db").read_bytes() == before
    (site / "link.html").symlink_to(site / "report.html")
    assert call("backup", "report", "--output", "link.html").code == 9
    assert call("backup", "report", "--output", str(site)).code == 9
    assert call("backup", "report", "--output", "missing/report.html").code == 9


def test_an_empty_report_is_a_report_too(call: Call, site: Path) -> None:
    done = call("backup", "report", "--output", "report.html")
    assert done.code == 0 and "no recovery point" in done.out and "none yet" in done.out
    assert call("backup", "report", "--format", "json").json["n_made"] == 0


def test_a_report_says_that_the_audit_log_cannot_be_read_and_reports_the_rest(call: Call, site: Path, full: str) -> None:
    log = site / "etc/state/audit.log"
    log.unlink()
    log.mkdir()

    done = call("backup", "report", "--day", "--format", "json")

    assert done.code == 0, done.err
    assert done.json["n_made"] == 1 and done.json["decisions"] == []
    said = [(found["severity"], found["subject"]) for found in done.json["attention"]]
    assert said[-1] == ("warning", "audit log") and str(log) in done.json["attention"][-1]["text"]


def test_what_lies_behind_a_closed_directory_is_told_and_the_rest_is_shown(
    call: Call, site: Path, full: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when somebody else's user runs it: there is no permission even to see whether the storage is there."""
    exists = Path.exists

    def behind_a_closed_directory(path: Path) -> bool:
        if path.name in ("store", "tmp"):
            raise PermissionError(13, "Permission denied", str(path))
        return exists(path)

    monkeypatch.setattr(Path, "exists", behind_a_closed_directory)

    usage = call("backup", "storage-usage", "--format", "json")
    report = call("backup", "report", "--day", "--format", "json")
    health = call("backup", "health", "--format", "json")

    assert usage.json[0]["n_backups"] == 1 and "Permission denied" in usage.json[0]["trouble"]
    assert report.code == 0 and report.json["n_made"] == 1
    assert [found["subject"] for found in report.json["attention"] if "cannot be looked at" in found["text"]] == [
        "storage local"
    ]
    assert health.code == 2 and len(health.json["findings"]) > 5
