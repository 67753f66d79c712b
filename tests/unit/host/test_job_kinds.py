"""Kinds of work: rows of every version decode for ever, and every kind has all that somebody asks of it."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from typing import Any

import pytest

from continuum_tasks.errors import JobFailed, NewerFormat
from continuum_tasks.host import job_kinds, routing
from continuum_tasks.host.job_kinds import (
    JOB_KINDS,
    ApplyRetention,
    CompactSegments,
    CreateBackup,
    JobArguments,
    ProveCapture,
    RestoreBackup,
    RunDrill,
    RunTestRestore,
    VerifyBackup,
    decode_arguments,
    encode_arguments,
    kind_of,
)
from continuum_tasks.model import BackupId, Level, Strategy
from continuum_tasks.tasks import executor
from continuum_tasks.tasks.audited_run import entry_of

ID = BackupId("backup-full-20261123-120000")
TIMELINE = "timeline-20261101-120000-0123abcd"
RESTORE = RestoreBackup(backup_id=ID, storage="local", target="/var/lib/m.db", overwrite=True, verify=False)
# As versions before wrote them, letter by letter: by the timetable, by a command, and before an argument was there.
ROWS = [
    (
        '{"database":"memory","strategy":"incremental"}',
        CreateBackup(database="memory", strategy=Strategy.INCREMENTAL),
    ),
    (
        '{"database":"memory","strategy":"full","storage":"local"}',
        CreateBackup(database="memory", strategy=Strategy.FULL, storage="local"),
    ),
    (
        '{"database":"memory","strategy":"full","storage":"local","debug":true,"asked_by":"root"}',
        CreateBackup(database="memory", strategy=Strategy.FULL, storage="local", debug=True, asked_by="root"),
    ),
    (
        '{"database":"memory","strategy":"differential","storage":"s3","debug":false,"by_command":true}',
        CreateBackup(database="memory", strategy=Strategy.DIFFERENTIAL, storage="s3", by_command=True),
    ),
    (
        '{"backup_id":"backup-full-20261123-120000","target":"/var/lib/m.db","overwrite":true,"verify":false,"storage":"local"}',
        RESTORE,
    ),
    (
        '{"backup_id":"backup-full-20261123-120000","target":"/var/lib/m.db","overwrite":true,"verify":false,"storage":"local",'
        '"region":"","commit":0,"timeline":"","asked_by":"op"}',
        replace(RESTORE, asked_by="op"),
    ),
    (
        '{"backup_id":"backup-full-20261123-120000","target":"/var/lib/m.db","overwrite":true,"verify":false,"storage":"local",'
        '"region":"eu-west-1","commit":7,"timeline":"timeline-20261101-120000-0123abcd","asked_by":"op"}',
        replace(RESTORE, region="eu-west-1", commit=7, timeline=TIMELINE, asked_by="op"),
    ),
    (
        '{"backup_id":"backup-full-20261123-120000","storage":"local","level":"restore"}',
        VerifyBackup(backup_id=ID, storage="local", level=Level.RESTORE),
    ),
    (
        '{"backup_id":"backup-full-20261123-120000","level":"objects","storage":"local","each_link":true,"asked_by":"op"}',
        VerifyBackup(backup_id=ID, storage="local", level=Level.OBJECTS, each_link=True, asked_by="op"),
    ),
    ('{"backup_id":"backup-full-20261123-120000","storage":"local"}', RunTestRestore(backup_id=ID, storage="local")),
    ('{"backup_id":"backup-full-20261123-120000","storage":"local"}', RunDrill(backup_id=ID, storage="local")),
    (
        '{"database":"memory","storage":"local","aggressive":false,"by":"timetable"}',
        ApplyRetention(database="memory", storage="local", aggressive=False, by="timetable"),
    ),
    (
        '{"database":"memory","storage":"local","aggressive":true,"by":"op","asked_by":"op"}',
        ApplyRetention(database="memory", storage="local", aggressive=True, by="op", asked_by="op"),
    ),
    (
        '{"database":"memory","storage":"local","asked_by":"op"}',
        CompactSegments(database="memory", storage="local", asked_by="op"),
    ),
    ('{"database":"memory","storage":"local"}', ProveCapture(database="memory", storage="local")),
]
# What each kind is called where it is kept; a name that changes here breaks rows and messages that are under way.
NAMES = {
    "create_backup": ("continuum.create_backup", {"database", "strategy", "storage"}),
    "restore_backup": (
        "continuum.restore_backup",
        {"backup_id", "storage", "target", "overwrite", "verify", "region", "commit", "timeline"}
        | {"online", "wait_writers", "database"},
    ),
    "verify_backup": ("continuum.verify_backup", {"backup_id", "storage", "level", "each_link"}),
    "test_restore": ("continuum.test_restore", {"backup_id", "storage"}),
    "run_drill": ("continuum.run_drill", {"backup_id", "storage"}),
    "apply_retention": ("continuum.apply_retention", {"database", "storage", "aggressive", "by"}),
    "compact_segments": ("continuum.compact_segments", {"database", "storage"}),
    "prove_capture": ("continuum.prove_capture", {"database", "storage"}),
    "seal_chunk": ("continuum.seal_chunk", None),
    "fetch_chunk": ("continuum.fetch_chunk", None),
}
OF_EVERY_KIND = {"asked_by", "debug", "by_command"}


@pytest.mark.parametrize(("row", "wanted"), ROWS)
def test_rows_of_every_version_before_decode(row: str, wanted: JobArguments) -> None:
    assert decode_arguments(type(wanted), json.loads(row), row="job 1") == wanted


@pytest.mark.parametrize(("_", "work"), ROWS)
def test_what_is_written_reads_back_and_leaves_out_what_is_not_said(_: str, work: JobArguments) -> None:
    args = encode_arguments(work)
    assert decode_arguments(type(work), json.loads(json.dumps(args)), row="job 1") == work
    defaults = {one.name: one.default for one in fields(type(work))}
    assert not [name for name, value in args.items() if value == defaults[name]]


def test_an_argument_that_a_newer_version_wrote_is_refused_by_that_reason() -> None:
    for row, work in ROWS:
        args = {**json.loads(row), "since_next_year": None}
        with pytest.raises(NewerFormat, match=r"job 7: its argument 'since_next_year' was written by a newer version"):
            decode_arguments(type(work), args, row="job 7")


@pytest.mark.parametrize(
    "args", [{}, {"database": "memory"}, {"database": 7, "strategy": "full"}, {"database": "m", "strategy": "x"}]
)
def test_arguments_that_are_not_those_of_the_kind_are_refused(args: dict[str, Any]) -> None:
    with pytest.raises(JobFailed, match="its arguments are not as they should be"):
        decode_arguments(CreateBackup, args, row="job 7")


def test_words_arguments_and_tasks_are_those_that_rows_and_messages_keep() -> None:
    assert {
        word: (kind.task, None if kind.arguments is None else {one.name for one in fields(kind.arguments)} - OF_EVERY_KIND)
        for word, kind in JOB_KINDS.items()
    } == NAMES
    assert {one.name for one in fields(JobArguments)} == OF_EVERY_KIND


def test_what_reads_whole_backups_does_not_stand_in_the_queue_of_the_timetable() -> None:
    for kind in (job_kinds.VERIFY_BACKUP, job_kinds.TEST_RESTORE, job_kinds.RUN_DRILL, job_kinds.PROVE_CAPTURE):
        assert (kind.queue("h1"), kind.priority) == ("verify.h1", routing.VERIFY_PRIORITY)
    assert not job_kinds.PROVE_CAPTURE.anywhere, "the state that is compared lies on its host"


def test_every_kind_has_an_executor_a_queue_and_words_for_the_audit_log_or_a_reason_for_none() -> None:
    for kind in JOB_KINDS.values():
        assert kind.queue("h1").endswith(".h1")
        assert bool(kind.audit) != bool(kind.unaudited)
        if kind.arguments is not None:
            assert kind.arguments in executor.EXECUTED
            assert kind.audit is not None
            names = {one.name for one in fields(kind.arguments)}
            assert {*kind.audit.subject, *kind.audit.details} <= names
    assert len(executor.EXECUTED) == len(JOB_KINDS)


@pytest.mark.parametrize(
    ("work", "wanted"),
    [
        (ROWS[2][1], ("create", "memory", "root", "full, local")),
        (ROWS[0][1], ("create", "memory", "timetable", "incremental")),
        (ROWS[4][1], ("restore", "/var/lib/m.db", "timetable", f"{ID}, local")),
        (ROWS[8][1], ("verify", ID, "op", "objects, local")),
        (ROWS[9][1], ("test-restore", ID, "timetable", "local")),
        (ROWS[10][1], ("drill", ID, "timetable", "local")),
        (ROWS[12][1], ("apply-retention", "memory@local", "op", "local")),
        (ROWS[13][1], ("compact", "memory", "op", "local")),
        (ROWS[14][1], ("prove", "memory", "timetable", "local")),
    ],
)
def test_the_audit_log_names_work_by_its_kind(work: JobArguments, wanted: tuple[str, ...]) -> None:
    entry = entry_of(work)
    assert entry is not None
    assert (entry.action, entry.subject, entry.by, entry.detail) == wanted
    assert entry.only_failures is (kind_of(work) is job_kinds.APPLY_RETENTION)
