"""The catalog: this host's rebuildable index of backups and verdicts, in `metadata.db`.

The storage is the truth. Losing this file loses nothing: `open_catalog` makes a new one and says so (`is_new`), and
`actions.reindex` fills it from the manifests.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import apsw

from continuum_tasks.errors import BackupNotFound, IntegrityError
from continuum_tasks.manifest import from_json, to_json
from continuum_tasks.metadata import Metadata, open_metadata
from continuum_tasks.model import Attestation, Backup, BackupId, Level, Manifest

SCHEMA = """
CREATE TABLE IF NOT EXISTS backups (
    storage TEXT NOT NULL, backup_id TEXT NOT NULL, database TEXT NOT NULL, created_at TEXT NOT NULL, body TEXT NOT NULL,
    PRIMARY KEY (storage, backup_id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS objects (
    storage TEXT NOT NULL, backup_id TEXT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (storage, backup_id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS attestations (
    storage TEXT NOT NULL, backup_id TEXT NOT NULL, level TEXT NOT NULL, at TEXT NOT NULL, body TEXT NOT NULL,
    PRIMARY KEY (storage, backup_id, level, at)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS indexed (storage TEXT PRIMARY KEY, at TEXT NOT NULL) WITHOUT ROWID;
"""

_TABLES = ("backups", "objects", "attestations")


class Catalog:
    """The backups and verdicts in one `metadata.db`. Safe from several threads; other processes may use it at once."""

    def __init__(self, metadata: Metadata) -> None:
        self._metadata = metadata
        self._transaction = metadata.transaction

    def close(self) -> None:
        self._metadata.close()

    def add(self, manifest: Manifest) -> None:
        """Record a backup; recording it again replaces its rows."""
        with self._transaction() as connection:
            _insert_backups(connection, [manifest])

    def forget(self, storage: str, backup_id: BackupId) -> None:
        """Remove one backup's rows; nothing happens when there are none."""
        with self._transaction() as connection:
            for table in _TABLES:
                connection.execute(f"DELETE FROM {table} WHERE storage=? AND backup_id=?", (storage, backup_id))  # noqa: S608

    def attest(self, storage: str, attestation: Attestation) -> None:
        """Record a verdict."""
        with self._transaction() as connection:
            _insert_attestations(connection, storage, [attestation])

    def replace_storage(
        self,
        storage: str,
        manifests: Sequence[Manifest],
        attestations: Sequence[Attestation],
        *,
        known: Collection[BackupId],
        now: datetime,
    ) -> None:
        """Make the rows of the `known` backups and of these exactly what is given, in one transaction.

        `known` is what the catalog held before the storage was read: what was committed meanwhile stays.
        """
        with self._transaction() as connection:
            for table in _TABLES:
                gone = [(storage, backup_id) for backup_id in known]
                connection.executemany(f"DELETE FROM {table} WHERE storage=? AND backup_id=?", gone)  # noqa: S608 - names are ours
            _insert_backups(connection, manifests)
            _insert_attestations(connection, storage, attestations)
            connection.execute("INSERT OR REPLACE INTO indexed VALUES (?,?)", (storage, now.isoformat()))

    def objects(self, backup: Backup) -> dict[str, int]:
        """Return key and size (bytes) of the objects of one backup; empty when it is not recorded."""
        rows = self._metadata.rows("SELECT body FROM objects WHERE storage=? AND backup_id=?", (backup.storage, backup.id))
        return dict(json.loads(str(rows[0][0]))) if rows else {}

    def is_indexed(self, storage: str) -> bool:
        """Tell whether this file ever saw the manifests of that storage; False right after `metadata.db` was lost."""
        return bool(self._metadata.rows("SELECT 1 FROM indexed WHERE storage=?", (storage,)))

    def backups(self, *, storage: str | None = None, database: str | None = None) -> list[Backup]:
        """Return backups newest first, each with its verdicts folded in."""
        rows = self._metadata.rows(
            """SELECT body FROM backups WHERE (?1 IS NULL OR storage=?1) AND (?2 IS NULL OR database=?2)
               ORDER BY created_at DESC, backup_id DESC""",
            (storage, database),
        )
        verdicts = self._metadata.rows(
            "SELECT storage, body FROM attestations WHERE ?1 IS NULL OR storage=?1 ORDER BY at", (storage,)
        )
        by_backup: dict[tuple[str, str], list[Attestation]] = {}
        for name, body in verdicts:
            verdict = _attestation(str(body))
            by_backup.setdefault((str(name), verdict.backup_id), []).append(verdict)
        found: list[Backup] = [from_json(Backup, json.loads(str(row[0]))) for row in rows]
        return [fold(backup, by_backup.get((backup.storage, backup.id), [])) for backup in found]

    def find(self, backup_id: str, *, storage: str | None = None) -> Backup:
        """Return one backup. Raises BackupNotFound with the closest remedy."""
        for backup in self.backups(storage=storage):
            if backup.id == backup_id:
                return backup
        where = f" in storage {storage}" if storage else ""
        raise BackupNotFound(
            f"backup {backup_id}: not found{where}",
            hint="`continuum backup list` shows what there is; `continuum backup reindex` reads the storages again",
        )

    def attestations(self, storage: str, backup_id: BackupId) -> list[Attestation]:
        """Return the verdicts about one backup, oldest first."""
        rows = self._metadata.rows(
            "SELECT body FROM attestations WHERE storage=? AND backup_id=? ORDER BY at", (storage, backup_id)
        )
        return [_attestation(str(row[0])) for row in rows]


def open_catalog(path: Path) -> Catalog:
    """Open or create the catalog. A file that is not a database any more is moved aside, never deleted."""
    try:
        return Catalog(open_metadata(path, SCHEMA))
    except IntegrityError:
        path.rename(path.with_name(f"{path.name}.damaged-{os.getpid()}"))
        return Catalog(open_metadata(path, SCHEMA))


def fold(backup: Backup, attestations: Sequence[Attestation]) -> Backup:
    """Return the backup with `verified_at` and `failed_at` as its verdicts (oldest first) say."""
    passed = [a.at for a in attestations if a.passed and a.level is Level.RESTORE]
    failed = [a.at for a in attestations if not a.passed]
    return replace(backup, verified_at=max(passed, default=None), failed_at=max(failed, default=None))


def _insert_backups(connection: apsw.Connection, manifests: Sequence[Manifest]) -> None:
    for manifest in manifests:
        backup = _bare(manifest.backup)
        row = (backup.storage, backup.id, backup.database, backup.created_at.isoformat(), json.dumps(to_json(backup)))
        connection.execute("INSERT OR REPLACE INTO backups VALUES (?,?,?,?,?)", row)
        body = json.dumps([[o.key, o.size_bytes] for o in manifest.objects])
        connection.execute("INSERT OR REPLACE INTO objects VALUES (?,?,?)", (backup.storage, backup.id, body))


def _insert_attestations(connection: apsw.Connection, storage: str, attestations: Sequence[Attestation]) -> None:
    rows = [(storage, a.backup_id, a.level.value, a.at.isoformat(), json.dumps(to_json(a))) for a in attestations]
    connection.executemany("INSERT OR REPLACE INTO attestations VALUES (?,?,?,?,?)", rows)


def _attestation(body: str) -> Attestation:
    found: Attestation = from_json(Attestation, json.loads(body))
    return found


def _bare(backup: Backup) -> Backup:
    return replace(backup, verified_at=None, failed_at=None)
