"""continuum backup test-storage, continuum backup reindex."""

from __future__ import annotations

import time
from dataclasses import asdict

import click

from continuum_tasks.cli.frame import output, parameters
from continuum_tasks.cli.frame.context import cli_context, configuration, open_runtime_of_command, shared_options
from continuum_tasks.cli.frame.table import TableColumn, print_facts, print_table
from continuum_tasks.errors import ContinuumError, IntegrityError
from continuum_tasks.host.reindex import Reindexed, reindex_storage
from continuum_tasks.storage.open import open_storage
from continuum_tasks.storage.probe import ProbeReport, ProbeStep, probe

Outcome = Reindexed | ContinuumError


@click.command("test-storage")
@click.argument("name", metavar="[NAME]", type=parameters.declared_name, required=False)
@shared_options
def test_storage(name: str | None) -> None:
    """Use a storage (NAME of storage.conf, else the default one) in every way a backup does, and measure it.

    Two objects are written under .probe/ and removed again.
    """
    settings = configuration().storage(name or "")
    report = probe(open_storage(settings), name=settings.name, monotonic=time.monotonic)
    if cli_context().as_json:
        output.print_document({**asdict(report), "type": settings.type.value})
        return
    columns = [TableColumn(title="step"), TableColumn(title="latency", right=True), TableColumn(title="bytes", right=True)]
    print_table([*columns, TableColumn(title="throughput", right=True)], [_step(step) for step in report.steps])
    output.print_text("")
    print_facts(_abilities(report, settings.type.value))


@click.command("reindex")
@parameters.name_option("--storage", "Only this storage [default: all of storage.conf].")
@click.option("--accept-empty", is_flag=True, help="Accept an empty storage although backups were made there.")
@shared_options
def reindex(storage: str, accept_empty: bool) -> None:
    """Rebuild this host's catalog from the manifests and verdicts in the storages.

    Damaged documents are skipped and named; the exit code is then 7.
    """
    outcomes: dict[str, Outcome] = {}
    with open_runtime_of_command() as runtime:
        settings = (runtime.config.storage(storage),) if storage else runtime.config.storages
        for name in [each.name for each in settings]:
            try:
                outcomes[name] = reindex_storage(runtime.repository(name), site=runtime.site, accept_empty=accept_empty)
            except ContinuumError as err:
                outcomes[name] = err
                output.error(err)
    for outcome in outcomes.values():
        for text in outcome.damaged if isinstance(outcome, Reindexed) else ():
            output.warn(text)
    _show(outcomes)
    raise click.exceptions.Exit(next((code for code in map(_code, outcomes.values()) if code), 0))


def _code(outcome: Outcome) -> int:
    if isinstance(outcome, ContinuumError):
        return outcome.exit_code
    return IntegrityError.exit_code if outcome.damaged else 0


def _show(outcomes: dict[str, Outcome]) -> None:
    if cli_context().as_json:
        output.print_document([{"storage": name, **_fields(outcome)} for name, outcome in outcomes.items()])
        return
    columns = [TableColumn(title="storage"), TableColumn(title="backups", right=True), TableColumn(title="damaged", right=True)]
    print_table(
        [*columns, TableColumn(title="error", folds=True)], [[name, *_row(outcome)] for name, outcome in outcomes.items()]
    )


def _fields(outcome: Outcome) -> dict[str, object]:
    if isinstance(outcome, ContinuumError):
        return {"error": output.error_fields(outcome)}
    return {"n_backups": len(outcome.backups), "damaged": list(outcome.damaged)}


def _row(outcome: Outcome) -> list[str]:
    if isinstance(outcome, ContinuumError):
        return ["", "", type(outcome).__name__]
    return [str(len(outcome.backups)), str(len(outcome.damaged)), ""]


def _step(step: ProbeStep) -> list[str]:
    rate = f"{output.size(step.n_bytes / max(step.seconds, 1e-9))}/s" if step.n_bytes else ""
    return [step.name, f"{1000 * step.seconds:.1f} ms", output.size(step.n_bytes) if step.n_bytes else "", rate]


def _abilities(report: ProbeReport, kind: str) -> list[tuple[str, str]]:
    can = report.capabilities
    free = "unlimited, as far as it shows" if can.free_bytes is None else output.size(can.free_bytes)
    return [
        ("storage", f"{report.storage} ({kind})"),
        ("up / down", f"{output.size(report.upload_bytes_per_second)}/s / {output.size(report.download_bytes_per_second)}/s"),
        ("conditional writes", "yes" if can.conditional_put else "no"),
        ("versioning", "yes" if can.versioning else "no"),
        ("object lock", "yes" if can.object_lock else "no"),
        ("free space", free),
    ]
