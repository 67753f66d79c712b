"""The filters of `list`, and what it says of backups that are not there."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from continuum_tasks.errors import SourceBusy
from continuum_tasks.host.jobs import open_jobs
from tests.unit.cli.calls import create, flip
from tests.unit.cli.conftest import Call

NOW = datetime.now(UTC)


def ids(call: Call, *words: str) -> list[str]:
    done = call("backup", "list", *words, "--format", "json")
    assert done.code == 0, done.err
    return [backup["backup_id"] for backup in done.json]


def test_completed_holds_the_verified_ones_and_suspect_the_others(call: Call, site: Path, full: str) -> None:
    call("backup", "verify", full)
    second = create(call, "incremental")
    flip(site / "memory.db", 5 * 4096 + 3)
    suspect = create(call)

    assert ids(call, "--status", "completed") == [second, full]
    assert ids(call, "--status", "suspect") == [suspect]
    assert ids(call, "--status", "completed", "--verified-only") == [full]
    assert ids(call, "--strategy", "incremental") == [second]


def test_times_cut_on_both_sides_and_before_means_before(call: Call, site: Path, full: str) -> None:
    second = create(call, "incremental")
    at = {b["backup_id"]: b["created_at"] for b in call("backup", "list", "--format", "json").json}

    assert ids(call, "--since", "24h") == [second, full]
    assert ids(call, "--before", "24h") == []
    assert ids(call, "--before", at[second]) == [full]
    assert ids(call, "--since", at[second]) == [second]
    assert ids(call, "--before", "2999-01-01", "--limit", "1") == [second]
    assert call("backup", "list", "--since", "soon").code == 2


def test_random_prints_bare_ids_that_a_shell_can_paste(call: Call, site: Path, full: str) -> None:
    second = create(call, "incremental")

    seen = {call("backup", "list", "--random", "1").out for _ in range(30)}

    assert seen == {f"{full}\n", f"{second}\n"}
    assert sorted(call("backup", "list", "--random", "9").out.split()) == sorted([full, second])
    assert call("backup", "list", "--verified-only", "--random", "1").out == ""
    assert len(ids(call, "--random", "1")) == 1


@pytest.mark.parametrize("storage", [(), ("--storage", "local")])
def test_random_favours_what_was_never_drilled(call: Call, site: Path, full: str, storage: tuple[str, ...]) -> None:
    second = create(call, "incremental")
    assert call("backup", "drill", full).code == 0

    assert {call("backup", "list", "--random", "1", *storage).out for _ in range(10)} == {f"{second}\n"}


@pytest.fixture
def attempts(site: Path) -> Path:
    """One backup that failed two days ago, one an hour ago, one that runs and one that waits, and a failed verification."""
    jobs = open_jobs(site / "etc/state/metadata.db")
    rows = [("old", "create_backup", 48, "full"), ("new", "create_backup", 1, "incremental"), ("look", "verify_backup", 1, "")]
    for name, kind, hours, strategy in rows:
        at = NOW - timedelta(hours=hours)
        jobs.add(kind, {"strategy": strategy, "storage": "local"}, id=name, database="memory", now=at)
        claimed = jobs.claim(name, "w", lease_seconds=60, now=at)
        assert claimed is not None
        jobs.fail(name, claimed.token, SourceBusy("database memory: locked", hint="wait"), retry=False, now=at)
    for name in ("runs", "waits"):
        jobs.add("create_backup", {"strategy": "full", "storage": "local"}, id=name, database="memory", now=NOW)
    jobs.claim("runs", "w", lease_seconds=60, now=NOW)
    jobs.close()
    return site


def listed(call: Call, *words: str) -> list[str]:
    done = call("backup", "list", *words, "--format", "json")
    assert done.code == 0, done.err
    return [row["job_id"] for row in done.json]


def test_failed_backups_come_from_the_jobs_with_what_went_wrong(call: Call, attempts: Path) -> None:
    (row,) = call("backup", "list", "--status", "failed", "--since", "24h", "--format", "json").json

    assert (row["job_id"], row["status"], row["strategy"], row["backup_id"]) == ("new", "failed", "incremental", None)
    assert row["error"] == {"name": "SourceBusy", "message": "database memory: locked", "hint": "wait"}
    shown = call("backup", "list", "--status", "failed").out
    assert "database memory: locked" in shown and shown.index("new") < shown.index("old")
    assert listed(call, "--status", "failed") == ["new", "old"]
    assert listed(call, "--status", "failed", "--limit", "1") == ["new"]
    assert listed(call, "--status", "failed", "--before", "24h") == ["old"]
    assert listed(call, "--status", "failed", "--strategy", "full") == ["old"]
    assert listed(call, "--status", "failed", "--storage", "s3") == listed(call, "--status", "failed", "--database", "x") == []


def test_running_backups_are_those_at_work_and_those_that_wait(call: Call, attempts: Path) -> None:
    found = call("backup", "list", "--status", "running", "--format", "json").json

    assert {row["job_id"]: row["status"] for row in found} == {"runs": "running", "waits": "queued"}


def test_attempts_are_neither_verified_nor_drilled(call: Call, attempts: Path) -> None:
    assert call("backup", "list", "--status", "failed", "--verified-only").code == 2
    assert call("backup", "list", "--status", "running", "--random", "1").code == 2


def test_no_attempts_say_so(call: Call, site: Path) -> None:
    assert call("backup", "list", "--status", "failed").out == "no backups\n"
    assert call("backup", "list", "--status", "running", "--format", "json").json == []


def test_what_fails_in_a_command_s_own_process_is_told_by_list_logs_and_report(call: Call, site: Path) -> None:
    log = site / "etc/log/backup.log"
    log.parent.mkdir(exist_ok=True)
    log.touch()
    (site / "memory.db").rename(site / "away.db")

    assert call("backup", "create", "--strategy", "full").code == 4

    (row,) = call("backup", "list", "--status", "failed", "--since", "1h", "--format", "json").json
    assert (row["database"], row["strategy"], row["storage"]) == ("memory", "full", "local")
    assert row["error"]["name"] == "SourceMissing"
    (line,) = call("backup", "logs", "--level", "error", "--format", "json").json
    assert line["event"].startswith("create_backup memory: SourceMissing: ") and "traceback" not in line
    assert call("backup", "report", "--day", "--format", "json").json["n_failed"] == 1
    assert call("backup", "list", "--status", "running").out == "no backups\n"


def test_a_failure_here_makes_no_log_that_workers_could_not_write(call: Call, site: Path) -> None:
    (site / "memory.db").rename(site / "away.db")

    assert call("backup", "create", "--strategy", "full").code == 4

    assert not (site / "etc/log/backup.log").exists()
