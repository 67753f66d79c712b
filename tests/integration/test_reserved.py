"""Databases with page checksums, or with reserved bytes of an unknown kind: backed up, restored, and never spoilt."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from continuum_tasks.capture.state.status import CaptureState
from continuum_tasks.errors import TargetError
from continuum_tasks.model import BackupStatus, Level
from continuum_tasks.restore import verify_recovery
from continuum_tasks.runtime import finish
from tests.support import reserving
from tests.support.capturing import PATIENT, a_host, capturing, settled, status
from tests.support.processes import until
from tests.support.reserving import files
from tests.support.sandbox import Sandbox, back_up, make, restore_to, verified

STRATEGIES = ("full", "incremental", "differential", "incremental")


def recovered(sandbox: Sandbox) -> verify_recovery.RecoveryProof:
    with sandbox.runtime() as runtime:
        found = verify_recovery.last(runtime.site)
        proof: verify_recovery.RecoveryProof = finish(
            verify_recovery.prove_recovery(found, repository=runtime.repository(), site=runtime.site, fan=runtime.fan())
        )
    return proof


@pytest.mark.parametrize("page_size", [512, 4096, 65536])
@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_a_live_database_with_page_checksums_restores_with_every_checksum_right(
    tmp_path: Path, mode: str, page_size: int
) -> None:
    """Every strategy, taken while the last commits are in the log alone; and the database that is there replaced at last."""
    sandbox, made = make(tmp_path / "c"), []
    code = reserving.LIVE.replace("4096", str(page_size)).replace("'wal'", f"'{mode}'")
    if mode == "delete":
        code = code.replace("checkpoint(c); ", "")
    with reserving.living(sandbox.database, code) as service:
        assert service.stdin is not None and service.stdout is not None
        for strategy in STRATEGIES:
            before = files(sandbox.database)
            backup = back_up(sandbox, strategy)
            assert (backup.status, backup.strategy) == (BackupStatus.COMPLETED, strategy)
            assert files(sandbox.database) == before
            made.append((backup, reserving.rows(sandbox.database)))
            service.stdin.write("\n")
            service.stdin.flush()
            assert service.stdout.readline() == "changed\n"
    for backup, rows in made:
        target = tmp_path / f"{backup.id}.db"
        assert restore_to(sandbox, backup.id, target, check=True).warnings == ()
        assert reserving.judge(target) == "[] ok"
        assert recovered(sandbox).verdict is verify_recovery.RecoveryVerdict.IDENTICAL
        assert reserving.rows(target) == rows
    assert verified(sandbox, made[-1][0].id, Level.RESTORE).attestation.passed


@pytest.mark.parametrize(("page_size", "n_bytes"), [(512, 4), (512, 32), (1024, 8), (4096, 12), (4096, 255), (65536, 16)])
@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_every_strategy_brings_reserved_bytes_back_to_the_byte(tmp_path: Path, mode: str, page_size: int, n_bytes: int) -> None:
    sandbox, made = make(tmp_path / "c"), []
    reserving.run(sandbox.database, f"create(path, {page_size}, {n_bytes}, {mode!r}).close()", sums=False)
    for strategy in STRATEGIES:
        content = reserving.scramble(sandbox.database, page_size=page_size, n_bytes=n_bytes)
        made.append((back_up(sandbox, strategy), content))
        reserving.run(sandbox.database, "c = connect(); change(c); c.close()", sums=False)
    for backup, content in made:
        target = tmp_path / "restored.db"
        restore_to(sandbox, backup.id, target, overwrite=target.exists())
        assert target.read_bytes() == content
    old = files(sandbox.database)
    done = restore_to(sandbox, made[0][0].id, sandbox.database, overwrite=True)
    assert files(Path(done.quarantine) / "memory.db") == old and sandbox.database.read_bytes() == made[0][1]


def test_a_restore_over_a_log_that_only_its_service_may_copy_back_is_refused_before_anything_is_fetched(tmp_path: Path) -> None:
    sandbox = make(tmp_path / "c")
    reserving.run(sandbox.database, reserving.LIVE + "die()")
    backup, before = back_up(sandbox), files(sandbox.database)
    hidden = shutil.move(sandbox.store / "layers", tmp_path / "layers")
    with pytest.raises(TargetError, match="would have to be written into it"):
        restore_to(sandbox, backup.id, sandbox.database, overwrite=True)
    assert files(sandbox.database) == before and "memory.db-wal" in before
    shutil.move(hidden, sandbox.store / "layers")
    for suffix in ("", "-wal", "-shm"):
        Path(f"{sandbox.database}{suffix}").rename(f"{tmp_path / 'old.db'}{suffix}")
    restore_to(sandbox, backup.id, sandbox.database)
    assert reserving.judge(sandbox.database) == "[] ok"


def test_a_log_with_page_checksums_is_not_captured_and_stays_right(tmp_path: Path) -> None:
    sandbox = a_host(tmp_path / "host")
    sandbox.database.unlink()
    with reserving.living(sandbox.database, reserving.LIVE) as service, capturing(sandbox.config):
        assert service.stdin is not None and service.stdout is not None
        before = files(sandbox.database)
        for _ in range(2):
            assert until(lambda: "reserved on every page" in _told(sandbox), seconds=PATIENT), status(sandbox)
            assert files(sandbox.database) == before
            service.stdin.write("\n")
            service.stdin.flush()
            assert service.stdout.readline() == "changed\n"
            before = files(sandbox.database)
    reserving.run(sandbox.database, "checkpoint()")
    assert reserving.judge(sandbox.database) == "[] ok"


def test_a_captured_database_that_gets_page_checksums_is_let_go_of(tmp_path: Path) -> None:
    sandbox = a_host(tmp_path / "host")
    with reserving.living(sandbox.database, "c = connect(); c.execute('SELECT * FROM notes')"), capturing(sandbox.config):
        assert until(lambda: settled(sandbox), seconds=PATIENT), status(sandbox)
        assert status(sandbox).state is CaptureState.RUNNING  # type: ignore[union-attr]
        reserving.run(
            sandbox.database, "c = connect(); c.wal_autocheckpoint(0); c.reserve_bytes('main', 8); c.execute('VACUUM')\ndie()"
        )
        assert until(lambda: "reserved on every page" in _told(sandbox), seconds=PATIENT), status(sandbox)
        assert status(sandbox).n_pins == 0  # type: ignore[union-attr]
        main = sandbox.database.read_bytes()
    assert sandbox.database.read_bytes() == main and main[20] == 0  # nobody of ours has copied the log back


def _told(sandbox: Sandbox) -> str:
    found = status(sandbox)
    return "" if found is None or found.state is not CaptureState.WAITING else found.detail
