"""Every file of examples/ runs as it is."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from continuum_tasks import api
from continuum_tasks.model import Strategy

ROOT = Path(__file__).resolve().parents[3]
EXAMPLES = sorted(path.name for path in (ROOT / "examples").glob("*.py"))
ARGUMENTS = {
    "list_backups.py": (),
    "back_up_and_verify.py": (),
    "restore_as_of.py": ("NOW", "r.db"),
    "bring_back_rows.py": ("memory.db", "messages", "id <= 3"),
    "watch_health.py": (),
}
SAYS = {
    "list_backups.py": "backup-full-",
    "back_up_and_verify.py": ": restore passed in ",
    "restore_as_of.py": "every page proven",
    "bring_back_rows.py": "0 of 3 rows inserted",
    "watch_health.py": "warning: ",
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_this_example_does_what_it_says(name: str, site: Path) -> None:
    with api.open_installation(site / "etc") as installation:
        api.make_backup(installation, Strategy.FULL)
    words = [datetime.now(UTC).isoformat() if word == "NOW" else word for word in ARGUMENTS[name]]
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / name), str(site / "etc"), *words],
        cwd=site,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode in (0, 1) if name == "watch_health.py" else done.returncode == 0, done.stderr
    assert SAYS[name] in done.stdout
    assert "Traceback" not in done.stderr
