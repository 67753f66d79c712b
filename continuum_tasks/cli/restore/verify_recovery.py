"""continuum backup verify-recovery."""

from __future__ import annotations

import click

from continuum_tasks.cli.frame import dispatch, output
from continuum_tasks.cli.frame.context import cli_context, open_runtime_of_command, shared_options
from continuum_tasks.cli.frame.table import TableColumn, print_facts, print_table
from continuum_tasks.repository.documents import to_json
from continuum_tasks.restore.verify_recovery import RecoveryProof, RecoveryVerdict, last, prove_recovery

REDUCED = 1


@click.command("verify-recovery")
@shared_options
def verify_recovery() -> None:
    """Prove the last restore or extract made on this host against its backup.

    A file that was not written since must have every page of the backup. Another one is checked by SQLite, and its
    rows are compared. `continuum backup verify-recovery`
    """
    with open_runtime_of_command() as runtime:
        made = last(runtime.site)
        there = runtime.in_region(made.region, storage=made.storage)
        repository = there.repository(made.storage)
        steps = prove_recovery(made, repository=repository, site=there.site, fan=there.fan())
        proof: RecoveryProof = dispatch.run_locally(steps, title=f"proof of {made.target}")
    if cli_context().as_json:
        output.print_document(to_json(proof))
    else:
        _show(proof)
    raise click.exceptions.Exit(REDUCED if proof.verdict is RecoveryVerdict.REDUCED else 0)


def _show(proof: RecoveryProof) -> None:
    print_facts(
        [
            (str(proof.kind), f"of {proof.backup_id}, made {output.moment(proof.at)} UTC"),
            ("database", proof.target),
            ("verdict", str(proof.verdict)),
            *(("", text) for text in proof.findings),
        ]
    )
    if proof.differences:
        output.print_text("")
        columns = [
            TableColumn(title="table", folds=True),
            TableColumn(title="backup", right=True),
            TableColumn(title="database", right=True),
        ]
        print_table(columns, [[d.table, _number(d.backup), _number(d.database)] for d in proof.differences])


def _number(n_rows: int | None) -> str:
    return "no table" if n_rows is None else str(n_rows)
