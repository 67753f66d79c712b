"""README's "Use it", typed line by line, with only the paths changed."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from continuum_tasks.sample.generate import SampleSpec, generate
from tests.support.processes import ROOT

SECTION = (ROOT / "README.md").read_text(encoding="utf-8").partition("\n## Use it\n")[2].partition("`init` makes the key")[0]
LINES = [line for block in re.findall(r"```bash\n(.*?)```", SECTION, re.DOTALL) for line in block.splitlines()]


@pytest.fixture
def shell_words(tmp_path: Path) -> Path:
    """A directory with `continuum` alone, for PATH."""
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "continuum"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m continuum_tasks.cli "$@"\n')
    program.chmod(0o755)
    return program.parent


def test_use_it_works_line_by_line(tmp_path: Path, shell_words: Path) -> None:
    (tmp_path / "lib").mkdir()
    generate(tmp_path / "lib" / "memory.db", SampleSpec(size_bytes=1 << 20))
    inherited = {name: text for name, text in os.environ.items() if not name.startswith("CONTINUUM")}
    environment = {
        **inherited,
        "PATH": f"{shell_words}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "CONTINUUM_CONFIG_DIR": str(tmp_path / "etc"),
    }
    places = {
        "/tmp/": "scratch/",
        "/var/lib/continuum": "lib",
        "/var/backups/continuum": "store",
    }  # in this order: ours is in /tmp
    (tmp_path / "scratch").mkdir()
    try:
        for line in LINES:
            typed = line
            for place, here in places.items():
                typed = typed.replace(place, f"{tmp_path}/{here}")
            done = subprocess.run(["bash", "-c", typed], env=environment, capture_output=True, text=True, timeout=540)
            allowed = (0, 1) if line == "continuum backup health" else (0,)
            assert done.returncode in allowed, (line, done.stdout, done.stderr)
    finally:
        subprocess.run(["bash", "-c", "continuum down"], env=environment, timeout=540)
    assert LINES[0].startswith("continuum init") and LINES[-1] == "continuum down"
    for name in ("restored.db", "before-the-deletion.db"):
        with closing(sqlite3.connect(tmp_path / "scratch" / name)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
