"""A capture that is well, seen at NOW, and backups that stand on its timeline."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

from continuum_tasks.capture.plan.assessment import Capture
from continuum_tasks.history.timeline import Hole
from continuum_tasks.model import Backup, Position, TimelineId
from continuum_tasks.units import microseconds
from tests.unit.retention.plan.rows import NOW, ago, backup

TIMELINE = TimelineId("timeline-20261123-100000-0000abcd")
MIB = 1024 * 1024


def us(**duration: float) -> int:
    return microseconds(ago(**duration))


def capture(**changes: Any) -> Capture:
    found = Capture(
        state="running",
        detail="",
        running=True,
        heard_at=ago(seconds=3),
        storage="local",
        timeline=TIMELINE,
        commit=4711,
        durable_commit=4711,
        durable_us=us(hours=1),
        watched_until_us=us(seconds=3),
        lag_p50_seconds=0.62,
        lag_p95_seconds=1.04,
        wal_bytes=3 * MIB,
        spool_limit_bytes=100 * MIB,
    )
    return replace(found, **changes)


def standing(n: int, commit: int, *, created_at: datetime = NOW, **changes: Any) -> Backup:
    position = Position(timeline=TIMELINE, commit=commit, settled=commit)
    return backup(n, created_at=created_at, position=position, **changes)


def hole(commit: int, *, from_us: int, to_us: int, reason: str = "the log was restarted") -> Hole:
    return Hole(timeline=TIMELINE, commit=commit, from_us=from_us, to_us=to_us, reason=reason)
