"""Kinds of work: for each the word that job rows keep, its arguments, task, queue, priority and words for the audit log.

What rows keep never changes: the words of kinds, the names of arguments, the names of tasks. An argument that is added gets
a default, so that older rows decode, and one that has its default is not written, so that older versions decode the row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any, TypeVar

from continuum_tasks.errors import JobFailed, NewerFormat
from continuum_tasks.host import routing
from continuum_tasks.host.jobs import JsonValue
from continuum_tasks.model import BackupId, CommitRef, Level, Strategy, TimelineId
from continuum_tasks.repository.documents import from_json, to_json, unknown_fields

A = TypeVar("A", bound="JobArguments")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobArguments:
    """What rows of every kind may say.

    `asked_by`: the user whose command queued it, empty = the timetable. `debug`: keep notes of what was decided. `by_command`:
    a command did it in its own process, so nobody claims the row.
    """

    asked_by: str = ""
    debug: bool = False
    by_command: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateBackup(JobArguments):
    """Back a database up; an empty `storage` is the one the database is configured for."""

    database: str
    strategy: Strategy
    storage: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreBackup(JobArguments):
    """Restore a backup, or the state after a commit (0 = the backup's own), to a path of this host.

    `online`: write it into the live file there, `wait_writers`: however long its writers wait. `database` is the backup's.
    """

    backup_id: BackupId
    storage: str
    target: str
    overwrite: bool
    verify: bool
    region: str = ""
    commit: int = 0
    timeline: str = ""
    online: bool = False
    wait_writers: bool = False
    database: str = ""

    @property
    def point(self) -> CommitRef | None:
        """Return the commit whose state is wanted, None for the backup's own."""
        return CommitRef(timeline=TimelineId(self.timeline), number=self.commit) if self.commit else None


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyBackup(JobArguments):
    """Prove a backup from its storage; `each_link`: also the stored bytes of every link are read."""

    backup_id: BackupId
    storage: str
    level: Level
    each_link: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RunTestRestore(JobArguments):
    """Restore a backup to scratch, prove it and measure."""

    backup_id: BackupId
    storage: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDrill(JobArguments):
    """As a test restore, with the operator's own checks and a line in the drill log."""

    backup_id: BackupId
    storage: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplyRetention(JobArguments):
    """Expire what is not kept of one database in one storage; `by` is who answers for it."""

    database: str
    storage: str
    aggressive: bool
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CompactSegments(JobArguments):
    """Merge the captured segments of one database in one storage."""

    database: str
    storage: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProveCapture(JobArguments):
    """Compare the state that capture has read from a live database with what was captured and backed up."""

    database: str
    storage: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditWords:
    """A kind in the audit log: the verb, the arguments that name its subject (joined by @), those that are its details.

    `only_failures`: the action notes by itself what it did, so the row's line only says that it could not.
    """

    action: str
    subject: tuple[str, ...]
    details: tuple[str, ...] = ()
    only_failures: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class JobKind:
    """One kind of work. `arguments` is None for parts of a fan-out: theirs are the units of `assembly`.

    `queue` names its queue on a host. `audit` is None where `unaudited` says why. `recurs`: while nobody did it the timetable
    finds it due again, so a row of the timetable needs no second attempt. `anywhere`: the storage holds all it needs and gets
    the verdict, so its message carries the arguments too, and a machine that is told to serve this host's queue can do it.
    """

    word: str
    task: str
    arguments: type[JobArguments] | None
    queue: Callable[[str], str]
    priority: int
    recurs: bool = False
    anywhere: bool = False
    audit: AuditWords | None = None
    unaudited: str = ""


CREATE_BACKUP = JobKind(
    word="create_backup",
    task="continuum.create_backup",
    arguments=CreateBackup,
    queue=routing.agent_queue,
    priority=routing.BACKUP_PRIORITY,
    audit=AuditWords(action="create", subject=("database",), details=("strategy", "storage")),
)
RESTORE_BACKUP = JobKind(
    word="restore_backup",
    task="continuum.restore_backup",
    arguments=RestoreBackup,
    queue=routing.agent_queue,
    priority=routing.RESTORE_PRIORITY,
    audit=AuditWords(action="restore", subject=("target",), details=("backup_id", "storage")),
)
VERIFY_BACKUP = JobKind(
    word="verify_backup",
    task="continuum.verify_backup",
    arguments=VerifyBackup,
    queue=routing.verify_queue,
    priority=routing.VERIFY_PRIORITY,
    anywhere=True,
    audit=AuditWords(action="verify", subject=("backup_id",), details=("level", "storage")),
)
TEST_RESTORE = JobKind(
    word="test_restore",
    task="continuum.test_restore",
    arguments=RunTestRestore,
    queue=routing.verify_queue,
    priority=routing.VERIFY_PRIORITY,
    recurs=True,  # one that dies with its worker leaves no record
    audit=AuditWords(action="test-restore", subject=("backup_id",), details=("storage",)),
)
RUN_DRILL = JobKind(
    word="run_drill",
    task="continuum.run_drill",
    arguments=RunDrill,
    queue=routing.verify_queue,
    priority=routing.VERIFY_PRIORITY,
    recurs=True,
    audit=AuditWords(action="drill", subject=("backup_id",), details=("storage",)),
)
APPLY_RETENTION = JobKind(
    word="apply_retention",
    task="continuum.apply_retention",
    arguments=ApplyRetention,
    queue=routing.control_queue,
    priority=routing.LOW_PRIORITY,
    audit=AuditWords(action="apply-retention", subject=("database", "storage"), details=("storage",), only_failures=True),
)
COMPACT_SEGMENTS = JobKind(
    word="compact_segments",
    task="continuum.compact_segments",
    arguments=CompactSegments,
    queue=routing.control_queue,
    priority=routing.LOW_PRIORITY,
    audit=AuditWords(action="compact", subject=("database",), details=("storage",)),
)
PROVE_CAPTURE = JobKind(
    word="prove_capture",
    task="continuum.prove_capture",
    arguments=ProveCapture,
    queue=routing.verify_queue,  # it takes as long as a verification; a machine that only helps there has no such row
    priority=routing.VERIFY_PRIORITY,
    recurs=True,
    audit=AuditWords(action="prove", subject=("database",), details=("storage",)),
)
SEAL_CHUNK = JobKind(
    word="seal_chunk",
    task="continuum.seal_chunk",
    arguments=None,
    queue=routing.transfer_queue,
    priority=routing.BACKUP_PRIORITY,
    unaudited="part of a backup, which is noted as a whole",
)
FETCH_CHUNK = JobKind(
    word="fetch_chunk",
    task="continuum.fetch_chunk",
    arguments=None,
    queue=routing.transfer_queue,
    priority=routing.RESTORE_PRIORITY,
    unaudited="part of a restore, which is noted as a whole",
)
JOB_KINDS: Mapping[str, JobKind] = {
    kind.word: kind
    for kind in (
        *(CREATE_BACKUP, RESTORE_BACKUP, VERIFY_BACKUP, TEST_RESTORE, RUN_DRILL, APPLY_RETENTION, COMPACT_SEGMENTS),
        *(PROVE_CAPTURE, SEAL_CHUNK, FETCH_CHUNK),
    )
}
_KIND_OF = {kind.arguments: kind for kind in JOB_KINDS.values() if kind.arguments is not None}


def kind_of(arguments: JobArguments) -> JobKind:
    """Return the kind whose arguments these are."""
    return _KIND_OF[type(arguments)]


def encode_arguments(arguments: JobArguments) -> dict[str, JsonValue]:
    """Return arguments as a row keeps them: without those that have their defaults."""
    given = [one.name for one in fields(arguments) if one.default is MISSING or getattr(arguments, one.name) != one.default]
    return {name: to_json(getattr(arguments, name)) for name in given}


def decode_arguments(arguments: type[A], args: Mapping[str, Any], *, row: str) -> A:
    """Return what a row says; `row` names it in errors. Raises NewerFormat for an argument that is unknown here, JobFailed."""
    check_known(arguments, args, row=row)
    try:
        decoded: A = from_json(arguments, dict(args))
    except (ValueError, TypeError, KeyError) as err:
        raise JobFailed(f"{row}: its arguments are not as they should be ({err})", hint="queue it again") from err
    return decoded


def check_known(arguments: type[Any], args: Mapping[str, Any], *, row: str) -> None:
    """Raise NewerFormat for an argument that is not known here: without it other work would be done than was asked for."""
    unknown = list(unknown_fields(arguments, dict(args)))
    if unknown:
        raise NewerFormat(
            f"{row}: its argument {unknown[0]!r} was written by a newer version",
            hint="upgrade continuum where the workers of this host run, and start them again",
        )
