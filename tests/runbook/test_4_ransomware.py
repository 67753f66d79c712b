"""Scenario 4: rows are encrypted by an intruder; the watch notices, and a wiped machine gets the last clean state back."""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from continuum_tasks.sample.oracle import LogicalHash, logical_hash
from tests.runbook.conftest import install, installed
from tests.runbook.document import ORIGINAL, OURS, blocks
from tests.runbook.machine import Machine, ask

SCENARIO = "Scenario 4"
KEY = "backup-key-v1.key"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """A machine after the attack, and what was so before it."""

    host: Machine
    at: datetime
    clean: str
    state: LogicalHash
    encrypted: str


def encrypt(path: Path) -> None:
    """Do as ransomware inside the service does: every text becomes bytes of the same length that mean nothing."""
    noise = random.Random(1)
    columns = {"messages": "content", "decisions": "rationale", "thinking_snapshots": "thoughts", "code_memories": "source"}
    with closing(sqlite3.connect(path)) as connection:
        connection.create_function("noise", 1, lambda text: noise.randbytes(len(str(text).encode())))
        for table, column in columns.items():
            connection.execute(f"UPDATE {table} SET {column} = noise({column})")
        connection.commit()


@pytest.fixture(scope="module")
def attack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attack]:
    place = tmp_path_factory.mktemp("attack")
    with installed(place / "machine", size_bytes=4 << 20) as host:
        shutil.copy(host.path("/etc/continuum/keys") / KEY, host.path("/media/usb"))
        ask(host, "start", "continuum")
        host.create("full")
        ask(host, "stop", "continuum")
        clean, state = host.create("incremental"), logical_hash(host.database)
        host.run("backup", "verify", clean)
        at = datetime.now(UTC)
        encrypt(host.database)
        encrypted = host.create("incremental")
        ask(host, "stop", "continuum-backup")
        yield Attack(host=host, at=at, clean=clean, state=state, encrypted=encrypted)


@pytest.fixture
def wiped(attack: Attack) -> Machine:
    """The machine after a new system was put on it: only the storage, on another disk, and the stick with the key are left."""
    host = attack.host
    for name in list(host.services):
        ask(host, "stop", name)
    for name in ("/etc/continuum", "/var/lib/continuum", "/var/log/continuum", "/tmp"):
        shutil.rmtree(host.path(name), ignore_errors=True)
    for name in ("/var/lib/continuum", "/var/log/continuum", "/var/tmp", "/tmp"):
        host.path(name).mkdir(parents=True, exist_ok=True)
    key = str(host.path("/media/usb") / KEY)
    install(host, "--storage", str(host.path("/var/backups/continuum")), "--key-file", key)
    return host


def test_the_watch_marks_the_encrypted_backup_and_holds_the_clean_one_though_both_verify(attack: Attack) -> None:
    host = attack.host
    (found,) = host.json("backup", "list", "--status", "suspect")
    assert found["backup_id"] == attack.encrypted
    assert any(reason.startswith("anomaly: ") for reason in found["suspect_reasons"])
    host.run("backup", "verify", attack.encrypted)  # verified is not clean
    assert host.run("backup", "health", code=2).out.count(attack.encrypted)
    kept = host.json("backup", "apply-retention", "--dry-run")[0]["decisions"]
    assert any("held" in " ".join(one["reasons"]) for one in kept if one["backup_id"] == attack.clean)
    assert "anomal" in host.run("backup", "create", "--strategy", "full", code=10).err


def test_our_blocks_bring_a_wiped_machine_back_to_the_last_clean_state(attack: Attack, wiped: Machine) -> None:
    search, look, recover = blocks(OURS, SCENARIO)
    with wiped.shell() as shell:
        found = shell.paste(search.text.replace("2025-12-06T12:00:00Z", attack.at.isoformat()))
        assert found.failed == ()
        suspect, _, clean = found.out.rpartition("BACKUP")
        assert attack.encrypted in suspect and attack.clean in clean and attack.encrypted not in clean
        looked = shell.paste(look.text.replace("backup-full-20251206-010000", attack.clean))
        assert looked.failed == (), looked
        assert not wiped.database.exists()
        for number, step in recover.steps().items():
            pasted = shell.paste(step)
            assert pasted.failed == () or (number, pasted.failed) == (7, ((1, "continuum backup health"),)), pasted
            if number == 4:
                assert logical_hash(wiped.database) == attack.state
                assert not Path(shell.value("SCRATCH")).exists()
    assert wiped.is_active("continuum")
    newest = wiped.json("backup", "list", "--limit", "1")[0]
    assert (newest["strategy"], newest["status"]) == ("full", "completed"), newest
    assert wiped.run("backup", "health", code=None).out.startswith("Last backup")
    assert any(line.startswith("clamscan -r") for line in wiped.commands())


def test_the_original_blocks_restore_the_clean_backup_onto_a_wiped_machine(attack: Attack, wiped: Machine) -> None:
    (recover,) = blocks(ORIGINAL, SCENARIO)
    with wiped.shell() as shell:
        for number, step in recover.steps().items():
            text = step.replace("2025-12-06T12:00:00Z", attack.at.isoformat())
            pasted = shell.paste(text.replace("backup-full-20251206-010000", attack.clean))
            assert pasted.failed == (), pasted
            if number == 1:
                assert attack.clean in pasted.out and attack.encrypted not in pasted.out
            if number == 3:
                assert logical_hash(wiped.database) == attack.state
    assert wiped.is_active("continuum")
