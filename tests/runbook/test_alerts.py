"""What to do when an alert comes, and the monthly look at who did what."""

from __future__ import annotations

from tests.runbook.document import ORIGINAL, OURS, blocks
from tests.runbook.machine import Machine, ask


def test_backup_failed_the_error_is_in_the_log_and_a_forced_full_ends_it(host: Machine) -> None:
    away = host.database.rename(host.database.with_suffix(".away"))
    host.run("backup", "create", "--strategy", "full", code=4)
    away.rename(host.database)
    for document in (OURS, ORIGINAL):
        (block,) = blocks(document, "Backup Failed")
        with host.shell() as shell:
            pasted = shell.paste(block.text)
        assert pasted.failed == (), pasted
        assert "memory.db" in pasted.out.partition("backup-full-")[0]
    assert [backup["strategy"] for backup in host.json("backup", "list")] == ["full", "full"]


def test_rpo_breach_shows_the_scheduler_and_makes_a_backup_at_once(host: Machine) -> None:
    for n, document in enumerate((OURS, ORIGINAL), start=3):
        (block,) = blocks(document, "RPO SLA Breach")
        with host.shell() as shell:
            pasted = shell.paste(block.text)
        assert pasted.failed == (), pasted
        assert "active (running)" in pasted.out
        assert len(host.json("backup", "list")) == n


def test_rpo_breach_with_a_dead_scheduler_is_seen_and_still_backed_up(host: Machine) -> None:
    ask(host, "stop", "continuum-backup")
    (block,) = blocks(OURS, "RPO SLA Breach")
    with host.shell() as shell:
        pasted = shell.paste(block.text)
    assert [line for _, line in pasted.failed] == ["systemctl status continuum-backup"]
    assert "inactive" in pasted.out and "backup-incremental-" in pasted.out
    assert "in this process" in pasted.err
    ask(host, "start", "continuum-backup")


def test_storage_almost_full_frees_what_no_rule_keeps(host: Machine) -> None:
    for document in (OURS, ORIGINAL):
        (block,) = blocks(document, "Storage Almost Full")
        with host.shell() as shell:
            pasted = shell.paste(block.text)
        assert pasted.failed == (), pasted
    host.run("backup", "verify", host.json("backup", "list", "--limit", "1")[0]["backup_id"])


def test_access_audit_shows_who_restored_and_who_held(host: Machine) -> None:
    newest = host.json("backup", "list", "--limit", "1")[0]["backup_id"]
    host.run("backup", "restore", newest, "--target", str(host.path("/tmp/copy.db")))
    host.run("backup", "hold", newest, "--reason", "audit 2026")
    for document in (OURS, ORIGINAL):
        (block,) = blocks(document, "Access Audit")
        with host.shell() as shell:
            pasted = shell.paste(block.text)
        assert pasted.failed == (), pasted
        assert "restore" in pasted.out and "hold" in pasted.out and newest in pasted.out
    assert any(line.startswith("aws s3api get-bucket-policy") for line in host.commands())


def test_the_commands_of_the_appendix_work(host: Machine) -> None:
    newest = host.json("backup", "list", "--limit", "1")[0]["backup_id"]
    for document in (OURS, ORIGINAL):
        (block,) = blocks(document, "Useful Commands")
        host.path(place := f"/tmp/{document.parent.name}").mkdir()
        text = block.text.replace("<backup-id>", newest).replace("/path/to", place)
        with host.shell() as shell:
            pasted = shell.paste(text)
        failed = [line for _, line in pasted.failed if line != "continuum backup health"]  # it warns of the failure above
        assert all("--undo" in line for line in failed), pasted  # nothing was replaced there, so nothing is put back
    assert host.path("/tmp/backups.html").read_text().startswith("<!")
