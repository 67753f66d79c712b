"""How many modules one has to open to follow a backup or a restore from its entry to its result.

Counted are the modules whose functions run, in any thread, in a full and an incremental backup of an encrypted database to a
local storage, and in a restore of the latter. Three kinds are told apart:

- The way itself: the slices that know what a backup or a restore is, and `assembly`, which both share. Who follows a backup
  reads these in the order of calls.
- The libraries below (`host`, `repository`, `storage`, `sqlite`, `keyring`, `layer`, `history`): each is read through the few
  names that the way calls, such as `put_manifest` or `inspect`. Nobody opens `storage.directories` to learn how a backup is
  made. They are the larger part, and each is one noun with a format or a system call behind it, so fewer of them would only
  be larger ones. The ceilings of everything keep work from wandering into them.
- The ground (errors, model, clock, failpoints), the settings and the composition root are words and wiring: not counted.
"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.integration import beside as b
from tests.integration.beside import Shape, beside
from tests.support.processes import ROOT, environment
from tests.support.sandbox import Sandbox, make

NOT_COUNTED = ("errors", "model", "findings", "units", "clock", "failpoints", "process", "config", "runtime")
WAY = ("backup", "restore", "assembly", "capture", "retention", "verify", "health")
BACKUP_WAY, RESTORE_WAY = 25, 15
BACKUP_ALL, RESTORE_ALL = 52, 48  # 49 and 45 when this was written


def walked(sandbox: Sandbox, *words: str) -> tuple[str, set[str]]:
    """Run one action in a process of its own; returns the id of its backup and the modules it entered."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.way", str(sandbox.directory), *words],
        cwd=ROOT,
        env=environment(sandbox.config),
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    return said["id"], {name for name in said["modules"] if name.partition(".")[0] not in NOT_COUNTED}


def on_the_way(modules: set[str]) -> set[str]:
    return {name for name in modules if name.partition(".")[0] in WAY}


@pytest.fixture(scope="module")
def ways(tmp_path_factory: pytest.TempPathFactory) -> tuple[set[str], set[str]]:
    """The modules that two backups enter, and those of a restore."""
    sandbox = make(tmp_path_factory.mktemp("way") / "c")
    beside(b.create, sandbox.database, Shape(journal="wal", page_size=4096), seed=1)
    _, full = walked(sandbox, "full")
    beside(b.script, sandbox.database, "CREATE TABLE more(x)", "INSERT INTO more VALUES (randomblob(400000))")
    made, incremental = walked(sandbox, "incremental")
    _, restored = walked(sandbox, "restore", made, str(sandbox.directory / "restored.db"))
    backup = full | incremental
    for title, modules in (("backup", backup), ("restore", restored)):
        way = on_the_way(modules)
        print(f"\n{title}: {len(way)} modules: {', '.join(sorted(way))}")
        print(f"{len(modules - way)} more in libraries: {', '.join(sorted(modules - way))}")
    return backup, restored


def test_the_way_of_a_backup_enters_few_modules(ways: tuple[set[str], set[str]]) -> None:
    backup, _ = ways
    assert {"backup.create", "backup.choose_parent", "backup.state_source", "backup.write_layer"} <= backup
    assert len(on_the_way(backup)) <= BACKUP_WAY, sorted(on_the_way(backup))
    assert len(backup) <= BACKUP_ALL, sorted(backup)


def test_the_way_of_a_restore_enters_few_modules(ways: tuple[set[str], set[str]]) -> None:
    _, restore = ways
    assert {"restore.restore", "restore.install.install", "assembly.restore_point"} <= restore
    assert len(on_the_way(restore)) <= RESTORE_WAY, sorted(on_the_way(restore))
    assert len(restore) <= RESTORE_ALL, sorted(restore)
