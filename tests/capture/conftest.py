"""What all tests of capture use."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Path]:
    """A directory that is gone after the test: a stress run leaves hundreds of megabytes."""
    yield tmp_path
    shutil.rmtree(tmp_path, ignore_errors=True)
