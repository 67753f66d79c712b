"""The private directory of one run: whatever fails, nothing of it stays open."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from continuum_tasks.sqlite.staging import private_directory

NOW = datetime(2026, 11, 1, tzinfo=UTC)


def n_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 (the names are numbers)


def test_a_directory_that_cannot_be_removed_holds_no_descriptor_and_no_lock(tmp_path: Path) -> None:
    """A worker that tries again and again would run out of descriptors, and the sweep would never get at what is left."""
    before = n_descriptors()
    for _ in range(5):
        with pytest.raises(FileNotFoundError), private_directory(tmp_path, now=NOW) as private:
            private.rmdir()
    assert n_descriptors() == before
