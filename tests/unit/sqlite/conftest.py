from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
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


@pytest.fixture
def folder() -> Iterator[Path]:
    """A directory every user can reach, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    for part in (folder, *folder.rglob("*")):
        if part.is_dir():
            part.chmod(0o700)
    shutil.rmtree(folder)
