"""The database that is backed up: a seeded sample of the size asked for, made once and kept in .bench/."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.places import BENCH, ROOT

SEED = 1
FRACTION = 0.001
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def parse_size(text: str) -> int:
    """Return bytes for `64M` or `1G`. Raises ValueError."""
    found = re.fullmatch(r"(\d+)([KMG]?)", text)
    if found is None:
        raise ValueError(f"{text!r} is not a size: use bytes, or 64M, or 1G")
    return int(found[1]) * _UNITS[found[2]]


def sample(size_bytes: int) -> Path:
    """Return the sample of this size in WAL mode; another one is made when the code that makes it has changed."""
    BENCH.mkdir(mode=0o700, exist_ok=True)
    code = hashlib.sha256(b"".join(path.read_bytes() for path in sorted((ROOT / "continuum_tasks/sample").glob("*.py"))))
    path = BENCH / f"sample-{size_bytes}-{code.hexdigest()[:8]}.db"
    if not path.exists():
        for old in BENCH.glob(f"sample-{size_bytes}-*"):
            old.unlink()
        print(f"making a sample of {size_bytes:,} bytes (20 s a GiB)", file=sys.stderr)
        part = path.with_suffix(".part")
        _call("generate", part, "--size", str(size_bytes), "--journal-mode", "wal", "--seed", str(SEED))
        part.rename(path)
    return path


def copy(source: Path, target: Path) -> None:
    """Make `target` a fresh copy, without sidecars."""
    for suffix in ("-wal", "-shm"):
        Path(f"{target}{suffix}").unlink(missing_ok=True)
    shutil.copyfile(source, target)


def change(path: Path, *, seed: int) -> None:
    """Change 0.1 % of the rows, spread over all tables; the -wal is folded in when this ends."""
    _call("change", path, "--fraction", str(FRACTION), "--seed", str(seed))


def _call(verb: str, path: Path, *options: str) -> None:
    command = [sys.executable, "-m", "continuum_tasks.sample", verb, str(path), *options]
    subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
