"""The daily checklist: on a good day every line succeeds; on a bad one the line that looks finds it."""

from __future__ import annotations

from tests.runbook.document import ORIGINAL, OURS, blocks
from tests.runbook.machine import Machine

CHECKLIST = "Daily Verification Checklist"


def test_our_checklist_verifies_the_newest_backup_and_restores_it(host: Machine) -> None:
    host.create("full")
    newest = host.create("incremental")
    (checklist,) = blocks(OURS, CHECKLIST)
    with host.shell() as shell:
        for number, step in checklist.steps().items():
            pasted = shell.paste(step)
            assert pasted.failed == (), pasted
            if number == 1:
                assert pasted.out.count(f"{newest} in storage local") == 2
            if number == 2:
                assert host.json("backup", "list", "--verified-only")[0]["backup_id"] == newest
    records = host.json("backup", "metrics", "verify_duration_seconds")
    assert sum(series["n"] for series in records) >= 2


def test_the_original_checklist_works_as_it_stands(host: Machine) -> None:
    newest = host.create("full")
    (checklist,) = blocks(ORIGINAL, CHECKLIST)
    with host.shell() as shell:
        for number, step in checklist.steps().items():
            pasted = shell.paste(step)
            assert pasted.failed == (), pasted
            if number == 1:
                assert pasted.out.startswith("Last backup") and pasted.out.count("\n") == 1
    assert host.json("backup", "list", "--verified-only")[0]["backup_id"] == newest


def test_a_damaged_newest_backup_is_found_by_the_checklist(host: Machine) -> None:
    newest = host.create("full")
    chunk = next(host.path("/var/backups/continuum/layers").rglob(f"{newest}/*.chunk"))
    content = bytearray(chunk.read_bytes())
    content[len(content) // 2] ^= 1
    chunk.write_bytes(content)
    (checklist,) = blocks(OURS, CHECKLIST)
    with host.shell() as shell:
        found = shell.paste(checklist.steps()[2])
    assert [code for code, _ in found.failed] == [7] and newest in found.out + found.err
    with host.shell() as shell:
        assert "continuum backup health" in [line for _, line in shell.paste(checklist.steps()[1]).failed]
    assert host.json("backup", "list")[0]["failed_at"] is not None
