"""continuum backup verify-recovery."""

from __future__ import annotations

import click

from continuum_tasks.cli.frame import dispatch, output
from continuum_tasks.cli.frame.context import asked, opened, shared
from continuum_tasks.cli.frame.table import Column, facts, table
from continuum_tasks.repository.documents import to_json
from continuum_tasks.restore import verify_recovery as action

REDUCED = 1


@click.command("verify-recovery")
@shared
def verify_recovery() -> None:
    """Prove the last restore or extract made on this host against its backup.

    A file nobody wrote to since must have every page of the backup. One that was written since is checked by SQLite, and its
    rows are compared. `continuum backup verify-recovery`
    """
    with opened() as runtime:
        made = action.last(runtime.site)
        there = runtime.in_region(made.region, storage=made.storage)
        repository = there.repository(made.storage)
        steps = action.run(made, repository=repository, site=there.site, fan=there.fan())
        proof: action.Proof = dispatch.run_here(steps, title=f"proof of {made.target}")
    if asked().as_json:
        output.document(to_json(proof))
    else:
        _show(proof)
    raise click.exceptions.Exit(REDUCED if proof.verdict is action.Verdict.REDUCED else 0)


def _show(proof: action.Proof) -> None:
    facts(
        [
            (str(proof.kind), f"of {proof.backup_id}, made {output.moment(proof.at)} UTC"),
            ("database", proof.target),
            ("verdict", str(proof.verdict)),
            *(("", text) for text in proof.findings),
        ]
    )
    if proof.differences:
        output.say("")
        columns = [Column(title="table", folds=True), Column(title="backup", right=True), Column(title="database", right=True)]
        table(columns, [[d.table, _number(d.backup), _number(d.database)] for d in proof.differences])


def _number(n_rows: int | None) -> str:
    return "no table" if n_rows is None else str(n_rows)
