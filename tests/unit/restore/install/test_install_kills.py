"""SIGKILL at every step of an install: the target is the old database with all it had, or the new one alone (ADR 3)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from continuum_tasks.errors import SourceRefused
from continuum_tasks.failpoints import RESTORE
from continuum_tasks.restore.install.install import InstallOutcome, install, recover
from continuum_tasks.sqlite.inspect import inspect
from continuum_tasks.sqlite.raw import record_path
from tests.support import other
from tests.support.sampling import matrix
from tests.unit.restore.install.restored_files import names, new_file
from tests.unit.sqlite.conftest import NOW

pytestmark = pytest.mark.slow

POINTS = [name for name in RESTORE if name.startswith("install.")]
RENAMED = POINTS.index("install.renamed")
SIDECARS = ("-wal", "-shm", "-journal")

_INSTALL = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from continuum_tasks import failpoints
from continuum_tasks.restore.install.install import install
temp, target, point = sys.argv[1:]
failpoints.arm(f"{point}=kill")
install(Path(temp), Path(target), overwrite=True, now=datetime(2026, 1, 1, tzinfo=UTC))
"""
# The -wal holds a later page only, so SQLite finds no header anywhere once the main file is garbage.
_GARBAGE = """
c = connect(); c.execute('PRAGMA journal_mode=wal'); c.execute('CREATE TABLE t(x)'); c.execute('INSERT INTO t VALUES (1)')
c.close()
c = connect(); c.execute('UPDATE t SET x = 2')
open(path, 'r+b').write(bytes(range(256)) * 16)
die()
"""
OLD = {"rollback": other.ROLLBACK, "wal": other.WAL, "hot": other.HOT, "garbage": _GARBAGE, "missing": ""}


def _look(target: Path) -> str:
    """Say which database another process sees."""
    if not target.exists():
        return "missing"
    return other.run(
        target,
        """
c = connect()
try:
    rows = [r[0] for r in c.execute('SELECT x FROM t')]
    assert c.execute('PRAGMA integrity_check').fetchall() == [('ok',)]
    print(rows[0] if len(rows) == 1 else len(rows) if all(r.startswith('old ') for r in rows) else 'torn')
except sqlite3.DatabaseError as err:
    print(err)
""",
    )


OLD_SEEN = {"rollback": "500", "wal": "500", "hot": "500", "garbage": "file is not a database", "missing": "missing"}


def _killed_install(target: Path, point: str, old: str) -> Path:
    if OLD[old]:
        other.run(target, OLD[old])
    temp = new_file(target.parent)
    killed = subprocess.run([sys.executable, "-c", _INSTALL, temp, target, point], capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    return temp


@pytest.mark.sampled
@pytest.mark.parametrize(("point", "old"), matrix("an install killed", POINTS, OLD))
def test_after_a_kill_the_target_is_old_or_new_and_the_next_restore_succeeds(tmp_path: Path, point: str, old: str) -> None:
    target = tmp_path / "memory.db"
    temp = _killed_install(target, point, old)
    renamed = POINTS.index(point) >= RENAMED
    assert record_path(target).exists()
    if renamed:
        assert not [suffix for suffix in SIDECARS if os.path.lexists(f"{target}{suffix}")]

    # The service comes back before anybody recovers, and commits.
    assert _look(target) == ("new" if renamed else OLD_SEEN[old])
    readable = renamed or old not in ("garbage", "missing")
    assert not readable or other.write(target, timeout=5) == "written"

    recovered = recover(target)

    assert recovered is not None
    assert recovered.outcome is (InstallOutcome.FINISHED if renamed else InstallOutcome.UNDONE)
    assert _look(target) == ("new" if renamed else OLD_SEEN[old])
    assert not readable or other.sql(target, "SELECT count(*) FROM beside") == "(1,)"
    assert not temp.exists()
    assert not record_path(target).exists()
    assert recover(target) is None
    assert not target.exists() or target.stat().st_nlink == 1 or not renamed
    left = {name for name in names(tmp_path) if not name.startswith("memory.db")}
    assert left == ({recovered.quarantine.name} if recovered.quarantine else set())

    done = install(new_file(tmp_path, text="newest"), target, overwrite=True, now=NOW)

    assert _look(target) == "newest"
    assert done.findings == ()
    assert not [suffix for suffix in SIDECARS if os.path.lexists(f"{target}{suffix}")]


@pytest.mark.parametrize("old", ["wal", "missing"])
@pytest.mark.parametrize("point", POINTS)
def test_the_next_install_settles_a_killed_one_by_itself(tmp_path: Path, point: str, old: str) -> None:
    target = tmp_path / "memory.db"
    _killed_install(target, point, old)
    renamed = POINTS.index(point) >= RENAMED

    done = install(new_file(tmp_path, text="newest"), target, overwrite=True, now=NOW)

    assert done.recovered is not None
    assert done.recovered.outcome is (InstallOutcome.FINISHED if renamed else InstallOutcome.UNDONE)
    assert _look(target) == "newest"
    assert done.quarantine is not None or (old == "missing" and not renamed)
    if done.quarantine:
        kept = done.quarantine / "memory.db"
        assert _look(kept) == ("new" if renamed else OLD_SEEN[old])
        assert kept.stat().st_nlink == 1
    quarantines = {path for path in (done.quarantine, done.recovered.quarantine) if path}
    assert set(names(tmp_path)) == {"memory.db", *(path.name for path in quarantines)}


@pytest.mark.parametrize("point", POINTS)
def test_an_interrupted_restore_is_told_by_the_look_at_the_source(tmp_path: Path, point: str) -> None:
    """Between the quarantine and the rename the old file has two names; the remedy is not to look for a hard link."""
    target = tmp_path / "memory.db"
    _killed_install(target, point, "rollback")
    if target.stat().st_nlink > 1:
        with pytest.raises(SourceRefused, match="a restore over it was interrupted"):
            inspect(target)
    recover(target)
    inspect(target)
