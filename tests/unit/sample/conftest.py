from __future__ import annotations

from pathlib import Path

import pytest

from continuum_tasks.sample.generate import JournalMode, SampleSpec, generate


@pytest.fixture(params=list(JournalMode))
def sample(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A sample of 1 MiB, once in each journal mode."""
    path = tmp_path / "memory.db"
    generate(path, SampleSpec(size_bytes=1 << 20, journal_mode=request.param))
    return path
