"""Scenario 1: the database is damaged; the newest good backup takes its place, and the damaged file is kept."""

from __future__ import annotations

from pathlib import Path

from continuum_tasks.sample.oracle import LogicalHash, logical_hash
from tests.runbook.document import ORIGINAL, OURS, blocks
from tests.runbook.machine import Machine, ask

SCENARIO = "Scenario 1"


def good_state(host: Machine) -> tuple[str, LogicalHash]:
    """Let the service write, back up while it does and after; the newest backup, and what SQLite alone says of that state."""
    ask(host, "start", "continuum")
    host.create("full")
    ask(host, "stop", "continuum")
    return host.create("incremental"), logical_hash(host.database)


def damage(host: Machine) -> bytes:
    """Write over pages in the middle of the database; returns what it is then."""
    with host.database.open("r+b") as file:
        file.seek(40 * 4096)
        file.write(b"\x5a" * 30 * 4096)
    return host.database.read_bytes()


def copies(host: Machine, content: bytes) -> list[Path]:
    files = [path for path in host.path("/var/lib/continuum").rglob("*") if path.is_file() and path != host.database]
    return [path for path in files if path.stat().st_size == len(content) and path.read_bytes() == content]


def test_our_blocks_bring_the_newest_state_back_and_keep_the_evidence(host: Machine) -> None:
    newest, before = good_state(host)
    ask(host, "start", "continuum")
    ask(host, "stop", "continuum")
    damaged = damage(host)
    assess, recover = blocks(OURS, SCENARIO)
    with host.shell() as shell:
        assessed = shell.paste(assess.text)
        assert [line for _, line in assessed.failed if not line.startswith("sqlite3")] == [], assessed
        assert "malformed" in assessed.out + assessed.err or "Tree" in assessed.out
        for number, step in recover.steps().items():
            pasted = shell.paste(step)
            assert pasted.failed == (), pasted
            if number == 4:
                assert logical_hash(host.database) == before
                assert pasted.out.startswith("identical") or "identical" in pasted.out
        assert shell.value("BACKUP_ID") == newest
    assert host.is_active("continuum")
    assert len(copies(host, damaged)) == 2, "the forensics copy and the quarantine"
    ask(host, "stop", "continuum")
    host.run("backup", "restore", "--undo", "--target", str(host.database))
    assert host.database.read_bytes() == damaged
    host.run("backup", "restore", "--undo", "--target", str(host.database))
    host.run("health-check")


def test_a_newest_backup_that_fails_its_proof_gives_way_to_the_newest_verified_one(host: Machine) -> None:
    good, before = good_state(host)
    host.run("backup", "verify", good)
    ask(host, "start", "continuum")
    ask(host, "stop", "continuum")
    bad = host.create("incremental")
    (chunk,) = host.path("/var/backups/continuum/layers").rglob(f"{bad}/*.chunk")
    chunk.write_bytes(chunk.read_bytes()[:-1] + b"\0")
    damage(host)
    with host.shell() as shell:
        for number, step in blocks(OURS, SCENARIO)[1].steps().items():
            assert shell.paste(step).failed == (), step
            if number == 4:
                assert logical_hash(host.database) == before
        assert shell.value("BACKUP_ID") == good
    ask(host, "stop", "continuum")


def test_the_original_blocks_work_as_they_stand(host: Machine) -> None:
    newest, before = good_state(host)
    host.run("backup", "verify", newest)
    damage(host)
    assess, identify, recover = blocks(ORIGINAL, SCENARIO)
    with host.shell() as shell:
        assert [line for _, line in shell.paste(assess.text).failed if not line.startswith("sqlite3")] == []
        assert newest in shell.paste(identify.text).out
        for number, step in recover.steps().items():
            pasted = shell.paste(step)
            assert pasted.failed == (), pasted
            if number == 4:
                assert pasted.out == "ok\n"
                assert logical_hash(host.database) == before
        assert shell.value("BACKUP_ID") == newest
    assert host.is_active("continuum")
    ask(host, "stop", "continuum")
