"""Measurements of this host over time, in `metadata.db`: what runs took and moved. Losing them loses no recovery point."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from continuum_tasks.host.metadata import Metadata, open_metadata

NAMES = {
    "backup_duration_seconds": "how long a backup took, from lock to catalog",
    "backup_size_bytes": "size of the database as it was backed up",
    "backup_stored_bytes": "bytes a backup takes in its storage",
    "backup_compression_ratio": "original size divided by stored size",
    "backup_changed_pages_ratio": "share of the database's pages a backup stored",
    "backup_phase_seconds": "how long one phase of a backup took",
    "backup_rpo_seconds": "age of the latest state a restore would give: a backup's, or the last captured commit's",
    "capture_down": "1 while a database that is to be captured is not",
    "capture_lag_seconds": "how long commits took until they were in the storage, by quantile",
    "capture_wal_bytes": "size of a captured database's write-ahead log",
    "capture_spool_bytes": "captured bytes that wait on this host for the storage",
    "capture_commits_total": "commits captured on the present timeline",
    "capture_stored_bytes": "bytes that capture brought into the storage since its process began",
    "capture_requests": "requests that capture made of the storage since its process began",
    "capture_holes": "holes of the last 24 h in what was captured",
    "restore_duration_seconds": "how long a restore took",
    "restore_fetched_bytes": "bytes a restore read from its storage",
    "verify_duration_seconds": "how long a verification took",
    "drill_rto_seconds": "how long a drill took until the database was proven and ready",
    "drill_phase_seconds": "how long one phase of a drill took",
    "compaction_duration_seconds": "how long merging captured segments took",
    "compaction_requests": "requests to the storage that merging captured segments took",
    "compaction_read_bytes": "bytes that merging captured segments read from its storage",
    "compaction_written_bytes": "bytes that merging captured segments wrote to its storage",
    "storage_latency_seconds": "how long a storage took to identify itself",
    "storage_used_bytes": "bytes of layers in a storage",
    "storage_free_bytes": "bytes free in a storage, where it has a limit",
}
EACH_MINUTE = ("backup_rpo_seconds", *(name for name in NAMES if name.startswith("capture_")))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One measurement. `labels` say of what: database, strategy, storage, phase, quantile."""

    name: str
    at: datetime
    value: float
    labels: Mapping[str, str]


class Metrics:
    """The measurements of one host. Safe from several threads and processes."""

    def __init__(self, metadata: Metadata) -> None:
        self._metadata = metadata

    def close(self) -> None:
        self._metadata.close()

    def record(self, name: str, value: float, *, at: datetime, labels: Mapping[str, str]) -> None:
        """Keep one measurement. A name that is not in NAMES is a RuntimeError."""
        self.record_all([Sample(name=name, at=at, value=value, labels=labels)])

    def record_all(self, samples: Iterable[Sample]) -> None:
        """Keep measurements in one transaction. A name that is not in NAMES is a RuntimeError."""
        rows = [
            (one.name, one.at.isoformat(), float(one.value), json.dumps(dict(one.labels), sort_keys=True)) for one in samples
        ]
        strange = next((name for name, *_ in rows if name not in NAMES), None)
        if strange is not None:
            raise RuntimeError(f"metric {strange!r} is not declared")
        with self._metadata.transaction() as connection:
            connection.executemany("INSERT INTO metrics VALUES (?,?,?,?)", rows)

    def series(self, name: str, *, since: datetime | None = None) -> list[Sample]:
        """Return the measurements of one name, oldest first."""
        rows = self._metadata.rows(
            "SELECT name, at, value, labels FROM metrics WHERE name=?1 AND (?2 IS NULL OR at>=?2) ORDER BY at",
            (name, None if since is None else since.isoformat()),
        )
        return [
            Sample(name=str(n), at=datetime.fromisoformat(str(at)), value=float(str(value)), labels=json.loads(str(labels)))
            for n, at, value, labels in rows
        ]

    def thin(self, *, since: datetime, before: datetime) -> None:
        """Keep of what is measured each minute (`EACH_MINUTE`), in that span, the greatest value of every hour and series.

        Ten of them for one database are 14,000 rows a day. Each minute in which a capture was down stays.
        """
        marks = ",".join("?" * len(EACH_MINUTE))
        span = f"name IN ({marks}) AND at>=? AND at<?"
        values = (*EACH_MINUTE, since.isoformat(), before.isoformat())
        greatest = f"SELECT rowid, max(value) FROM metrics WHERE {span} GROUP BY name, labels, substr(at, 1, 13)"  # noqa: S608
        with self._metadata.transaction() as connection:
            connection.execute(
                f"DELETE FROM metrics WHERE {span} AND NOT (name='capture_down' AND value>0)"  # noqa: S608 (marks)
                f" AND rowid NOT IN (SELECT rowid FROM ({greatest}))",
                (*values, *values),
            )

    def forget(self, before: datetime) -> None:
        """Delete measurements older than that instant."""
        with self._metadata.transaction() as connection:
            connection.execute("DELETE FROM metrics WHERE at<?", (before.isoformat(),))


def open_metrics(path: Path) -> Metrics:
    """Open the measurements in `metadata.db` at `path`, making the table when it is missing. Raises ConfigError."""
    return Metrics(open_metadata(path))
