"""Scenario 2: rows, or a table, are deleted; they come back while the service goes on writing."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest

from tests.runbook.document import ORIGINAL, OURS, Block, blocks
from tests.runbook.machine import Machine, ask

SCENARIO = "Scenario 2"


def with_time(block: Block, at: datetime) -> str:
    """Return the block as the operator pastes it: with the time of this deletion."""
    return block.text.replace("2025-12-06T14:30:00Z", at.strftime("%Y-%m-%dT%H:%M:%S.%fZ"))


@pytest.fixture
def backed_up(host: Machine) -> datetime:
    """A service that runs and was backed up; returns a time after the backup and before the deletion."""
    ask(host, "start", "continuum")
    host.create("full")
    return datetime.now(UTC)


def last_commit(host: Machine) -> int:
    return int(host.sql("SELECT max(sequence) FROM thinking_snapshots")[0][0])


def test_our_blocks_bring_rows_back_into_the_database_that_the_service_writes(host: Machine, backed_up: datetime) -> None:
    gone = host.sql("SELECT * FROM messages WHERE id <= 40 AND id NOT IN (SELECT message_id FROM decisions)")
    before = host.sql("SELECT * FROM messages WHERE id <= 100 ORDER BY id")
    assert len(gone) > 10
    host.sql("DELETE FROM messages WHERE id <= 40 AND id NOT IN (SELECT message_id FROM decisions)")
    host.sql("UPDATE messages SET content = 'edited since' WHERE id = 90")
    look, recover, _exact, _whole = blocks(OURS, SCENARIO)
    with host.shell() as shell:
        assert shell.paste(with_time(look, backed_up)).failed == ()
        n_commits = last_commit(host)
        for number, step in Block(headings=(), text=with_time(recover, backed_up)).steps().items():
            pasted = shell.paste(step)
            assert pasted.failed == (), pasted
            if number == 1:
                assert str(len(gone)) in pasted.out
                assert host.sql("SELECT count(*) FROM messages WHERE id <= 40") != [(40,)], "a dry run"
        assert shell.value("BACKUP_ID") in host.run("backup", "apply-retention", "--dry-run").out
    now = host.sql("SELECT * FROM messages WHERE id <= 100 ORDER BY id")
    assert [row for row in now if row[0] != 90] == [row for row in before if row[0] != 90]
    assert host.sql("SELECT content FROM messages WHERE id = 90") == [("edited since",)]
    assert host.is_active("continuum") and last_commit(host) > n_commits, "the service never stopped"
    assert host.sql("PRAGMA foreign_key_check") == []
    assert "held" in host.run("backup", "apply-retention", "--dry-run").out


def test_our_blocks_for_the_whole_database_go_back_to_before_the_deletion(host: Machine, backed_up: datetime) -> None:
    tables = host.sql("SELECT count(*) FROM sqlite_master")
    host.sql("DROP TABLE concept_evolution")
    _look, _recover, _exact, whole = blocks(OURS, SCENARIO)
    with host.shell() as shell:
        shell.paste(f'DELETION_TIME="{backed_up.isoformat()}"')
        pasted = shell.paste(whole.text)
        assert pasted.failed == (), pasted
    assert host.is_active("continuum")
    assert host.sql("SELECT count(*) FROM sqlite_master") == tables
    assert host.sql("PRAGMA integrity_check") == [("ok",)]


def test_the_original_blocks_bring_back_a_dropped_table(host: Machine, backed_up: datetime) -> None:
    before = host.sql("SELECT * FROM concept_evolution WHERE id <= 40 ORDER BY id")
    host.run("backup", "verify", host.json("backup", "list", "--limit", "1")[0]["backup_id"])
    ask(host, "stop", "continuum")  # as the text asks
    host.sql("DROP TABLE concept_evolution")
    (recover,) = blocks(ORIGINAL, SCENARIO)
    with host.shell() as shell:
        pasted = shell.paste(with_time(recover, backed_up).replace("table_name", "concept_evolution"))
        assert pasted.failed == (), pasted
    assert "identical" in pasted.out
    assert host.sql("SELECT * FROM concept_evolution WHERE id <= 40 ORDER BY id") == before
    assert host.is_active("continuum")


def test_our_block_for_captured_commits_brings_back_all_that_the_deletion_took(host: Machine) -> None:
    """The operator finds the deletion's own commit, and what was written a moment before it comes back too."""
    ask(host, "start", "continuum")
    host.run("backup", "enable-wal", "memory", "--yes")
    host.run("backup", "create", "--strategy", "continuous")
    (n_tenants,) = host.sql("SELECT count(*) FROM tenants")[0]
    host.sql("INSERT INTO tenants VALUES ('late', 'Late', 'free', '{}', '2026')")
    host.sql("DELETE FROM tenants WHERE tenant_id = 'late'")
    missed_at = datetime.now(UTC)
    _look, _recover, exact, _whole = blocks(OURS, SCENARIO)
    steps = Block(headings=(), text=exact.text).steps()
    with host.shell() as shell:
        shell.paste(f'DELETION_TIME="{missed_at.isoformat()}"\nTABLE=tenants')
        pasted = shell.paste(steps[1])
        assert pasted.failed == (), pasted
        last_good = deletion_of(host, missed_at, f"{n_tenants + 1} rows of tenants") - 1
        pasted = shell.paste(steps[2].replace("48209", str(last_good)))
        assert pasted.failed == (), pasted
        assert pasted.out.count(f"{n_tenants + 1} rows of tenants") == pasted.out.count(f"{n_tenants} rows of tenants") == 1
        pasted = shell.paste(steps[3])
        assert pasted.failed == (), pasted
    assert host.sql("SELECT name FROM tenants WHERE tenant_id = 'late'") == [("Late",)]
    assert host.is_active("continuum")
    host.run("backup", "capture", "stop")


def deletion_of(host: Machine, missed_at: datetime, before: str) -> int:
    """Return the first of the last commits after which `extract` does not say any more what it said `before`."""
    until = missed_at + timedelta(seconds=1)  # a commit is observed a moment after it was made
    for _ in range(300):
        found = host.json("backup", "history", "--limit", "200")["commits"]
        if found and datetime.fromisoformat(found[0]["observed_at"]) > until:
            break
        time.sleep(0.2)
    numbers = sorted(one["number"] for one in found if datetime.fromisoformat(one["observed_at"]) <= until)[-60:]
    for number in reversed(numbers):
        if before in host.run("backup", "extract", "--commit", str(number), "--table", "tenants").out:
            return int(number) + 1
    raise AssertionError(f"none of the commits {numbers} has the row")
