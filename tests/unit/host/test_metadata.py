"""`metadata.db` evolves: each version is brought to this one in one transaction, and a newer one is left alone."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from continuum_tasks import failpoints
from continuum_tasks.config import Config
from continuum_tasks.errors import NewerFormat
from continuum_tasks.host.catalog import open_catalog
from continuum_tasks.host.jobs import JobState, open_jobs
from continuum_tasks.host.metadata import MIGRATIONS, Metadata, open_metadata
from continuum_tasks.host.metrics import open_metrics
from continuum_tasks.runtime import open_runtime
from tests.support.processes import ROOT
from tests.support.stack import write_config_files

GOLDEN = Path(__file__).parents[2] / "golden" / "v1" / "sealed"
NEXT = (*MIGRATIONS, "CREATE TABLE later (n INTEGER); INSERT INTO later VALUES (1)", "ALTER TABLE later ADD COLUMN text TEXT")
_OPEN = """
import sys
from pathlib import Path
from continuum_tasks import failpoints
from continuum_tasks.host.metadata import Metadata
from tests.unit.host.test_metadata import NEXT
failpoints.arm(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
print(Metadata(Path(sys.argv[1]), NEXT).rows("SELECT count(*) FROM later"))
"""
_ASK = """
import json, sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
print(json.dumps([connection.execute(sql).fetchall() for sql in sys.argv[2:]]))
"""


def ask(path: Path, *queries: str) -> list[list[list[object]]]:
    """Put questions to a database by the standard library's SQLite in another process."""
    done = subprocess.run([sys.executable, "-c", _ASK, str(path), *queries], capture_output=True, text=True, check=True)
    answers: list[list[list[object]]] = json.loads(done.stdout)
    return answers


def version_of(path: Path) -> object:
    return ask(path, "PRAGMA user_version")[0][0][0]


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A file as the release before migrations left it."""
    path = tmp_path / "metadata.db"
    shutil.copyfile(GOLDEN / "metadata.db", path)
    assert version_of(path) == 0
    return path


@contextmanager
def opened(path: Path, migrations: tuple[str, ...] = MIGRATIONS) -> Iterator[Metadata]:
    with closing(Metadata(path, migrations)) as metadata:
        yield metadata


def start(path: Path, failpoints: str = "") -> subprocess.Popen[str]:
    """Start a process that opens the file with two more migrations as soon as it gets a line."""
    words = [sys.executable, "-c", _OPEN, str(path), failpoints]
    return subprocess.Popen(words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_the_file_of_the_release_before_is_version_1_and_all_in_it_is_read(old: Path) -> None:
    known = json.loads((GOLDEN / "expected.json").read_text())
    with closing(open_catalog(old)) as catalog, closing(open_jobs(old)) as jobs, closing(open_metrics(old)) as metrics:
        backups = catalog.backups()
        assert {str(backup.id) for backup in backups} == set(known["backups"])
        assert [backup.id for backup in backups if backup.verified]
        assert set(catalog.holds("local")) == {known["made"]["full"]}
        assert set(catalog.acceptances("local")) == {known["made"]["accepted"]}
        assert len(catalog.drills("local")) == 1 and catalog.is_indexed("local")
        found = {job_id: jobs.get(job_id) for job_id in ("job-queued", "job-running", "job-done", "job-failed")}
        states = [job.state for job in found.values() if job is not None]
        assert states == [JobState.QUEUED, JobState.RUNNING, JobState.DONE, JobState.FAILED]
        assert [text for _, text in jobs.notes("job-done")] == ["built on the last full"]
        assert jobs.claim("job-queued", "w:1:1", lease_seconds=9, now=datetime.now(UTC)) is not None
        assert metrics.series("backup_duration_seconds")
    assert version_of(old) == len(MIGRATIONS) == 1


def test_a_new_file_has_the_tables_of_an_old_one(tmp_path: Path, old: Path) -> None:
    open_metadata(tmp_path / "new.db").close()
    tables = "SELECT type, name, tbl_name, sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name"
    assert sorted(map(str, ask(tmp_path / "new.db", tables)[0])) == sorted(map(str, ask(old, tables)[0]))
    assert version_of(tmp_path / "new.db") == 1


def test_a_file_that_has_only_some_of_the_tables_gets_the_others(tmp_path: Path) -> None:
    path = tmp_path / "metadata.db"
    open_metadata(path).close()
    script = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).executescript(sys.argv[2])"
    words = ["DROP TABLE metrics; DROP TABLE backups; PRAGMA user_version = 0"]
    subprocess.run([sys.executable, "-c", script, str(path), *words], check=True)
    open_metadata(path).close()
    assert ask(path, "SELECT count(*) FROM metrics", "SELECT count(*) FROM backups") == [[[0]], [[0]]]


def test_a_file_goes_through_every_later_version_once(old: Path) -> None:
    for _ in range(2):
        with opened(old, NEXT) as metadata:
            assert metadata.rows("SELECT n, text FROM later") == [(1, None)]
    assert version_of(old) == 3
    assert ask(old, "SELECT count(*) FROM jobs", "PRAGMA integrity_check") == [[[4]], [["ok"]]]


def test_processes_that_open_an_old_file_at_once_migrate_it_once(old: Path) -> None:
    processes = [start(old, "metadata.migrated=sleep:1") for _ in range(4)]  # the others come while the first is at it
    for process in processes:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = [process.communicate(timeout=120)[0].strip() for process in processes]
    assert answers == ["[(1,)]"] * 4
    assert version_of(old) == 3


@pytest.mark.parametrize("failpoint", failpoints.METADATA)
def test_a_process_killed_while_it_migrates_leaves_the_old_version(old: Path, failpoint: str) -> None:
    before = ask(old, "SELECT name FROM sqlite_master ORDER BY name", "SELECT * FROM jobs")
    process = start(old, f"{failpoint}=kill")
    process.communicate("go\n", timeout=120)
    assert process.returncode == -9
    assert ask(old, "SELECT name FROM sqlite_master ORDER BY name", "SELECT * FROM jobs") == before
    assert version_of(old) == 0
    with opened(old, NEXT) as metadata:
        assert metadata.rows("SELECT count(*) FROM later") == [(1,)]


def test_a_migration_that_fails_leaves_the_old_version(old: Path) -> None:
    with (
        pytest.raises(Exception, match="no such table"),
        opened(old, (*MIGRATIONS, "INSERT INTO nowhere VALUES (1)")) as metadata,
    ):
        metadata.rows("SELECT 1")
    assert version_of(old) == 0


def test_the_file_of_a_newer_version_is_refused_with_that_reason_and_stays(old: Path) -> None:
    with opened(old, NEXT) as metadata:
        metadata.rows("SELECT 1")
    before = old.read_bytes()
    for opener in (open_catalog, open_jobs, open_metrics):
        with pytest.raises(NewerFormat) as caught:
            opener(old)
        assert caught.value.message == f"{old}: written by a newer version (3); this version reads up to 1"
        assert "upgrade" in caught.value.hint and "reindex" in caught.value.hint
    assert old.read_bytes() == before
    assert not list(old.parent.glob("*.damaged*"))


def test_a_process_that_has_the_file_open_stops_when_a_newer_version_migrates_it(old: Path) -> None:
    with closing(open_jobs(old)) as jobs:
        assert jobs.get("job-queued") is not None
        process = start(old)
        assert process.communicate("go\n", timeout=120)[0].splitlines() == ["ready", "[(1,)]"]
        with pytest.raises(NewerFormat):
            jobs.add("create_backup", {}, now=datetime.now(UTC))
        with pytest.raises(NewerFormat):
            jobs.get("job-queued")
    assert ask(old, "SELECT count(*) FROM jobs") == [[[4]]]


def test_a_command_goes_on_without_a_file_of_a_newer_version_and_says_so(tmp_path: Path) -> None:
    config: Config = write_config_files(tmp_path / "c")
    path = config.state_dir / "metadata.db"
    with opened(path, NEXT) as metadata:
        metadata.rows("SELECT 1")
    with open_runtime(config) as runtime:
        assert "written by a newer version (3)" in runtime.state_trouble and "upgrade" in runtime.state_trouble
        assert runtime.catalog.backups() == []
    assert version_of(path) == 3
