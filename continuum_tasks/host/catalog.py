"""The catalog: this host's rebuildable index of backups and verdicts, in `metadata.db`.

The storage is the truth. Losing this file loses nothing: `open_catalog` makes a new one and says so (`is_new`), and
`host.reindex` fills it from the manifests.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import apsw

from continuum_tasks.errors import BackupNotFound, IntegrityError, NewerFormat
from continuum_tasks.host.metadata import Metadata, open_metadata
from continuum_tasks.model import (
    ANOMALY,
    Acceptance,
    Attestation,
    Backup,
    BackupId,
    BackupStatus,
    DrillRecord,
    Hold,
    Level,
    Manifest,
)
from continuum_tasks.repository.documents import from_json, to_json

_TABLES = ("backups", "objects", "attestations", "holds", "drills", "accepted", "counts")


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What a storage holds, as its documents say."""

    manifests: Sequence[Manifest]
    attestations: Sequence[Attestation] = ()
    holds: Sequence[Hold] = ()
    drills: Sequence[DrillRecord] = ()
    acceptances: Sequence[Acceptance] = ()


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
        """Remove one backup's rows; nothing happens when there are none. Its drills stay: they tell when the last one was."""
        with self._transaction() as connection:
            for table in (name for name in _TABLES if name != "drills"):
                connection.execute(f"DELETE FROM {table} WHERE storage=? AND backup_id=?", (storage, backup_id))  # noqa: S608

    def attest(self, storage: str, attestation: Attestation) -> None:
        """Record a verdict."""
        with self._transaction() as connection:
            _insert_attestations(connection, storage, [attestation])

    def hold(self, storage: str, hold: Hold) -> None:
        """Record a hold; holding again replaces it."""
        with self._transaction() as connection:
            _insert_holds(connection, storage, [hold])

    def release(self, storage: str, backup_id: BackupId) -> None:
        """Forget a hold; nothing happens when there is none."""
        with self._transaction() as connection:
            connection.execute("DELETE FROM holds WHERE storage=? AND backup_id=?", (storage, backup_id))

    def holds(self, storage: str) -> dict[BackupId, Hold]:
        """Return the holds in one storage by backup."""
        rows = self._metadata.rows("SELECT body FROM holds WHERE storage=?", (storage,))
        found: list[Hold] = [from_json(Hold, json.loads(str(row[0]))) for row in rows]
        return {hold.backup_id: hold for hold in found}

    def accept(self, storage: str, acceptance: Acceptance) -> None:
        """Record an acceptance; accepting again replaces it."""
        with self._transaction() as connection:
            _insert_acceptances(connection, storage, [acceptance])

    def acceptances(self, storage: str) -> dict[BackupId, Acceptance]:
        """Return the acceptances in one storage by backup."""
        rows = self._metadata.rows("SELECT body FROM accepted WHERE storage=?", (storage,))
        found: list[Acceptance] = [from_json(Acceptance, json.loads(str(row[0]))) for row in rows]
        return {acceptance.backup_id: acceptance for acceptance in found}

    def row_counts(self, backup: Backup) -> dict[str, int]:
        """Return the rows of each table as the backup's manifest says; empty when it does not."""
        rows = self._metadata.rows("SELECT body FROM counts WHERE storage=? AND backup_id=?", (backup.storage, backup.id))
        return dict(json.loads(str(rows[0][0]))) if rows else {}

    def drilled(self, storage: str, record: DrillRecord) -> None:
        """Record a drill."""
        with self._transaction() as connection:
            _insert_drills(connection, storage, [record])

    def drills(self, storage: str) -> list[DrillRecord]:
        """Return the drills of one storage's backups, oldest first."""
        rows = self._metadata.rows("SELECT body FROM drills WHERE storage=? ORDER BY at", (storage,))
        return [from_json(DrillRecord, json.loads(str(row[0]))) for row in rows]

    def replace_storage(self, storage: str, contents: Contents, *, known: Collection[BackupId], now: datetime) -> None:
        """Make the rows of the `known` backups and of these exactly what is given, in one transaction.

        `known` is what the catalog held before the storage was read: what was committed meanwhile stays.
        """
        gone = [(storage, backup_id) for backup_id in known]
        with self._transaction() as connection:
            for table in _TABLES:
                connection.executemany(f"DELETE FROM {table} WHERE storage=? AND backup_id=?", gone)  # noqa: S608 - names are ours
            for table in ("holds", "accepted", "drills"):  # few, and also of backups that are gone
                connection.execute(f"DELETE FROM {table} WHERE storage=?", (storage,))  # noqa: S608 - names are ours
            _insert_backups(connection, contents.manifests)
            _insert_attestations(connection, storage, contents.attestations)
            _insert_holds(connection, storage, contents.holds)
            _insert_drills(connection, storage, contents.drills)
            _insert_acceptances(connection, storage, contents.acceptances)
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
        accepted = {
            (str(name), str(backup_id)) for name, backup_id in self._metadata.rows("SELECT storage, backup_id FROM accepted")
        }
        found: list[Backup] = [from_json(Backup, json.loads(str(row[0]))) for row in rows]
        keys = [(backup.storage, str(backup.id)) for backup in found]
        return [fold(b, by_backup.get(key, []), accepted=key in accepted) for b, key in zip(found, keys, strict=True)]

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
    """Open or create the catalog. A file that is not a database any more is moved aside, never deleted.

    Raises NewerFormat for one of a newer version, which stays where it is.
    """
    try:
        return Catalog(open_metadata(path))
    except NewerFormat:
        raise
    except IntegrityError:
        path.rename(path.with_name(f"{path.name}.damaged-{os.getpid()}"))
        return Catalog(open_metadata(path))


def fold(backup: Backup, attestations: Sequence[Attestation], *, accepted: bool = False) -> Backup:
    """Return the backup with `verified_at` and `failed_at` as its verdicts (oldest first) say.

    One that was accepted counts as completed, unless anything else than anomalies made it suspect.
    Verdicts older than a roll-forward are about bytes that are gone, and count no more.
    """
    if accepted and all(reason.startswith(ANOMALY) for reason in backup.suspect_reasons):
        backup = replace(backup, status=BackupStatus.COMPLETED, suspect_reasons=())
    attestations = [a for a in attestations if backup.rolled_at is None or a.at >= backup.rolled_at]
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
        body = json.dumps(manifest.row_counts)
        connection.execute("INSERT OR REPLACE INTO counts VALUES (?,?,?)", (backup.storage, backup.id, body))


def _insert_attestations(connection: apsw.Connection, storage: str, attestations: Sequence[Attestation]) -> None:
    rows = [(storage, a.backup_id, a.level.value, a.at.isoformat(), json.dumps(to_json(a))) for a in attestations]
    connection.executemany("INSERT OR REPLACE INTO attestations VALUES (?,?,?,?,?)", rows)


def _insert_holds(connection: apsw.Connection, storage: str, holds: Sequence[Hold]) -> None:
    rows = [(storage, hold.backup_id, json.dumps(to_json(hold))) for hold in holds]
    connection.executemany("INSERT OR REPLACE INTO holds VALUES (?,?,?)", rows)


def _insert_drills(connection: apsw.Connection, storage: str, drills: Sequence[DrillRecord]) -> None:
    rows = [(storage, drill.backup_id, drill.at.isoformat(), json.dumps(to_json(drill))) for drill in drills]
    connection.executemany("INSERT OR REPLACE INTO drills VALUES (?,?,?,?)", rows)


def _insert_acceptances(connection: apsw.Connection, storage: str, acceptances: Sequence[Acceptance]) -> None:
    rows = [(storage, accepted.backup_id, json.dumps(to_json(accepted))) for accepted in acceptances]
    connection.executemany("INSERT OR REPLACE INTO accepted VALUES (?,?,?)", rows)


def _attestation(body: str) -> Attestation:
    found: Attestation = from_json(Attestation, json.loads(body))
    return found


def _bare(backup: Backup) -> Backup:
    return replace(backup, verified_at=None, failed_at=None)
