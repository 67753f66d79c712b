"""Scenario 2: rows, or a table, are deleted; they come back while the service goes on writing."""

from __future__ import annotations

from datetime import UTC, datetime

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
