"""Drill a backup: restore it to scratch, prove it, put the operator's own checks to it, and measure how long it all took.

A test restore is the same without the operator's checks. Both leave a verdict and a record beside the backup; a drill also
leaves a line in the drill log. The scratch directory goes whatever happens; after a kill, with the next run that needs one.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from continuum_tasks.assembly.fan_out import Fan
from continuum_tasks.config import Config
from continuum_tasks.errors import ConfigError, ContinuumError, IntegrityError, ObjectMissing, ProofFailed
from continuum_tasks.host import measure
from continuum_tasks.host.site import HostContext
from continuum_tasks.model import Backup, DrillRecord, Level, Manifest, Progress, Rehearsal
from continuum_tasks.repository.repository import Repository
from continuum_tasks.verify import operator_check, verify
from continuum_tasks.verify.operator_check import objection
from continuum_tasks.verify.stopwatch import Stopwatch

OUTPUTS = "drills"
N_OUTPUTS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillRequest:
    """Which backup is rehearsed how."""

    backup: Backup
    kind: Rehearsal


@dataclass(frozen=True, slots=True, kw_only=True)
class Drilled:
    """A rehearsal that passed. `remarks` is what does not fail it; `output` the file with what drill_command said, or empty."""

    backup: Backup
    record: DrillRecord
    remarks: tuple[str, ...]
    output: str


@dataclass(slots=True, kw_only=True)
class _Rehearsal:
    """One run: what it is given, and how far it came, which is what its record says when it did not get to its end."""

    request: DrillRequest
    config: Config
    repository: Repository
    site: HostContext
    fan: Fan
    watch: Stopwatch
    rto_seconds: float = 0.0
    remarks: tuple[str, ...] = ()
    output: str = ""


def rehearse(
    request: DrillRequest, *, config: Config, repository: Repository, site: HostContext, fan: Fan
) -> Generator[Progress, None, Drilled]:
    """Rehearse a restore; yields progress. One that fails is recorded too, then raised.

    Raises what a restore raises, ProofFailed for what the operator's checks found, ConfigError when the drill log cannot be
    written (before any work).
    """
    watch = Stopwatch(site.clock.monotonic)
    one = _Rehearsal(request=request, config=config, repository=repository, site=site, fan=fan, watch=watch)
    with _log(request, config.drill_log, site=site) as say:
        try:
            yield from watch.follow(_rehearse(one))
        except ContinuumError as err:
            record = _record(one, findings=(err.message.removeprefix(f"backup {request.backup.id}: "),))
            say(record)
            with suppress(ContinuumError):  # the storage may be what failed; the log and the catalog know by then
                _keep(one, record)
            raise
        record = _record(one, findings=())
        _keep(one, record)
        say(record)
    return Drilled(backup=request.backup, record=record, remarks=one.remarks, output=one.output)


def _rehearse(one: _Rehearsal) -> Generator[Progress, None, None]:
    yield Progress(phase="plan")
    chain = one.repository.read_chain(one.request.backup.id)
    with one.site.scratch() as work:
        restored = work / verify.RESTORED
        evidence = yield from _proven(one, chain, restored)
        one.rto_seconds, one.remarks = one.watch.elapsed_seconds, evidence.findings
        if one.request.kind is Rehearsal.DRILL:
            yield from _own_checks(one, chain[-1].backup, restored)


def _proven(one: _Rehearsal, chain: tuple[Manifest, ...], restored: Path) -> Generator[Progress, None, verify.VerifyEvidence]:
    """Restore, prove and check, and store the verdict as a verification does."""
    site, repository = one.site, one.repository
    begun, backup = site.clock.monotonic(), chain[-1].backup
    request = verify.VerifyRequest(backup_id=backup.id, level=Level.RESTORE)
    try:
        evidence = yield from verify.restore_to_scratch(chain, restored, repository=repository, site=site, fan=one.fan)
    except (IntegrityError, ObjectMissing) as err:
        failure = yield from verify.judged(err, chain, repository=repository, site=site)
        verify.attest(backup, verify.verdict(request, site, begun, failure=failure), repository=repository, site=site)
        raise failure from err.__cause__
    verify.attest(backup, verify.verdict(request, site, begun, evidence=evidence), repository=repository, site=site)
    return evidence


def _own_checks(one: _Rehearsal, backup: Backup, restored: Path) -> Generator[Progress, None, None]:
    """Put the questions of [drill] and its command to the restored database. Raises ProofFailed with all that was found."""
    settings, wrong = one.config.drill, list[str]()
    for question in settings.invariants:
        if question.database in ("", backup.database):
            yield Progress(phase="sql", detail=question.name)
            limit = settings.drill_time_limit_seconds
            found = objection(restored, question.sql, limit_seconds=limit, monotonic=one.site.clock.monotonic)
            wrong += [f"sql.{question.name}: {found}"] if found else []
    if settings.drill_command:
        found = yield from _command(one, backup, restored)
        wrong += [found] if found else []
    if wrong:
        hint = f"see {one.output}" if one.output else "the backup restores as it was made: examine its source and [drill]"
        raise ProofFailed(f"backup {backup.id}: {'; '.join(wrong)}", hint=hint)


def _command(one: _Rehearsal, backup: Backup, restored: Path) -> Generator[Progress, None, str]:
    settings, output = one.config.drill, restored.with_name("output")
    asked = operator_check.OperatorCommand(
        words=shlex.split(settings.drill_command),
        additions={
            "CONTINUUM_DRILL_DATABASE": str(restored),
            "CONTINUUM_DRILL_NAME": backup.database,
            "CONTINUUM_DRILL_BACKUP_ID": backup.id,
        },
        directory=settings.drill_directory or one.config.directory,
        limit_seconds=settings.drill_time_limit_seconds,
        output=output,
    )
    try:
        return (yield from operator_check.run_operator_check(asked, monotonic=one.site.clock.monotonic))
    finally:
        one.output = str(_keep_output(operator_check.tail(output), backup, site=one.site))


def _keep_output(said: bytes, backup: Backup, *, site: HostContext) -> Path:
    """Keep what the command said under the state directory (0600), that of the last 50 drills."""
    directory = site.state_dir / OUTPUTS
    directory.mkdir(mode=0o700, exist_ok=True)
    path = directory / f"{site.clock.now().astimezone(UTC):%Y%m%dT%H%M%S%fZ}-{backup.id}.log"
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
        file.write(said)
    for old in sorted(directory.glob("*.log"))[:-N_OUTPUTS]:
        old.unlink(missing_ok=True)
    return path


def _record(one: _Rehearsal, *, findings: tuple[str, ...]) -> DrillRecord:
    return DrillRecord(
        backup_id=one.request.backup.id,
        database=one.request.backup.database,
        passed=not findings,
        at=one.site.clock.now(),
        rto_seconds=one.rto_seconds,
        phases=one.watch.costs,
        findings=findings,
        host=one.site.host,
        kind=one.request.kind,
    )


def _keep(one: _Rehearsal, record: DrillRecord) -> None:
    """Keep a record in the catalog, so that the timetable knows, then beside the backup."""
    backup, site = one.request.backup, one.site
    site.catalog.drilled(backup.storage, record)
    measure.measure_drill(record, storage=backup.storage, site=site)
    one.repository.put_drill(record, key_id=backup.key_id)


@contextmanager
def _log(request: DrillRequest, path: Path, *, site: HostContext) -> Iterator[Callable[[DrillRecord], None]]:
    """Give a drill its line in the log: what its record says, or FAILED and why when it ended before that was said."""
    if request.kind is not Rehearsal.DRILL:
        yield lambda record: None
        return
    descriptor = open_for_appending(path)
    said: list[DrillRecord] = []

    def say(record: DrillRecord) -> None:
        append_drill_line(descriptor, line(record, storage=request.backup.storage))
        said.append(record)

    try:
        yield say
    finally:
        if not said:
            reason = f"ended before its end: {_reason(sys.exc_info()[1])}"
            text = line_of_no_record(request.backup.id, at=site.clock.now(), reason=reason)
            append_drill_line(descriptor, text)
        os.close(descriptor)


def _reason(err: BaseException | None) -> str:
    if isinstance(err, ContinuumError):
        return err.message
    return "stopped" if err is None or isinstance(err, GeneratorExit) else f"{type(err).__name__} {err}"


def open_for_appending(path: Path) -> int:
    """Return a descriptor that appends to the log (made 0600 when missing). Raises ConfigError before any work is done."""
    try:
        path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    except OSError as err:
        reason = (err.strerror or type(err).__name__).lower()
        raise ConfigError(f"{path}: the drill log cannot be written: {reason}", hint="set drill_log in backup.conf") from err


def append_drill_line(descriptor: int, line: str) -> None:
    """Append one line, durable on return; line breaks inside it become spaces."""
    os.write(descriptor, " ".join(line.split()).encode("utf-8", "backslashreplace") + b"\n")
    os.fsync(descriptor)


def line(record: DrillRecord, *, storage: str) -> str:
    """Return what the log says about a drill."""
    head = f"DR Drill {_stamp(record.at)}: {'SUCCESS' if record.passed else 'FAILED'} {record.backup_id}"
    where = f"(database {record.database}, storage {storage}, host {record.host})"
    phases = ", ".join(f"{cost.phase} {cost.seconds:.2f} s" for cost in record.phases)
    if record.passed:
        return f"{head} {where}: ready after {record.rto_seconds:.2f} s ({phases})"
    return f"{head} {where}: {'; '.join(record.findings)} ({phases})"


def line_of_no_record(backup_id: str, *, at: datetime, reason: str) -> str:
    """Return what the log says about a drill that ended before it could be recorded."""
    return f"DR Drill {_stamp(at)}: FAILED {backup_id}: {reason}"


def _stamp(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
