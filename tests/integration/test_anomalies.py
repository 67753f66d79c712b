"""What the anomaly watch says of real backups: attacks and accidents raise it, a month of normal life does not."""

from __future__ import annotations

import base64
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest

from continuum_tasks.backup import accept
from continuum_tasks.cli.main import run_command
from continuum_tasks.errors import KeyMissing, ObjectDamaged, UsageError
from continuum_tasks.findings import Severity
from continuum_tasks.health.plan.protection import Protection, protection_findings
from continuum_tasks.host import audit
from continuum_tasks.model import Acceptance, Backup, BackupStatus, Hold
from continuum_tasks.repository.documents import encode_document
from continuum_tasks.repository.repository import accepted_key
from continuum_tasks.schedule.queue_due import queue_due
from tests.integration import history
from tests.integration.history import Host

TEXTS = {
    "entities": "description",
    "messages": "content",
    "decisions": "rationale",
    "compound_concepts": "summary",
    "auto_messages": "content",
    "intentions": "goal",
    "concept_evolution": "state",
    "thinking_snapshots": "thoughts",
    "code_memories": "source",
}


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """A host with a full and four increments, all clean."""
    for name in ("CONTINUUM_CONFIG_DIR", "CONTINUUM_FAILPOINTS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CONTINUUM_HOST", "h1")
    monkeypatch.setenv("CONTINUUM_LOCAL", "1")
    made = history.make(tmp_path)
    made.back_up("full")
    for _ in range(4):
        made.live(15)
        made.back_up()
    assert all(backup.status is BackupStatus.COMPLETED for backup in made.backups())
    return made


def overwrite(host: Host, change: Callable[[Random, str], bytes | str], *, share: float = 1.0) -> None:
    """Replace the text of a share of all rows, as ransomware that only has the database's own interface would."""
    rng = Random(5)
    with closing(sqlite3.connect(host.database)) as connection:
        connection.create_function("change", 1, lambda text: change(rng, str(text)))
        for table, column in TEXTS.items():
            connection.execute(f"UPDATE {table} SET {column} = change({column}) WHERE id % 100 < {100 * share}")
        connection.commit()


def encrypt(host: Host, *, share: float = 1.0) -> None:
    overwrite(host, lambda rng, text: rng.randbytes(len(text)), share=share)


def held(host: Host) -> dict[str, Hold]:
    with host.runtime() as runtime:
        stored = {h.backup_id: h for _, h in runtime.repository().holds() if isinstance(h, Hold)}
        assert stored == runtime.catalog.holds("local")
        return {str(backup_id): hold for backup_id, hold in stored.items()}


def command(host: Host, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, Any, str]:
    capsys.readouterr()
    code = run_command([*words, "--config-dir", str(host.config_dir), "--format", "json"])
    said = capsys.readouterr()
    return code, json.loads(said.out) if said.out else None, said.err


def names(backup: Backup) -> set[str]:
    return {reason.split(": ")[1] for reason in backup.suspect_reasons if reason.startswith("anomaly: ")}


@pytest.mark.parametrize("strategy", ["incremental", "differential", "full"])
def test_text_encrypted_in_place_is_suspect_and_the_last_clean_backup_is_held(host: Host, strategy: str) -> None:
    clean = host.backups()[0]
    encrypt(host)
    done = host.back_up(strategy)
    assert done.backup.status is BackupStatus.SUSPECT
    assert names(done.backup) & {"compression", "incompressible pages"}
    assert done.held == clean.id
    hold = held(host)[clean.id]
    assert hold.by == "anomaly watch" and done.backup.id in hold.reason and "anomaly: " in hold.reason


def test_a_third_of_the_text_encrypted_is_suspect_in_the_increment_that_has_it(host: Host) -> None:
    host.live(1)
    encrypt(host, share=0.3)
    assert names(host.back_up().backup) == {"incompressible pages"}


def test_text_encrypted_and_encoded_as_text_is_suspect_in_the_next_full(host: Host) -> None:
    overwrite(host, lambda rng, text: base64.b64encode(rng.randbytes(3 * len(text) // 4)).decode())
    assert names(host.back_up("full").backup) == {"compression"}


def test_text_overwritten_with_the_same_everywhere_is_suspect(host: Host) -> None:
    overwrite(host, lambda _, text: "PAY " * (len(text) // 4))
    host.execute("UPDATE embeddings SET vector = zeroblob(length(vector))")
    assert names(host.back_up().backup) == {"compression"}


def test_mass_deletion_is_suspect_with_the_numbers(host: Host) -> None:
    host.execute("DELETE FROM messages WHERE id % 10 <> 0")
    done = host.back_up()
    assert names(done.backup) == {"rows lost"}
    assert "table messages lost" in done.backup.suspect_reasons[0] and "(90 %)" in done.backup.suspect_reasons[0]


def test_a_dropped_table_is_suspect(host: Host) -> None:
    host.execute("DROP TABLE intentions")
    assert "table intentions is gone" in "; ".join(host.back_up().backup.suspect_reasons)


def test_an_upgrade_that_adds_renames_and_rebuilds_is_clean(host: Host) -> None:
    host.execute(
        "CREATE TABLE feedback (id INTEGER PRIMARY KEY, body TEXT)",
        "ALTER TABLE messages ADD COLUMN language TEXT",
        "ALTER TABLE code_memories RENAME TO code_notes",
        "CREATE TABLE new_entities AS SELECT * FROM entities",
        "DROP TABLE entities",
        "ALTER TABLE new_entities RENAME TO entities",
        "CREATE INDEX feedback_by_body ON feedback(body)",
    )
    done = host.back_up()
    assert done.backup.status is BackupStatus.COMPLETED, done.backup.suspect_reasons
    host.execute("VACUUM")
    assert host.back_up().backup.status is BackupStatus.COMPLETED
    assert held(host) == {}


def test_nothing_builds_on_an_anomalous_backup_and_it_stays_so_until_the_source_is_clean_again(host: Host) -> None:
    clean = host.backups()[0]
    before = host.database.read_bytes()
    encrypt(host)
    first, second = host.back_up(), host.back_up()
    assert [done.backup.parent_id for done in (first, second)] == [clean.id, clean.id]
    assert second.backup.status is BackupStatus.SUSPECT and second.held is None  # it is held already
    host.database.write_bytes(before)
    third = host.back_up()
    assert third.backup.status is BackupStatus.COMPLETED and third.backup.parent_id == clean.id


def test_an_accepted_anomaly_is_completed_a_parent_and_the_usual_from_then_on(host: Host) -> None:
    host.execute("DELETE FROM messages WHERE id % 10 <> 0 AND id < (SELECT max(id) FROM messages)")
    suspect = host.back_up().backup
    with host.runtime() as runtime:
        done = accept.accept_backup(
            suspect.id, "old messages archived", by="ada", repository=runtime.repository(), site=runtime.site
        )
        lines = [line.event for line in audit.read_events(runtime.site.state_dir / audit.FILE) if line.event]
    assert done.backup.status is BackupStatus.COMPLETED and done.backup.suspect_reasons == ()
    assert len(done.released) == 1 and held(host) == {}
    assert [(e.user, e.action) for e in lines][-2:] == [("ada", "accept"), ("ada", "release")]
    host.live(5)
    following = host.back_up().backup
    assert (following.status, following.parent_id) == (BackupStatus.COMPLETED, suspect.id)
    for path in (host.config_dir / "state").glob("metadata.db*"):
        path.unlink()
    with host.runtime() as runtime:
        runtime.index_all()
        assert {b.status for b in runtime.catalog.backups()} == {BackupStatus.COMPLETED}


def test_a_hold_stays_while_another_anomaly_after_it_is_not_accepted(host: Host) -> None:
    encrypt(host)
    first, second = host.back_up().backup, host.back_up().backup
    with host.runtime() as runtime:
        done = accept.accept_backup(first.id, "why", by="ada", repository=runtime.repository(), site=runtime.site)
        assert done.released == () and len(runtime.catalog.holds("local")) == 1
        done = accept.accept_backup(second.id, "why", by="ada", repository=runtime.repository(), site=runtime.site)
        assert len(done.released) == 1


def test_what_is_completed_or_damaged_cannot_be_accepted(host: Host) -> None:
    clean = host.backups()[0]
    encrypt(host)
    with host.database.open("r+b") as file:
        file.seek(5 * 4096)
        file.write(b"\xff" * 64)
    damaged = host.back_up("full").backup
    assert damaged.status is BackupStatus.SUSPECT
    with host.runtime() as runtime:
        for backup in (clean, damaged):
            with pytest.raises(UsageError):
                accept.accept_backup(backup.id, "why", by="ada", repository=runtime.repository(), site=runtime.site)


@pytest.mark.parametrize("forgery", ["unsigned", "swapped"])
def test_a_forged_acceptance_lifts_nothing(host: Host, forgery: str) -> None:
    encrypt(host)
    first, second = host.back_up().backup, host.back_up().backup
    acceptance = Acceptance(backup_id=first.id, reason="harmless", by="mallory", at=host.now)
    with host.runtime() as runtime:
        repository = runtime.repository()
        if forgery == "unsigned":
            data = encode_document("acceptance", acceptance, sign=None)
            repository.storage.put(accepted_key("memory", first.id), data)
        else:
            repository.put_acceptance("memory", acceptance, key_id=first.key_id)
            data = repository.storage.get(accepted_key("memory", first.id))
            repository.storage.delete(accepted_key("memory", first.id))
            repository.storage.put(accepted_key("memory", second.id), data)
        assert [type(record) for _, record in repository.acceptances()] == [ObjectDamaged]
    for path in (host.config_dir / "state").glob("metadata.db*"):
        path.unlink()
    with host.runtime() as runtime:
        runtime.index_all()
        assert {runtime.catalog.find(b.id).status for b in (first, second)} == {BackupStatus.SUSPECT}


def test_while_an_anomaly_holds_create_declines_with_10_and_force_makes_one(
    host: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    host.now = history.datetime.now(history.UTC) - timedelta(hours=3)
    encrypt(host)
    suspect = host.back_up().backup
    code, said, err = command(host, capsys, "backup", "create", "--strategy", "incremental")
    assert code == 10 and said["error"]["name"] == "Declined"
    assert suspect.id in err and "continuum backup accept" in err and "--force" in err
    code, made, err = command(host, capsys, "backup", "create", "--strategy", "incremental", "--force")
    assert code == 0 and made["status"] == "suspect" and "anomaly: " in err
    for backup_id in (suspect.id, made["backup_id"]):
        code, said, err = command(host, capsys, "backup", "accept", backup_id, "--reason", "we  rotated\nthe texts")
        assert code == 0, err
        assert said["status"] == "completed" and said["acceptance"]["reason"] == "we rotated the texts"
    assert said["released"] != []
    code, listed, _ = command(host, capsys, "backup", "list", "--storage", "local")
    assert {one["status"] for one in listed} == {"completed"}
    assert command(host, capsys, "backup", "create", "--strategy", "incremental")[0] == 0
    assert command(host, capsys, "backup", "accept", suspect.id, "--reason", "again")[0] == 2


def test_health_says_critical_while_it_holds_and_a_warning_after_a_clean_one(host: Host) -> None:
    before = host.database.read_bytes()
    encrypt(host)
    suspect = host.back_up().backup

    def findings() -> list[tuple[Severity, str, str]]:
        with host.runtime() as runtime:
            database = runtime.config.database("")
            backups = tuple(runtime.catalog.backups())
            protection = Protection(database="memory", storage="local", rhythm=database.rhythm, backups=backups)
            found = protection_findings(protection, now=host.now)
            return [(one.severity, one.text, one.hint) for one in found if one.subject == "anomalies of memory"]

    ((severity, text, hint),) = findings()
    assert severity is Severity.CRITICAL and suspect.id in text and f"accept {suspect.id}" in hint
    host.database.write_bytes(before)
    host.back_up()
    ((severity, text, _),) = findings()
    assert severity is Severity.WARNING and suspect.id in text
    host.now += timedelta(days=8)
    assert findings() == []


def queued(host: Host) -> list[str]:
    """Return the strategies of the backups the timetable would queue now; nothing is queued for good."""
    with host.runtime() as runtime:
        jobs = [job for job in queue_due(runtime, runtime.config.database(""), now=host.now) if job.kind == "create_backup"]
        for job in runtime.jobs.unfinished():
            runtime.jobs.cancel(job.id, reason="only looked", now=host.now - timedelta(days=1))
    return [str(job.args["strategy"]) for job in jobs]


def test_the_schedule_goes_on_with_increments_while_an_anomaly_holds_and_fulls_wait(host: Host) -> None:
    host.now += timedelta(days=8)
    assert queued(host) == ["full"]
    encrypt(host)
    host.back_up()
    host.now += timedelta(hours=1)
    assert queued(host) == ["incremental"]


def test_the_schedule_obeys_min_interval(host: Host) -> None:
    path = host.config_dir / "backup.conf"
    path.write_text(path.read_text().replace("min_interval = never", "min_interval = 2h"))
    host.now += timedelta(hours=1)
    assert queued(host) == []
    host.now += timedelta(hours=1)
    assert queued(host) == ["incremental"]


def test_the_schedule_backs_off_from_an_error_that_time_does_not_heal(host: Host) -> None:
    host.now += timedelta(hours=1)
    with host.runtime() as runtime:
        for n in range(3):
            args = {"database": "memory", "strategy": "incremental", "storage": "local"}
            job = runtime.jobs.add("create_backup", args, now=host.now, database="memory", max_attempts=1, id=f"run-{n}")
            claimed = runtime.jobs.claim(job.id, "w", lease_seconds=60, now=host.now)
            assert claimed is not None
            runtime.jobs.fail(job.id, claimed.token, KeyMissing("key k: not there"), retry=False, now=host.now)
    host.now += timedelta(minutes=5)
    assert queued(host) == []
    host.now += timedelta(minutes=11)
    assert queued(host) == ["incremental"]


def month(host: Host, rng: Random) -> list[Backup]:
    """Thirty days: nightly work, quiet and busy days, VACUUM, an import, tidying up, an upgrade, a weekly full."""
    for day in range(30):
        strategy = "full" if day % 7 == 0 else "differential"
        host.back_up(strategy, after=timedelta(hours=10))
        for _ in range(2):
            host.live(rng.choice([0, 1, 2, 3, 8, 20]))
            host.back_up(after=timedelta(hours=6))
        if day in (6, 20):
            host.execute("VACUUM")
        if day == 9:
            host.execute("CREATE TABLE jobs (id INTEGER PRIMARY KEY, body TEXT)", "ALTER TABLE tenants ADD COLUMN origin TEXT")
        if day == 13:
            host.live(150)
        if day == 16:
            host.execute("DELETE FROM auto_messages WHERE sent = 1", "DELETE FROM jobs", "DROP TABLE jobs")
        if day == 23:
            host.execute("REINDEX", "UPDATE entities SET access_count = 0")
        host.back_up(after=timedelta(hours=2))
    return host.backups()


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.proof), pytest.param(3, marks=pytest.mark.proof)])
def test_a_month_of_normal_life_raises_nothing(tmp_path: Path, seed: int) -> None:
    host = history.make(tmp_path, size_bytes=3 * history.MIB, seed=seed)
    made = month(host, Random(seed))
    assert len(made) == 120
    assert [(b.id, b.suspect_reasons) for b in made if b.status is not BackupStatus.COMPLETED] == []
    assert held(host) == {}


@pytest.mark.parametrize("size_mib", [0.6, 1.5])
def test_small_databases_and_first_backups_never_alarm(tmp_path: Path, size_mib: float) -> None:
    host = history.make(tmp_path, size_bytes=int(size_mib * history.MIB))
    host.back_up("full")
    host.execute("DELETE FROM tenants", "DELETE FROM decisions")
    encrypt(host)
    assert host.back_up().backup.status is BackupStatus.COMPLETED
