"""Backups made of nothing but the fields a plan looks at, and histories of random ones."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from continuum_tasks.model import Backup, BackupId, BackupStatus, Cipher, Codec, Strategy

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
START = datetime(2026, 1, 1, tzinfo=UTC)


def ago(**duration: float) -> datetime:
    return NOW - timedelta(**duration)


def identify(n: int) -> BackupId:
    return BackupId.make(Strategy.FULL, START + timedelta(minutes=n))


def backup(n: int, *, parent: int | None = None, **changes: Any) -> Backup:
    """Return the n-th backup of a history, a full unless it has a parent, made n minutes after the start of the year."""
    at = START + timedelta(minutes=n)
    made = Backup(
        id=identify(n),
        database="memory",
        storage="local",
        strategy=Strategy.FULL if parent is None else Strategy.INCREMENTAL,
        status=BackupStatus.COMPLETED,
        created_at=at,
        finished_at=at,
        parent_id=None if parent is None else identify(parent),
        base_id=identify(n if parent is None else 0),
        page_size=4096,
        n_pages=10,
        root="",
        original_size_bytes=40960,
        layer_size_bytes=40960,
        stored_size_bytes=1000,
        codec=Codec.ZSTD,
        cipher=Cipher.AES_256_GCM,
        key_id="k1",
        host="h1",
    )
    return replace(made, **changes)


@st.composite
def histories(draw: st.DrawFn) -> list[Backup]:
    """Up to ten backups in any order, whose parents are anything: missing, later ones, themselves, loops."""
    n = draw(st.integers(0, 10))
    instants = st.none() | st.integers(1, 3).map(lambda day: START + timedelta(days=day))
    made = [
        backup(
            i,
            parent=draw(st.none() | st.integers(0, n)),
            strategy=draw(st.sampled_from(Strategy)),
            status=draw(
                st.sampled_from([BackupStatus.COMPLETED, BackupStatus.COMPLETED, BackupStatus.COMPLETED, BackupStatus.SUSPECT])
            ),
            verified_at=draw(instants),
            failed_at=draw(st.none() | instants),
            page_size=draw(st.sampled_from([4096, 4096, 8192])),
            cipher=draw(st.sampled_from([Cipher.AES_256_GCM, Cipher.AES_256_GCM, Cipher.NONE])),
            key_id=draw(st.sampled_from(["k1", "k1", "k2", ""])),
        )
        for i in range(n)
    ]
    return draw(st.permutations(made))
