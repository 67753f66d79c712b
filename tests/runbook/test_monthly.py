"""The monthly drill: SUCCESS when everything held, and only then."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.runbook.document import ORIGINAL, OURS, blocks
from tests.runbook.machine import Machine

DRILL = "Monthly DR Drill"


def log(host: Machine) -> list[str]:
    path = host.path("/var/log/continuum/dr-drills.log")
    return path.read_text().splitlines() if path.exists() else []


def leftovers(host: Machine) -> list[Path]:
    return [path for path in host.path("/tmp").rglob("*.db*") if path.is_file()]


def test_our_drill_runs_the_operators_checks_on_a_restored_copy_and_says_success(host: Machine) -> None:
    host.create("full")
    host.create("incremental")
    check = host.root / "check.py"
    check.write_text(
        "import os, sqlite3\n"
        "path = os.environ['CONTINUUM_DRILL_DATABASE']\n"
        f"assert path != {str(host.database)!r}\n"
        "assert sqlite3.connect(path).execute('SELECT count(*) FROM messages').fetchone()[0] > 0\n"
    )
    host.edit("backup.conf", {"drill_command": f"{sys.executable} {check}"})
    (procedure,) = blocks(OURS, DRILL)
    with host.shell() as shell:
        for number, step in procedure.steps().items():
            pasted = shell.paste(step)
            assert pasted.failed == (), pasted
            if number == 2:
                assert pasted.out.count("SUCCESS") == 1 and "command" in pasted.out
            if number == 3:
                assert "drill_rto_seconds" in pasted.out
    assert len(log(host)) == 1 and leftovers(host) == []


def test_our_drill_fails_when_the_operators_check_fails(host: Machine) -> None:
    host.edit("backup.conf", {"drill_command": "false"})
    (procedure,) = blocks(OURS, DRILL)
    with host.shell() as shell:
        drilled = shell.paste(procedure.steps()[1])
        assert [code for code, _ in drilled.failed] == [7], drilled
        assert "FAILED" in shell.paste(procedure.steps()[2]).out
    assert [("SUCCESS" in line) for line in log(host)] == [True, False]
    assert leftovers(host) == []


def test_our_drill_fails_on_damaged_backups(host: Machine) -> None:
    host.edit("backup.conf", {"drill_command": ""})
    for chunk in host.path("/var/backups/continuum/layers").rglob("*.chunk"):
        content = bytearray(chunk.read_bytes())
        content[100] ^= 1
        chunk.write_bytes(content)
    (procedure,) = blocks(OURS, DRILL)
    with host.shell() as shell:
        assert [code for code, _ in shell.paste(procedure.steps()[1]).failed] == [7]
    assert "FAILED" in log(host)[-1]


def test_the_original_block_restores_a_random_backup_to_a_test_environment(host: Machine) -> None:
    new = host.create("full")
    host.run("backup", "verify", new)
    (procedure,) = blocks(ORIGINAL, DRILL)
    with host.shell() as shell:
        pasted = shell.paste(procedure.text)
        assert pasted.failed == (), pasted
        assert shell.value("DRILL_BACKUP") == new
    assert "pytest tests/integration/" in host.commands()
    assert leftovers(host) == []
