"""Gather what was measured of captures over a period, for a report. Only this host's files are asked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime

from continuum_tasks.capture.state.holes import read_holes
from continuum_tasks.config import Config
from continuum_tasks.host.site import HostContext
from continuum_tasks.report.plan.capture_coverage import CaptureRows

# Which field of CaptureRows a metric fills, by its name and quantile.
_FIELDS = {
    ("capture_down", ""): "down",
    ("backup_rpo_seconds", ""): "ages",
    ("capture_lag_seconds", "0.5"): "lags_p50",
    ("capture_lag_seconds", "0.95"): "lags_p95",
    ("capture_wal_bytes", ""): "wal_bytes",
    ("capture_commits_total", ""): "commits",
    ("capture_stored_bytes", ""): "stored_bytes",
    ("capture_requests", ""): "requests",
}


def capture_series(config: Config, *, site: HostContext, since: datetime) -> Iterator[CaptureRows]:
    """Yield what is known of the capture of each declared database that was, or is to be, captured."""
    found: dict[str, dict[str, list[tuple[datetime, float]]]] = {}
    for name in sorted({name for name, _ in _FIELDS}):
        for sample in site.metrics.series(name, since=since):
            field = _FIELDS[name, sample.labels.get("quantile", "")]
            of_it = found.setdefault(sample.labels.get("database", ""), {})
            of_it.setdefault(field, []).append((sample.at, sample.value))
    for database in config.databases:
        measured = {field: tuple(series) for field, series in found.get(database.name, {}).items()}
        if measured.get("down"):
            rows = CaptureRows(database=database.name, holes=read_holes(site.state_dir, database.name))
            yield replace(rows, **measured)  # type: ignore[arg-type]
