"""The Python interface: the same work as the commands do, as values and errors, and not a word on standard output."""

from __future__ import annotations

import inspect
import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from shutil import copytree
from types import FunctionType

import pytest

from continuum_tasks import api
from continuum_tasks.api import Installation, RowQuery, RowTarget
from continuum_tasks.config import load_config
from continuum_tasks.errors import (
    BackupNotFound,
    ConfigError,
    NewerFormat,
    StorageError,
    TargetExists,
    UsageError,
    error_classes,
)
from continuum_tasks.model import Level, Progress, Strategy, TimelineId
from continuum_tasks.repository.timelines import put_timeline
from tests.support.formats import as_format
from tests.support.oracle import dump
from tests.support.recording import SECOND_US, Recorder, stand

FUNCTIONS = [getattr(api, name) for name in api.__all__ if inspect.isfunction(getattr(api, name))]
DOCUMENT = (Path(__file__).resolve().parents[3] / "docs" / "API.md").read_text(encoding="utf-8")


@pytest.fixture
def installation(site: Path) -> Iterator[Installation]:
    with api.open_installation(site / "etc") as opened:
        yield opened


def rows(path: Path, sql: str = "SELECT count(*) FROM messages") -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute(sql).fetchone()[0])


def execute(path: Path, sql: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript(sql)


def test_a_backup_is_made_listed_proven_and_restored_without_a_word(
    installation: Installation, site: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    capfd.readouterr()
    first = api.make_backup(installation, Strategy.FULL)
    execute(site / "memory.db", "DELETE FROM messages WHERE id % 2")
    second = api.make_backup(installation)
    assert (second.strategy, second.parent_id) == (Strategy.INCREMENTAL, first.id)
    assert [backup.id for backup in api.stored_backups(installation)] == [second.id, first.id]
    assert api.newest_state(installation).backup.id == second.id
    assert api.verify_stored(installation, second).passed
    assert api.verify_stored(installation, first, level=Level.OBJECTS).level is Level.OBJECTS
    done = api.restore_state(installation, api.state_of_backup(installation, first.id), site / "first.db", verify=True)
    assert rows(site / "first.db") > rows(site / "memory.db") > 0
    assert done.backup.id == first.id and done.size_bytes == (site / "first.db").stat().st_size
    assert capfd.readouterr() == ("", "")


def test_progress_goes_to_the_callback_and_what_it_raises_ends_the_work(site: Path) -> None:
    seen: list[Progress] = []
    with api.open_installation(site / "etc", on_progress=seen.append) as installation:
        api.make_backup(installation, Strategy.FULL)
    assert any(step.total_bytes for step in seen) and len({step.phase for step in seen}) > 2

    def enough(_step: Progress) -> None:
        raise InterruptedError

    with api.open_installation(site / "etc", on_progress=enough) as installation, pytest.raises(InterruptedError):
        api.restore_state(installation, api.newest_state(installation), site / "r.db")
    assert not (site / "r.db").exists()


def test_what_is_asked_wrongly_is_an_error_with_a_remedy_and_the_target_stays(installation: Installation, site: Path) -> None:
    with pytest.raises(BackupNotFound):
        api.newest_state(installation)
    api.make_backup(installation, Strategy.FULL)
    state = api.newest_state(installation)
    (site / "there.db").write_bytes(b"as it was")
    with pytest.raises(TargetExists) as caught:
        api.restore_state(installation, state, site / "there.db")
    assert caught.value.hint and (site / "there.db").read_bytes() == b"as it was"
    assert api.preview_of_restore(installation, state, site / "there.db").refused
    with pytest.raises(BackupNotFound):
        api.state_of_backup(installation, "../etc/passwd")
    with pytest.raises(BackupNotFound):
        api.state_at(installation, datetime.now(UTC) - timedelta(days=9))
    with pytest.raises(UsageError, match="time zone"):
        api.state_at(installation, datetime.now())
    with pytest.raises(UsageError):
        api.make_backup(installation, database="nobody")
    with pytest.raises(ConfigError), api.open_installation(site / "nowhere"):
        pass


def test_a_replaced_file_is_put_back(installation: Installation, site: Path) -> None:
    api.make_backup(installation, Strategy.FULL)
    execute(site / "memory.db", "CREATE TABLE later (n)")
    before = dump(site / "memory.db")
    api.restore_state(installation, api.newest_state(installation), site / "memory.db", overwrite=True)
    assert dump(site / "memory.db") != before
    api.put_back_replaced(installation, site / "memory.db")
    assert dump(site / "memory.db") == before


def test_rows_are_read_and_brought_back_into_the_live_database(installation: Installation, site: Path) -> None:
    api.make_backup(installation, Strategy.FULL)
    state, query = api.newest_state(installation), RowQuery(table="messages", where="id <= 20")
    read = api.read_rows(installation, state, query)
    assert [row["id"] for row in read] == list(range(1, 21))
    n_rows = rows(site / "memory.db")
    execute(site / "memory.db", "DELETE FROM messages WHERE id <= 20")
    tried = api.write_rows(installation, state, query, RowTarget(path=site / "memory.db", dry_run=True))
    assert (tried.n_rows, tried.brought, rows(site / "memory.db")) == (20, None, n_rows - 20)
    done = api.write_rows(installation, state, query, RowTarget(path=site / "memory.db"))
    assert done.brought is not None and done.brought.n_inserted == 20 and rows(site / "memory.db") == n_rows


def test_a_kept_backup_is_kept_until_it_is_released(installation: Installation) -> None:
    made = api.make_backup(installation, Strategy.FULL)
    assert api.keep_backup(installation, made, "evidence").reason == "evidence"
    released = api.stop_keeping(installation, made)
    assert released is not None and released.reason == "evidence"
    assert api.stop_keeping(installation, made) is None


def test_health_says_what_is_wrong_and_what_to_do(installation: Installation) -> None:
    report = api.health_report(installation)
    assert [finding for finding in report.findings if "backup" in finding.text and finding.hint]


def test_what_is_done_is_in_the_audit_log(installation: Installation, site: Path) -> None:
    api.make_backup(installation, Strategy.FULL)
    api.restore_state(installation, api.newest_state(installation), site / "r.db")
    path = next(installation.runtime.config.state_dir.glob("audit*"))
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert {"create", "restore"} <= {line["action"] for line in lines}


def add_storage(site: Path, name: str) -> None:
    with (site / "etc" / "storage.conf").open("a", encoding="utf-8") as file:
        file.write(f"\n[storage:{name}]\ntype = local\npath = {site / name}\n")


def recorder_of(installation: Installation, site: Path) -> Recorder:
    """Record commits from a minute ago on; the storage has a backup."""
    config = load_config(site / "etc")
    (site / "scratch").mkdir()
    return Recorder(
        path=site / "memory.db",
        repository=installation.runtime.repository(),
        scratch=site / "scratch",
        database=config.default_database,
        now_us=int((datetime.now(UTC) - timedelta(minutes=1)).timestamp()) * SECOND_US,
        key_id=config.backup.encryption_key_id,
    )


def test_commits_are_listed_and_restored_by_number_and_by_time(installation: Installation, site: Path) -> None:
    full = api.make_backup(installation, Strategy.FULL)
    assert api.captured_commits(installation) == ()
    with recorder_of(installation, site) as recorder:
        recorder.ship()
        stand(installation.runtime, full, recorder.timeline.id, 1)
        for number in (2, 3, 4):
            recorder.run(f"CREATE TABLE t{number} (n)")
        recorder.ship()
        commits = api.captured_commits(installation, limit=3)
        assert [commit.number for commit in commits] == [4, 3, 2]
        third = api.state_after_commit(installation, 3)
        assert third.commit == commits[1] == api.state_at(installation, commits[1].observed_at).commit
        api.restore_state(installation, third, site / "third.db")
        assert dump(site / "third.db") == dump(recorder.state(3))
        with pytest.raises(BackupNotFound, match="1 to 4"):
            api.state_after_commit(installation, 99)
        later = api.state_at(installation, datetime.now(UTC) + timedelta(hours=1))
        assert (later.backup.id, later.commit) == (full.id, None)  # made after the last commit


def test_a_timeline_of_a_newer_version_is_an_error_and_not_passed_over(installation: Installation, site: Path) -> None:
    full = api.make_backup(installation, Strategy.FULL)
    with recorder_of(installation, site) as recorder:
        recorder.ship()
        stand(installation.runtime, full, recorder.timeline.id, 1)
        seen = api.state_after_commit(installation, 1).commit
        assert seen is not None
        later = replace(recorder.timeline, id=TimelineId.make(datetime.now(UTC), chance=b"late"))
        path = site / "store" / put_timeline(recorder.repository, later)
        path.chmod(0o600)
        path.write_bytes(as_format(path.read_bytes(), 2))
        for find in (
            lambda: api.state_after_commit(installation, 1),
            lambda: api.state_at(installation, seen.observed_at),
            lambda: api.captured_commits(installation),
        ):
            with pytest.raises(NewerFormat, match="written by a newer version"):
                find()


def test_a_storage_that_cannot_be_asked_leaves_the_backups_that_are_known(site: Path) -> None:
    with api.open_installation(site / "etc") as installation:
        made = api.make_backup(installation, Strategy.FULL)
    add_storage(site, "never-seen")
    (site / "store").rename(site / "elsewhere")
    for name in ("store", "never-seen"):
        (site / name).symlink_to(name)  # a loop: no directory is there, and none is missing
    with api.open_installation(site / "etc") as installation:
        state = api.state_at(installation, datetime.now(UTC) + timedelta(hours=1))
        assert (state.backup.id, state.commit) == (made.id, None)
        assert api.newest_state(installation).backup.id == api.state_of_backup(installation, made.id).backup.id == made.id
        with pytest.raises(StorageError):
            api.stored_backups(installation)
        with pytest.raises(StorageError):
            api.state_after_commit(installation, 1)


def test_of_several_copies_of_a_backup_that_in_the_default_storage_is_meant(site: Path) -> None:
    with api.open_installation(site / "etc") as installation:
        made = api.make_backup(installation, Strategy.FULL)
    copytree(site / "store", site / "zz")
    add_storage(site, "zz")
    with api.open_installation(site / "etc") as installation:
        assert {backup.storage for backup in api.stored_backups(installation)} == {made.storage, "zz"}
        assert [backup.storage for backup in api.stored_backups(installation, storage="zz")] == ["zz"]
        assert api.newest_state(installation).backup.storage == made.storage
        assert api.state_of_backup(installation, made.id).backup.storage == made.storage
        assert api.state_of_backup(installation, made.id, storage="zz").backup.storage == "zz"
        assert api.state_at(installation, datetime.now(UTC)).backup.storage == made.storage


def test_a_hole_between_commits_names_the_backup_that_was_made_inside(installation: Installation, site: Path) -> None:
    full = api.make_backup(installation, Strategy.FULL)
    with recorder_of(installation, site) as recorder:
        recorder.resume(unseen_us=3600 * SECOND_US, reason="a hole")
        recorder.ship()
    with pytest.raises(BackupNotFound) as caught:
        api.state_at(installation, datetime.now(UTC) + timedelta(minutes=10))
    assert f"{full.id} was made in the hole" in caught.value.hint


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: str(function.__name__))
def test_every_function_is_typed_and_documented_and_names_errors_that_exist(function: FunctionType) -> None:
    signature = inspect.signature(function)
    assert signature.return_annotation is not inspect.Signature.empty
    assert all(one.annotation is not inspect.Parameter.empty for one in signature.parameters.values())
    text = inspect.getdoc(function) or ""
    assert text and set(re.findall(r"\b[A-Z][a-z]+(?:[A-Z][a-z]+)+\b", text)) - {"SQLite"} <= {*error_classes(), *api.__all__}
    assert f"`{function.__name__}" in DOCUMENT, "docs/API.md"
    assert len(signature.parameters) <= 5


def test_the_document_names_nothing_that_is_gone() -> None:
    named = set(re.findall(r"^\| `([a-z_]+)\(", DOCUMENT, re.MULTILINE))
    assert named == {function.__name__ for function in FUNCTIONS}
