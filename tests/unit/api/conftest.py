from __future__ import annotations

from pathlib import Path

import pytest

from continuum_tasks.cli.main import run_command
from continuum_tasks.sample.generate import SampleSpec, generate


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration in tmp_path/etc for tmp_path/memory.db and tmp_path/store."""
    for name in ("CONTINUUM_CONFIG_DIR", "CONTINUUM_LOCAL", "CONTINUUM_FAILPOINTS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CONTINUUM_HOST", "h1")
    generate(tmp_path / "memory.db", SampleSpec(size_bytes=1 << 20))
    paths = ("--database", str(tmp_path / "memory.db"), "--storage", str(tmp_path / "store"))
    assert run_command(["init", "--config-dir", str(tmp_path / "etc"), *paths, "--yes"]) == 0
    return tmp_path
