"""Manifests and verdicts for tests, as a backup would make them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from continuum_tasks.model import (
    Attestation,
    Backup,
    BackupId,
    BackupStatus,
    Cipher,
    Codec,
    Level,
    Manifest,
    SourceFacts,
    StoredObject,
    Strategy,
    WrappedKey,
)

BEGUN_AT = datetime(2026, 11, 1, 12, tzinfo=UTC)
REPOSITORY_ID = "7d444840-9dc0-41d1-b245-5ffdce74fad2"


def manifest(*, strategy: str = "full", n: int = 0, database: str = "main", storage: str = "local") -> Manifest:
    """Return the manifest of the n-th backup; one that is no full continues the full numbered 0."""
    full = BackupId.make(Strategy.FULL, BEGUN_AT)
    at = BEGUN_AT + timedelta(minutes=n)
    is_full = strategy == "full"
    backup_id = BackupId.make(Strategy(strategy), at)
    backup = Backup(
        id=backup_id,
        database=database,
        storage=storage,
        strategy=Strategy(strategy),
        status=BackupStatus.COMPLETED,
        created_at=at,
        finished_at=at + timedelta(seconds=1),
        parent_id=None if is_full else full,
        base_id=backup_id if is_full else full,
        page_size=4096,
        n_pages=3,
        root="ab" * 32,
        original_size_bytes=3 * 4096,
        layer_size_bytes=3 * 4096,
        stored_size_bytes=1000,
        codec=Codec.ZSTD,
        cipher=Cipher.AES_256_GCM,
        key_id="k",
        host="h1",
    )
    stored = StoredObject(
        key=f"layers/{database}/{backup.base_id}/{backup_id}/000000-00.chunk",
        size_bytes=1000,
        sha256="cd" * 32,
        n_pages=3,
        index_offset=900,
        index_bytes=100,
    )
    return Manifest(
        repository_id=REPOSITORY_ID,
        backup=backup,
        source=SourceFacts(path="/srv/memory.db", mode=0o640, uid=1, gid=2, journal_mode="wal"),
        wrapped_key=WrappedKey(key_id="k", fingerprint="ef" * 16, nonce="00" * 12, ciphertext="00" * 48),
        objects=(stored,),
        tool_version="0",
        checked="quick",
        sqlite_version="3",
    )


def unencrypted(one: Manifest) -> Manifest:
    return replace(one, wrapped_key=None, backup=replace(one.backup, cipher=Cipher.NONE, key_id=""))


def verdict(one: Manifest, *, passed: bool = True, level: Level = Level.RESTORE, minutes: int = 60) -> Attestation:
    return Attestation(
        backup_id=one.backup.id,
        level=level,
        passed=passed,
        at=BEGUN_AT + timedelta(minutes=minutes),
        duration_seconds=1.5,
        host="h1",
        row_counts=(("t", 3),) if level is Level.RESTORE else (),
    )
