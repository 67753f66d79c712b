from __future__ import annotations

from datetime import UTC, datetime
from time import monotonic

import pytest

from continuum_tasks.clock import Clock
from continuum_tasks.sqlite.snapshot import StageLimits

NOW = datetime(2026, 11, 23, 4, 5, 6, tzinfo=UTC)


@pytest.fixture
def clock() -> Clock:
    return Clock(now=lambda: NOW, monotonic=monotonic)


@pytest.fixture
def limits() -> StageLimits:
    return StageLimits(busy_timeout_seconds=0.2, busy_window_seconds=30)
