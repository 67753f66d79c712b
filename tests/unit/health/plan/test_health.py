"""What is a finding, how bad it is, and what it says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from continuum_tasks.findings import Finding, Severity, Trouble, critical, exit_code, ok, warning, worst
from continuum_tasks.health.plan import health
from continuum_tasks.health.plan.health import DatabaseFacts, Facts, FailedJob, KeyFacts, PoolFacts, SpaceFacts, StorageState
from continuum_tasks.health.plan.protection import Protection, last_backup, protection_findings, recovery_points, target_seconds
from continuum_tasks.model import Backup, BackupSchedule, BackupStatus, DrillRecord, Rehearsal
from continuum_tasks.units import show_bytes, show_seconds
from tests.unit.retention.plan.rows import NOW, ago, backup, histories, identify

OK, WARNING, CRITICAL = Severity.OK, Severity.WARNING, Severity.CRITICAL
MIB = 1024 * 1024
RHYTHM = BackupSchedule(full_every_seconds=7 * 86400, incremental_every_seconds=240, verify_every_seconds=86400)
BROKEN = Trouble(message="storage s3: no connection", hint="check the network")
FULL = backup(0, created_at=ago(days=1), verified_at=ago(hours=2))
FRESH = backup(1, parent=0, created_at=ago(minutes=2))
HEALTHY = Protection(database="memory", storage="local", rhythm=RHYTHM, backups=(FRESH, FULL))
FACTS = Facts(
    databases=(DatabaseFacts(name="memory", size_bytes=MIB, wal=True, sqlite_version=3_051_003, free_bytes=100 * MIB),),
    protections=(HEALTHY,),
    storages=(StorageState(name="local", used=True, latency_seconds=0.0042, free_bytes=10 * MIB, need_bytes=MIB),),
    broker=health.BrokerFacts(embedded=True, trouble=None),
    pools=(PoolFacts(subject="queue agent.h1", alive=True, seen_at=NOW),),
    failed_jobs=(),
    keys=(KeyFacts(key_id="k1", configured=True, n_backups=2, trouble=None),),
    temp=SpaceFacts(path="/tmp/c", free_bytes=100 * MIB, need_bytes=17 * MIB),
)


def found(facts: Facts = FACTS, **changes: Any) -> list[Finding]:
    """Return what is not ok."""
    return [one for one in health.backup_findings(replace(facts, **changes), now=NOW) if one.severity is not OK]


def protected(*backups: Backup, rhythm: BackupSchedule = RHYTHM, trouble: Trouble | None = None) -> list[Finding]:
    rows = tuple(sorted(backups, key=lambda b: b.created_at, reverse=True))
    wanted = Protection(database="memory", storage="local", rhythm=rhythm, backups=rows, trouble=trouble)
    return [one for one in protection_findings(wanted, now=NOW) if one.severity is not OK]


def only(findings: Sequence[Finding]) -> Finding:
    assert len(findings) == 1, findings
    return findings[0]


def test_a_healthy_host_has_only_ok_lines_about_everything() -> None:
    findings = health.backup_findings(FACTS, now=NOW)

    assert exit_code(findings) == 0
    assert [(one.subject, one.text) for one in findings] == [
        ("database memory", f"last usable backup {FRESH.id} is 2 min old, target 5 min"),
        ("chain of memory", "usable, last full 1 d ago"),
        ("verification of memory", "last verified backup 2 h ago"),
        ("storage local", "reachable in 4 ms, 10.0 MiB free"),
        ("broker", "embedded, reachable, evicts nothing"),
        ("queue agent.h1", "alive"),
        ("jobs", "none failed in the last 24 h"),
        ("key k1", "present, new backups are made with it, 2 backups need it"),
        ("temp_dir /tmp/c", "100.0 MiB free, staging the largest database takes 17.0 MiB"),
    ]


@given(st.lists(st.sampled_from(Severity)))
def test_the_exit_code_is_the_worst_severity(severities: list[Severity]) -> None:
    findings = [Finding(severity=severity, subject="s", text="t") for severity in severities]

    assert exit_code(findings) == (2 if CRITICAL in severities else 1 if WARNING in severities else 0)
    assert worst(findings) is (CRITICAL if CRITICAL in severities else WARNING if WARNING in severities else OK)


def test_the_three_makers_give_their_severity() -> None:
    assert [one.severity for one in (ok("s", "t"), warning("s", "t", "h"), critical("s", "t", "h"))] == [OK, WARNING, CRITICAL]


@pytest.mark.parametrize(("seconds", "severity"), [(299, []), (300, []), (301, [CRITICAL])])
def test_the_last_backup_is_late_when_it_is_older_than_the_target(seconds: int, severity: list[Severity]) -> None:
    assert [one.severity for one in protected(FULL, replace(FRESH, created_at=ago(seconds=seconds)))] == severity


def test_without_a_usable_backup_nothing_else_is_said_and_a_full_is_advised() -> None:
    for rows in ((), (backup(0, status=BackupStatus.SUSPECT, created_at=ago(minutes=1)),)):
        finding = only(protected(*rows))
        assert finding.severity is CRITICAL
        assert finding.text == "no usable backup in storage local or any other"
        assert finding.hint == "run `continuum backup create --database memory --strategy full`"


def test_the_age_is_that_of_the_last_usable_backup_not_of_the_last() -> None:
    suspect = backup(2, created_at=ago(seconds=10), status=BackupStatus.SUSPECT, suspect_reasons=("row 5 missing",))
    late = replace(FULL, created_at=ago(hours=1))

    age, chain = protected(late, suspect)

    assert (age.severity, chain.severity) == (CRITICAL, WARNING)
    assert age.text == f"last usable backup {late.id} is 1 h old, target 5 min"
    assert chain.text == f"not usable: {suspect.id} (suspect: row 5 missing), newer than {late.id}"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"status": BackupStatus.SUSPECT}, "suspect"),
        ({"failed_at": ago(seconds=5)}, "its verification failed"),
        ({"parent_id": identify(9)}, "a link of its chain is missing or bad"),
        ({"failed_at": ago(seconds=9), "verified_at": ago(seconds=5), "parent_id": identify(9)}, "a link of its chain"),
    ],
)
def test_an_unusable_newest_backup_says_why(changes: dict[str, Any], why: str) -> None:
    newest = replace(backup(3, parent=0, created_at=ago(seconds=30)), **changes)

    assert why in only(protected(FULL, FRESH, newest)).text


def test_more_unusable_backups_are_counted() -> None:
    bad = [backup(n, created_at=ago(seconds=n), status=BackupStatus.SUSPECT) for n in (10, 20, 30)]

    assert "(suspect) and 2 more, newer than" in only(protected(FULL, FRESH, *bad)).text


def test_a_backup_that_its_storage_does_not_give_back_is_critical_and_says_so_in_its_last_line() -> None:
    finding = only(protected(FULL, FRESH, trouble=BROKEN))

    assert (finding.severity, finding.text, finding.hint) == (CRITICAL, BROKEN.message, BROKEN.hint)
    assert last_backup(HEALTHY, now=NOW).readable
    assert not last_backup(replace(HEALTHY, trouble=BROKEN), now=NOW).readable
    assert not last_backup(replace(HEALTHY, backups=()), now=NOW).readable


def test_a_backup_of_the_future_does_not_hide_that_none_was_made_since() -> None:
    future = backup(9, created_at=NOW + timedelta(days=300))
    stale = replace(FULL, created_at=ago(hours=1))

    findings = protected(future, stale)

    assert [(one.severity, one.text) for one in findings] == [
        (CRITICAL, f"last usable backup {stale.id} is 1 h old, target 5 min"),
        (WARNING, f"{future.id} was made 300 d in the future"),
    ]


def test_a_backup_of_the_future_counts_when_it_is_all_there_is() -> None:
    future = backup(9, created_at=NOW + timedelta(hours=1))

    assert only(protected(future)).severity is WARNING
    assert last_backup(replace(HEALTHY, backups=(future,)), now=NOW).age_seconds == 0


def test_a_minute_of_difference_between_clocks_is_nothing() -> None:
    assert protected(replace(FULL, created_at=NOW + timedelta(seconds=59))) == []


def test_a_full_that_is_overdue_by_a_quarter_is_a_warning() -> None:
    assert protected(replace(FULL, created_at=ago(days=8.7)), FRESH) == []
    finding = only(protected(replace(FULL, created_at=ago(days=8.8)), FRESH))
    assert (finding.severity, finding.text) == (WARNING, "usable, last full 8 d 19 h ago, due every 7 d")
    never = replace(RHYTHM, full_every_seconds=0)
    assert protected(replace(FULL, created_at=ago(days=800)), FRESH, rhythm=never) == []


def test_verification_is_late_a_quarter_after_its_interval() -> None:
    def verified(at: datetime | None, **changes: int) -> list[Finding]:
        full = replace(FULL, created_at=ago(days=3), verified_at=at)
        return protected(full, FRESH, rhythm=replace(RHYTHM, **changes))

    assert verified(ago(hours=30)) == []
    assert only(verified(ago(hours=31))).text == "last verified backup 1 d 7 h ago"
    assert only(verified(None)).text == "no backup was ever verified"
    assert only(verified(NOW + timedelta(days=5))).text == "no backup was ever verified"
    assert verified(None, verify_every_seconds=0) == []
    assert verified(ago(days=2), verify_every_seconds=0) == []


def test_a_new_host_has_time_for_its_first_verification() -> None:
    assert protected(replace(FULL, verified_at=None), FRESH) == []


def test_a_verdict_that_was_overruled_does_not_count() -> None:
    overruled = replace(FULL, created_at=ago(days=3), verified_at=ago(hours=2), failed_at=ago(hours=1))
    other = backup(5, created_at=ago(minutes=1))

    assert only(protected(overruled, other)).text == "no backup was ever verified"


def test_the_target_is_the_one_that_is_set_unless_backups_are_scheduled_more_rarely_or_not_at_all() -> None:
    def target(full: int, incremental: int, rpo: int = 300) -> int:
        changes = {"full_every_seconds": full, "incremental_every_seconds": incremental, "rpo_target_seconds": rpo}
        return target_seconds(replace(RHYTHM, **changes), continuous=False)

    assert (target(604_800, 240), target(604_800, 240, rpo=600), target(604_800, 290)) == (300, 600, 300)
    assert (target(3600, 0), target(0, 0)) == (4500, 0)
    manual = replace(RHYTHM, full_every_seconds=0, incremental_every_seconds=0)
    assert target_seconds(manual, continuous=True) == 300
    assert protected(replace(FULL, created_at=ago(days=900)), rhythm=manual) == []


def test_the_last_drill_is_told_and_a_warning_when_it_failed() -> None:
    def told(**changes: Any) -> Finding:
        fields = {"backup_id": FULL.id, "database": "memory", "passed": True, "at": ago(days=3), "rto_seconds": 42.0}
        record = DrillRecord(**fields | {"phases": (), "findings": (), "host": "h1"} | changes)
        return list(protection_findings(replace(HEALTHY, rehearsal=record), now=NOW))[-1]

    assert told() == ok("drill of memory", f"last one 3 d ago, {FULL.id}: ready after 42 s")
    failed = told(passed=False, findings=("the command exited with 3",), kind=Rehearsal.TEST_RESTORE)
    assert (failed.severity, failed.subject) == (WARNING, "test-restore of memory")
    assert failed.text == f"last one 3 d ago, {FULL.id}: failed: the command exited with 3"
    assert failed.hint == f"run `continuum backup test-restore {FULL.id}`"


@given(histories())
def test_recovery_points_of_two_storages_are_those_of_each(backups: list[Backup]) -> None:
    there = [replace(b, storage="s3") for b in backups[: len(backups) // 2]]

    both = recovery_points([*backups, *there])

    assert both == [*recovery_points(backups), *recovery_points(there)]


@pytest.mark.parametrize(
    ("version", "hazard"),
    [
        (0, False),
        (3_006_023, False),
        (3_007_000, True),
        (3_040_001, True),
        (3_044_005, True),
        (3_044_006, False),
        (3_044_999, False),
        (3_045_000, True),
        (3_050_006, True),
        (3_050_007, False),
        (3_051_000, True),
        (3_051_002, True),
        (3_051_003, False),
        (3_054_001, False),
    ],
)
def test_the_wal_hazard_is_known_by_version(version: int, hazard: bool) -> None:
    assert health.has_wal_hazard(version) is hazard
    database = replace(FACTS.databases[0], sqlite_version=version)
    assert bool(found(databases=(database,))) is hazard
    assert found(databases=(replace(database, wal=False),)) == []


def test_the_hazard_names_the_version_as_people_write_it() -> None:
    finding = only(found(databases=(replace(FACTS.databases[0], sqlite_version=3_040_001),)))

    assert finding.severity is WARNING
    assert "last written by SQLite 3.40.1," in finding.text


def test_a_file_system_that_is_not_known_is_a_warning() -> None:
    finding = only(found(databases=(replace(FACTS.databases[0], remark="/srv/memory.db: on foofs"),)))

    assert (finding.severity, finding.text) == (WARNING, "/srv/memory.db: on foofs")


def test_a_database_that_cannot_be_looked_at_is_critical_unless_it_may_pass() -> None:
    gone = DatabaseFacts(name="memory", trouble=Trouble(message="/srv/memory.db: no such file", hint="correct the path"))
    busy = DatabaseFacts(name="memory", trouble=Trouble(message="/srv/memory.db: locked", transient=True))

    for look in (lambda one: found(databases=(one,)), lambda one: health.service_findings((one,), (), now=NOW)):
        assert only(look(gone)).severity is CRITICAL
        assert only(look(busy)).severity is WARNING


def test_an_unreachable_storage_is_critical_only_when_something_rests_there() -> None:
    storage = StorageState(name="s3", used=True, trouble=BROKEN)

    assert only(found(storages=(storage,))).severity is CRITICAL
    assert only(found(storages=(replace(storage, used=False),))).severity is WARNING


@pytest.mark.parametrize(("free", "severity"), [(None, []), (200, []), (199, [WARNING]), (100, [WARNING]), (99, [CRITICAL])])
def test_a_storage_needs_room_for_the_next_fulls(free: int | None, severity: list[Severity]) -> None:
    storage = StorageState(name="local", used=True, free_bytes=free, need_bytes=100)

    assert [one.severity for one in found(storages=(storage,))] == severity


def test_a_storage_that_answered_a_while_ago_says_when() -> None:
    storage = StorageState(name="s3", used=True, latency_seconds=0.03, answered_at=ago(minutes=25))

    assert [one.text for one in health.backup_findings(replace(FACTS, storages=(storage,)), now=NOW)][3] == (
        "reachable in 30 ms 25 min ago"
    )


def test_a_broker_that_is_away_or_evicts_is_a_warning_because_commands_work_without_it() -> None:
    finding = only(found(broker=health.BrokerFacts(embedded=False, trouble=BROKEN)))

    assert (finding.severity, finding.text) == (WARNING, f"configured: {BROKEN.message}")


def test_a_queue_nobody_serves_is_a_warning() -> None:
    dead = PoolFacts(subject="queue verify", alive=False, seen_at=ago(minutes=3))

    assert only(found(pools=(dead,))).text == "not alive, last seen 3 min ago"
    assert only(found(pools=(replace(dead, seen_at=None),))).text == "not alive"


def test_failed_jobs_are_counted_and_the_last_one_is_told() -> None:
    first = FailedJob(kind="create_backup", database="memory", at=ago(hours=2), trouble=BROKEN)
    last = FailedJob(kind="verify_backup", database="", at=ago(hours=1), trouble=Trouble(message="object x: damaged", hint="h"))

    finding = only(found(failed_jobs=(last, first)))

    text = "2 failed in the last 24 h, the last verify_backup at 2026-11-23 11:00:00 UTC: object x: damaged"
    assert (finding.severity, finding.text, finding.hint) == (WARNING, text, "h")
    assert "create_backup of memory at" in only(found(failed_jobs=(first,))).text


def test_a_missing_key_is_critical_and_says_how_many_backups_need_it() -> None:
    missing = Trouble(message="key k1 is not in the keyring", hint="put the copy back")
    old = KeyFacts(key_id="k1", configured=False, n_backups=7, trouble=missing)
    configured = KeyFacts(key_id="k1", configured=True, n_backups=0, trouble=missing)

    assert only(found(keys=(old,))).text == "key k1 is not in the keyring (7 backups need it)"
    assert only(found(keys=(configured,))).text == "key k1 is not in the keyring (new backups are made with it)"
    assert only(found(keys=(old,))).severity is CRITICAL


def test_encryption_that_is_off_is_said_and_is_no_warning() -> None:
    off = KeyFacts(key_id="", configured=True, n_backups=0, trouble=None)

    said = [one for one in health.backup_findings(replace(FACTS, keys=(off,)), now=NOW) if one.subject == "encryption"]

    assert [(one.severity, one.text) for one in said] == [(OK, "off: anyone who can read the storage can read every backup")]


@pytest.mark.parametrize(("free", "severity"), [(None, [CRITICAL]), (99, [CRITICAL]), (100, [WARNING]), (125, [])])
def test_the_temporary_directory_needs_room_for_the_largest_database(free: int | None, severity: list[Severity]) -> None:
    temp = SpaceFacts(path="/tmp/c", free_bytes=free, need_bytes=100)

    assert [one.severity for one in found(temp=temp)] == severity


def served(database: DatabaseFacts, *protections: Protection) -> list[Finding]:
    return [one for one in health.service_findings((database,), protections, now=NOW) if one.severity is not OK]


WELL = DatabaseFacts(name="memory", size_bytes=100 * MIB, free_bytes=900 * MIB, problems=())


def test_a_database_that_is_well_gets_its_lines() -> None:
    findings = health.service_findings((WELL,), (HEALTHY,), now=NOW)

    assert [one.text for one in findings] == [
        "opens, quick_check ok, 100.0 MiB",
        "900.0 MiB free on its disk",
        f"last usable backup {FRESH.id} is 2 min old, target 5 min",
    ]
    assert worst(findings) is OK


def test_what_quick_check_finds_is_critical() -> None:
    one = only(served(replace(WELL, problems=("row 1 missing from index i",))))
    assert (one.severity, one.text) == (CRITICAL, "quick_check: row 1 missing from index i")
    assert only(served(replace(WELL, problems=("a", "b", "c")))).text == "quick_check: a and 2 more"


def test_a_check_that_was_not_made_is_not_called_ok() -> None:
    assert [one.text for one in health.service_findings((replace(WELL, problems=None),), (), now=NOW)] == [
        "900.0 MiB free on its disk"
    ]
    assert health.service_findings((replace(WELL, problems=None, free_bytes=None),), (), now=NOW) == ()


@pytest.mark.parametrize(("free", "severity"), [(63 * MIB, CRITICAL), (64 * MIB, WARNING), (99 * MIB, WARNING)])
def test_a_database_needs_room_to_commit_and_to_be_restored_beside(free: int, severity: Severity) -> None:
    assert only(served(replace(WELL, free_bytes=free))).severity is severity
    assert served(replace(WELL, free_bytes=100 * MIB)) == []


def test_a_late_backup_is_no_reason_to_take_the_service_away() -> None:
    finding = only(served(WELL, replace(HEALTHY, backups=())))

    assert finding.severity is WARNING
    assert finding.hint.startswith("run `continuum backup create")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.4, "0 s"),
        (59.6, "1 min"),
        (192, "3 min 12 s"),
        (3600, "1 h"),
        (3605, "1 h"),
        (86_400 + 5 * 3600 + 59, "1 d 5 h"),
        (86_400 + 59, "1 d"),
    ],
)
def test_durations_are_shown_in_their_two_largest_units(seconds: float, text: str) -> None:
    assert show_seconds(seconds) == text


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (3 * MIB, "3.0 MiB"), (5 * 1024 * MIB, "5.0 GiB"), (2**41, "2.0 TiB")],
)
def test_sizes_are_shown_in_binary_units(n_bytes: int, text: str) -> None:
    assert show_bytes(n_bytes) == text
