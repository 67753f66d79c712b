"""Where benchmarks keep things: everything they make is under .bench/, programs they compare with under .tools/peers/."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BENCH = ROOT / ".bench"
PEERS = ROOT / ".tools" / "peers"
PROGRAMS = PEERS / "bin"


def program(name: str) -> Path | None:
    """Return the program that `make peers` installed, else the one on PATH, else None."""
    ours = PROGRAMS / name
    found = str(ours) if ours.exists() else shutil.which(name)
    return Path(found) if found else None


def why_missing(name: str) -> str:
    """Return why `make peers` could not install a program."""
    note = PEERS / f"{name}.missing"
    return note.read_text(encoding="utf-8").strip() if note.exists() else "not installed: run `make peers`"


def continuum() -> Path:
    """Return the `continuum` command of the environment that runs this."""
    return Path(sys.executable).with_name("continuum")
