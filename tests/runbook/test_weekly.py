"""The weekly maintenance window, by hand."""

from __future__ import annotations

from tests.runbook.document import ORIGINAL, OURS, blocks
from tests.runbook.machine import Machine

WEEKLY = "Weekly Maintenance"


def test_our_procedure_leaves_every_backup_of_the_week_proven(host: Machine) -> None:
    ids = {host.create("full"), host.create("incremental")}
    (procedure,) = blocks(OURS, WEEKLY)
    with host.shell() as shell:
        for number, step in procedure.steps().items():
            pasted = shell.paste(step)
            assert pasted.failed == (), pasted
            if number == 5:
                assert "memory" in pasted.out
    listed = host.json("backup", "list")
    assert ids < {backup["backup_id"] for backup in listed}, "nothing young expires"
    assert [backup["verified"] for backup in listed] == [True] * 3 or {backup["verified"] for backup in listed} == {"yes"}


def test_the_original_procedure_works_as_it_stands(host: Machine) -> None:
    (procedure,) = blocks(ORIGINAL, WEEKLY)
    with host.shell() as shell:
        pasted = shell.paste(procedure.text)
    assert pasted.failed == (), pasted


def test_a_bad_backup_stops_the_procedure_at_its_second_step(host: Machine) -> None:
    bad = host.create("full")
    next(host.path("/var/backups/continuum/layers").rglob(f"{bad}/*.chunk")).unlink()
    (procedure,) = blocks(OURS, WEEKLY)
    with host.shell() as shell:
        found = shell.paste(procedure.steps()[2])
    assert [code for code, _ in found.failed] in ([6], [7]) and bad in found.out + found.err
