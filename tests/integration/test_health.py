"""What `continuum backup health`, `continuum health-check` and the health task say about a real small installation."""

from __future__ import annotations

import json
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from continuum_tasks.cli.main import run_command
from continuum_tasks.errors import BrokerUnsafe, ObjectDamaged
from continuum_tasks.findings import Finding, Severity
from continuum_tasks.health import health
from continuum_tasks.host.routing import HEALTH_CHECK, control_queue
from continuum_tasks.keyring import generate_key
from continuum_tasks.tasks.client import KEY_PREFIX, client_app, result_url
from continuum_tasks.tasks.health import surroundings
from tests.support import sandbox as boxes
from tests.support.other import living
from tests.support.processes import environment, until
from tests.support.sandbox import KEY_ID, Options, Sandbox, back_up
from tests.support.stack import stack

OK, WARNING, CRITICAL = Severity.OK, Severity.WARNING, Severity.CRITICAL


@pytest.fixture
def sandbox(tmp_path: Path) -> Sandbox:
    made = boxes.make(tmp_path / "h1", Options())
    connection = sqlite3.connect(made.database)
    connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, x)")
    connection.executemany("INSERT INTO t (x) VALUES (?)", [("x" * 100,) for _ in range(500)])
    connection.execute("CREATE INDEX i ON t (x)")
    connection.commit()
    connection.close()
    return made


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("CONTINUUM_CONFIG_DIR", "CONTINUUM_HOST", "CONTINUUM_FAILPOINTS"):
        monkeypatch.delenv(name, raising=False)
    return


def schedule(sandbox: Sandbox, every: str = "4m") -> None:
    path = sandbox.directory / "backup.conf"
    path.write_text(path.read_text().replace("incremental_every = never", f"incremental_every = {every}"))


def look(sandbox: Sandbox, **changes: Any) -> health.HealthReport:
    with sandbox.runtime() as runtime:
        return health.check_health(replace(surroundings(runtime), **changes))


def look_as_service(sandbox: Sandbox) -> health.HealthReport:
    with sandbox.runtime() as runtime:
        return health.run_service(surroundings(runtime))


def said(report: health.HealthReport, subject: str) -> list[tuple[Severity, str]]:
    return [(one.severity, one.text) for one in report.findings if one.subject == subject]


def critical(report: health.HealthReport) -> list[Finding]:
    return [one for one in report.findings if one.severity is CRITICAL]


def command(sandbox: Sandbox, *words: str) -> int:
    return run_command([*words, "--config-dir", str(sandbox.directory)])


def test_the_first_line_is_the_one_the_daily_checklist_greps(sandbox: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
    schedule(sandbox)
    made = back_up(sandbox)

    code = command(sandbox, "backup", "health")

    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith("Last backup of main: ")
    assert f"at {made.created_at:%Y-%m-%d %H:%M:%S} UTC: {made.id} in storage local (target 5 min: ok)" in first
    assert code == 1  # no workers run here


def test_before_the_first_backup_it_says_none_and_is_critical(sandbox: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(sandbox, "backup", "health") == 2
    assert capsys.readouterr().out.startswith("Last backup of main: none that is usable\n")


def test_a_late_backup_is_critical_for_backups_and_a_warning_for_the_service(
    sandbox: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    back_up(sandbox)
    schedule(sandbox, "1s")
    with sandbox.runtime() as runtime:
        later = replace(runtime.site.clock, now=lambda: datetime.now(UTC) + timedelta(hours=1))
        around = replace(surroundings(runtime), site=replace(runtime.site, clock=later))
        assert all(
            not last.late for last in health.check_health(around).last_backups
        )  # nothing is scheduled in this configuration
        one = around.config.databases[0]
        around = replace(around, config=replace(around.config, databases=(replace(one, incremental_every_seconds=240),)))
        report, service = health.check_health(around), health.run_service(around)

    assert [last.late for last in report.last_backups] == [True]
    assert report.severity is CRITICAL
    assert service.severity is WARNING


def test_json_is_one_document_with_the_code_it_exits_with(sandbox: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
    made = back_up(sandbox)

    code = command(sandbox, "backup", "health", "--format", "json")

    found = json.loads(capsys.readouterr().out)
    assert (found["exit_code"], found["status"]) == (code, "warning")
    last = found["last_backups"][0]
    assert (last["backup_id"], last["created_at"]) == (made.id, made.created_at.isoformat())
    assert (last["verified"], last["late"], last["readable"], last["target_seconds"]) == (False, False, True, None)
    assert {"severity", "subject", "text", "hint"} == set(found["findings"][0])


def test_health_check_of_a_well_database_is_zero(sandbox: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
    back_up(sandbox)

    assert command(sandbox, "health-check") == 0
    assert "quick_check ok" in capsys.readouterr().out


def test_looking_writes_nothing_to_storage_and_database(sandbox: Sandbox) -> None:
    back_up(sandbox)
    before = {path: path.read_bytes() for path in (*boxes.objects(sandbox).values(), sandbox.database)}

    look(sandbox)
    look_as_service(sandbox)

    assert {path: path.read_bytes() for path in (*boxes.objects(sandbox).values(), sandbox.database)} == before
    assert sorted(sandbox.database.parent.iterdir()) == [sandbox.database]


def test_a_lost_catalog_is_read_again_before_anything_is_said(sandbox: Sandbox) -> None:
    made = back_up(sandbox)
    shutil.rmtree(sandbox.config.state_dir)

    assert [last.backup.id for last in look_as_service(sandbox).last_backups if last.backup] == [made.id]
    shutil.rmtree(sandbox.config.state_dir)
    assert [last.backup.id for last in look(sandbox).last_backups if last.backup] == [made.id]


def test_an_unmounted_storage_is_critical_and_nothing_is_made_in_its_place(
    sandbox: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    back_up(sandbox)
    sandbox.store.rename(sandbox.store.with_name("away"))

    assert command(sandbox, "backup", "health") == 2

    out = capsys.readouterr().out
    assert "NOT READABLE NOW" in out.splitlines()[0]
    assert "empty, although 1 backups are catalogued" in " ".join(out.split())
    assert not sandbox.store.exists()


def test_a_backup_whose_manifest_is_gone_is_critical_though_catalogued(sandbox: Sandbox) -> None:
    made = back_up(sandbox)
    look(sandbox)  # reads the storage into the catalog, once
    boxes.objects(sandbox, f"manifests/main/{made.id}.json").popitem()[1].unlink()

    report = look(sandbox)

    assert any(str(made.id) in one.text and one.subject == "database main" for one in critical(report))
    assert not report.last_backups[0].readable


def test_a_damaged_repository_document_is_critical(sandbox: Sandbox) -> None:
    back_up(sandbox)
    boxes.objects(sandbox, "repository.json").popitem()[1].write_bytes(b"{}")

    assert said(look(sandbox), "storage local")[0][0] is CRITICAL


def test_a_storage_this_user_cannot_write_is_critical(sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    path = sandbox.directory / "storage.conf"
    path.write_text(f"[storage:local]\ntype = local\npath = {tmp_path / 'file'}\n")

    report = look(replace(sandbox, config=boxes.load_config(sandbox.directory)))

    assert said(report, "storage local")[0][0] is CRITICAL


def test_a_storage_that_says_nothing_costs_its_time_and_no_more(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    back_up(sandbox)
    monkeypatch.setattr(health, "STORAGE_SECONDS", 0.2)
    ended = threading.Event()
    with sandbox.runtime() as runtime:

        def silent(name: str) -> Any:
            ended.wait(60)
            raise ObjectDamaged(name)

        report = health.check_health(replace(surroundings(runtime), repository=silent))
    ended.set()

    assert said(report, "storage local") == [(CRITICAL, "storage local: no answer in 0 s")]
    assert not report.last_backups[0].readable


def test_a_lost_key_is_critical_and_says_who_needs_it(sandbox: Sandbox) -> None:
    back_up(sandbox)
    back_up(sandbox, "incremental")
    (sandbox.config.keys_dir / f"{KEY_ID}.key").unlink()

    severity, text = said(look(sandbox), f"key {KEY_ID}")[0]

    assert severity is CRITICAL
    assert text.endswith("(new backups are made with it, 2 backups need it)")


def test_another_key_of_the_same_name_is_noticed(sandbox: Sandbox) -> None:
    back_up(sandbox)
    (sandbox.config.keys_dir / f"{KEY_ID}.key").unlink()
    generate_key(sandbox.config.keys_dir, KEY_ID, random_bytes=lambda n: b"k" * n, now=datetime.now(UTC))

    assert any("is another key" in one.text for one in critical(look(sandbox)))


def test_encryption_that_is_off_is_said(tmp_path: Path) -> None:
    plain = boxes.make(tmp_path / "h1", Options(encryption="none"))

    assert said(look(plain), "encryption")[0][0] is OK


def test_a_missing_database_is_critical_to_both(sandbox: Sandbox) -> None:
    sandbox.database.unlink()

    for report in (look(sandbox), look_as_service(sandbox)):
        assert (CRITICAL, f"{sandbox.database}: no such file") in said(report, "database main")


@pytest.mark.parametrize("in_place", [True, False])
def test_damage_in_the_database_is_critical(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, in_place: bool) -> None:
    monkeypatch.setattr(health, "CHECK_IN_PLACE_BYTES", 1 << 30 if in_place else 0)
    assert said(look_as_service(sandbox), "database main")[0][0] is OK
    data = bytearray(sandbox.database.read_bytes())
    data[4096 * 4 : 4096 * 5] = b"\xff" * 4096
    sandbox.database.write_bytes(data)

    severity, text = said(look_as_service(sandbox), "database main")[0]

    assert severity is CRITICAL
    assert text.startswith("quick_check: ")


def test_a_large_rollback_database_is_checked_in_a_copy_that_is_removed(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A check in place would keep its writers waiting for as long as it takes."""
    monkeypatch.setattr(health, "CHECK_IN_PLACE_BYTES", 0)

    assert said(look_as_service(sandbox), "database main")[0][1].startswith("opens, quick_check ok")
    assert list(sandbox.config.temp_dir.iterdir()) == []


def test_a_copy_that_cannot_be_made_is_a_finding(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "CHECK_IN_PLACE_BYTES", 0)
    sandbox.config.temp_dir.write_text("in the way")

    assert said(look_as_service(sandbox), "database main")[0][0] is CRITICAL
    assert said(look(sandbox), f"temp_dir {sandbox.config.temp_dir}") == [(CRITICAL, "cannot be written")]


def test_a_database_that_is_locked_for_long_is_a_warning(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    back_up(sandbox)
    monkeypatch.setattr(health, "CHECK_IN_PLACE_BYTES", 0)

    with living(sandbox.database, "c = connect(); c.execute('BEGIN EXCLUSIVE')"):
        report = look_as_service(sandbox)

    assert report.severity is WARNING


def test_the_sqlite_that_wrote_a_wal_database_last_is_judged(sandbox: Sandbox) -> None:
    connection = sqlite3.connect(sandbox.database)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.close()
    for number, text in ((3_040_001, "3.40.1"), (3_051_003, "")):
        data = bytearray(sandbox.database.read_bytes())
        data[96:100] = number.to_bytes(4, "big")
        sandbox.database.write_bytes(data)
        hazards = [one for one in look(sandbox).findings if "WAL mode" in one.text]
        assert [text in one.text for one in hazards] == ([True] if text else [])


def test_failed_jobs_of_the_last_day_are_told_and_older_ones_and_their_parts_are_not(sandbox: Sandbox) -> None:
    error = ObjectDamaged("object x: damaged", hint="restore another backup")
    now = datetime.now(UTC)
    with sandbox.runtime() as runtime:
        for job_id, parent, at in (
            ("old", None, now - timedelta(hours=25)),
            ("new", None, now - timedelta(hours=1)),
            ("part", "new", now),
        ):
            runtime.jobs.add("create_backup", {}, now=at, id=job_id, database="main", parent_id=parent)
            job = runtime.jobs.claim(job_id, "w", lease_seconds=60, now=at)
            assert job is not None
            runtime.jobs.fail(job_id, job.token, error, retry=False, now=at)

    finding = next(one for one in look(sandbox).findings if one.subject == "jobs")

    assert (finding.severity, finding.hint) == (WARNING, error.hint)
    when = f"{now - timedelta(hours=1):%Y-%m-%d %H:%M:%S}"
    assert finding.text == f"1 failed in the last 24 h, the last create_backup of main at {when} UTC: object x: damaged"


def test_pools_are_judged_by_the_queue_they_serve(sandbox: Sandbox) -> None:
    with sandbox.runtime() as runtime:
        now = datetime.now(UTC)
        runtime.jobs.beat("any-name", "agent.h1,transfer.h1", host="h1", now=now)
        runtime.jobs.beat("beat", "", host="h1", now=now - timedelta(minutes=1))
        report = health.check_health(surroundings(runtime))

    assert said(report, "queue agent.h1") == said(report, "queue transfer.h1") == [(OK, "alive")]
    assert said(report, "queue control.h1") == [(WARNING, "not alive")]
    assert said(report, "queue verify.h1") == [(WARNING, "not alive")]
    assert said(report, "beat")[0][1].startswith("not alive, last seen 1 min")


def test_a_broker_that_evicts_is_a_warning(sandbox: Sandbox) -> None:
    def unsafe() -> None:
        raise BrokerUnsafe("broker redis://h: maxmemory-policy is allkeys-lru", hint="set noeviction")

    text = "embedded: broker redis://h: maxmemory-policy is allkeys-lru"
    assert said(look(sandbox, check_broker=unsafe), "broker") == [(WARNING, text)]


def test_both_commands_show_an_example_and_their_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (("health-check",), ("backup", "health")):
        assert run_command([*words, "--help"]) == 0
        text = capsys.readouterr().out
        assert f"continuum {' '.join(words)} " in text.split("Example:")[1]
        assert "2  critical" in text


def test_with_the_stack_running_all_is_alive_and_the_task_returns_the_same_report(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    back_up(sandbox)
    for name, value in environment(sandbox.config).items():
        monkeypatch.setenv(name, value)
    with stack(sandbox.config):
        task_id = client_app(sandbox.config).send_task(HEALTH_CHECK, queue=control_queue(sandbox.config.host)).id
        results = Celery(set_as_current=False)
        results.conf.update(
            result_backend=result_url(sandbox.config),
            result_backend_transport_options={"global_keyprefix": KEY_PREFIX},
            redis_socket_keepalive=False,
        )
        assert until(lambda: results.backend.get_task_meta(task_id)["status"] == "SUCCESS")
        report = results.backend.get_task_meta(task_id)["result"]
        results.close()
        here = look(sandbox)

    assert report["status"] in ("ok", "warning")  # a warning where this machine's SQLite has the WAL hazard
    subjects = ("broker", "beat", "queue agent.h1", "queue transfer.h1", "queue verify.h1", "queue control.h1")
    for subject in subjects:
        assert [one["severity"] for one in report["findings"] if one["subject"] == subject] == ["ok"]
        assert said(here, subject)[0][0] is OK
