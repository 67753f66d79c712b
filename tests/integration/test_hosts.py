"""Several hosts, one storage: names and seconds may meet, data never does."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from continuum_tasks import runtime as runtime_module
from continuum_tasks.backup.choose_parent import RESERVED_IDS, reserve
from continuum_tasks.config import RetentionSettings
from continuum_tasks.errors import ConfigError, NoSpace, StorageUnreachable, UsageError
from continuum_tasks.health.recovery_points import protections
from continuum_tasks.host.catalog import Catalog, open_catalog
from continuum_tasks.layer import format as layer_format
from continuum_tasks.model import BackupId, Strategy
from continuum_tasks.restore.find_backup import latest, look_up
from continuum_tasks.retention import expire
from continuum_tasks.runtime import finish
from continuum_tasks.schedule.queue_due import retention_pairs
from continuum_tasks.tasks.shell import runtime_of
from tests.integration import beside
from tests.support import sandbox
from tests.support.sandbox import Options, Sandbox


@pytest.fixture
def one(tmp_path: Path) -> Sandbox:
    return with_rows(sandbox.make(tmp_path / "one", Options(host="h1")), 1)


@pytest.fixture
def two(tmp_path: Path, one: Sandbox) -> Sandbox:
    return with_rows(sandbox.another_host(one, tmp_path / "two", Options(host="h2")), 2)


def with_rows(host: Sandbox, value: int) -> Sandbox:
    beside.beside(beside.script, host.database, "CREATE TABLE t(v)", f"INSERT INTO t VALUES ({value})")
    return host


def rows(path: Path) -> list[tuple[object, ...]]:
    return beside.beside(beside.script, path, "SELECT v FROM t")


def test_an_increment_never_builds_on_another_hosts_database_of_the_same_name(
    one: Sandbox, two: Sandbox, tmp_path: Path
) -> None:
    first = sandbox.back_up(one, "full")
    second = sandbox.back_up(two, "incremental")
    assert second.strategy is Strategy.FULL and second.base_id == second.id
    sandbox.back_up(one, "incremental")
    for made, value in ((first, 1), (second, 2)):
        sandbox.restore_to(one, made.id, tmp_path / f"{value}.db")
        assert rows(tmp_path / f"{value}.db") == [(value,)]


def test_latest_is_this_hosts_own_and_a_blank_host_is_asked_which_of_several(
    one: Sandbox, two: Sandbox, tmp_path: Path
) -> None:
    mine = sandbox.back_up(one, "full")
    blank = sandbox.another_host(one, tmp_path / "blank", Options(host="h3"))
    with blank.runtime() as runtime:
        assert finish(latest(runtime)).id == mine.id
    sandbox.back_up(two, "full")
    sandbox.listed(one)
    with one.runtime() as runtime:
        assert finish(latest(runtime)).id == mine.id
    with blank.runtime() as runtime, pytest.raises(UsageError, match="h1, h2"):
        finish(latest(runtime, storage="local"))


def test_an_id_that_a_run_has_or_had_is_not_given_again(one: Sandbox) -> None:
    sandbox.back_up(one, "full")
    assert not [key for key in sandbox.objects(one) if key.startswith("locks/")]
    taken = BackupId.make(Strategy.FULL, datetime.now(UTC))
    with one.runtime() as runtime:
        repository = runtime.repository()
        assert reserve(taken, "h1/main", "a", repository=repository)
        assert not reserve(taken, "h2/main", "b", repository=repository)
        assert [info.key for info in repository.storage.list(RESERVED_IDS)] == [f"{RESERVED_IDS}{taken}"]


def test_a_backup_whose_run_died_before_its_catalog_row_is_built_on(one: Sandbox) -> None:
    sandbox.back_up(one, "full")
    sandbox.outcome(sandbox.start(one, "backup", "incremental", failpoints="create.after_manifest=kill"))
    lost = max((b for b in sandbox.listed(one)), key=lambda b: b.created_at)
    with one.runtime() as runtime:
        runtime.catalog.forget("local", lost.id)
    beside.beside(beside.script, one.database, "INSERT INTO t VALUES (9)")
    assert sandbox.back_up(one, "incremental").parent_id == lost.id


def test_nothing_is_written_to_a_storage_that_lost_everything(one: Sandbox) -> None:
    sandbox.back_up(one, "full")
    one.store.rename(one.store.with_name("elsewhere"))
    with pytest.raises(StorageUnreachable, match="is empty, but 1"):
        sandbox.back_up(one, "full")
    assert not one.store.exists() or not any(one.store.rglob("*"))
    with one.runtime() as runtime, pytest.raises(StorageUnreachable, match="is empty, but 1"):
        finish(look_up(runtime, storage="local"))


def test_an_emergency_restore_needs_no_state_directory(one: Sandbox, tmp_path: Path) -> None:
    made = sandbox.back_up(one, "full")
    blank = sandbox.another_host(one, tmp_path / "blank", Options(host="h3"))
    blank.config.state_dir.write_text("a file where the directory belongs")
    with blank.runtime() as runtime:
        assert "cannot be" in runtime.state_trouble
        assert finish(latest(runtime)).id == made.id
    sandbox.restore_to(blank, made.id, tmp_path / "back.db")
    assert rows(tmp_path / "back.db") == [(1,)]


def test_an_emergency_restore_needs_no_room_for_its_records(
    one: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a full disk an empty metadata.db can still be made, and its tables cannot."""
    made = sandbox.back_up(one, "full")
    blank = sandbox.another_host(one, tmp_path / "blank", Options(host="h3"))

    def full(path: Path) -> Catalog:
        if path.is_relative_to(blank.config.state_dir):
            raise NoSpace(f"{path}: no space left")
        return open_catalog(path)

    monkeypatch.setattr(runtime_module, "open_catalog", full)
    sandbox.restore_to(blank, made.id, tmp_path / "back.db")
    assert rows(tmp_path / "back.db") == [(1,)]
    with blank.runtime() as runtime:
        assert runtime.state_trouble.endswith("metadata.db: no space left")


def test_a_backup_that_exists_never_fails_for_want_of_a_cache(one: Sandbox) -> None:
    """Its manifest is put by then; without the digests kept here the next one reads them from the storage."""
    one.config.state_dir.mkdir()
    (one.config.state_dir / "digests").write_text("no room for a directory")
    full = sandbox.back_up(one, "full")
    beside.beside(beside.script, one.database, "INSERT INTO t VALUES (2)")
    assert sandbox.back_up(one, "incremental").parent_id == full.id


def test_a_worker_does_nothing_without_its_records_and_goes_on_once_they_are_there(one: Sandbox) -> None:
    """Kept for the life of the process, records that are thrown away would know of no job for ever."""
    task: Any = SimpleNamespace(app=SimpleNamespace(conf={"continuum_config_directory": str(one.directory)}))
    one.config.state_dir.write_text("a file where the directory belongs")
    with pytest.raises(ConfigError, match="cannot be"):
        runtime_of(task)
    one.config.state_dir.unlink()
    assert runtime_of(task).state_trouble == ""


def test_a_full_leaves_out_the_chunk_that_would_be_empty(one: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock page lies at 1 GiB; here it is moved to 256 KiB, and a chunk is one page, so that a small database has one."""
    monkeypatch.setattr(layer_format, "LOCK_OFFSET", 4 * 65536)
    one.database.unlink()
    blobs = (
        "INSERT INTO t WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 12) SELECT zeroblob(60000) FROM n"
    )
    beside.beside(beside.script, one.database, "CREATE TABLE t(v)", blobs, page_size=65536)
    made = sandbox.back_up(one, "full")
    assert made.layer_size_bytes == (made.n_pages - 1) * 65536 > 5 * 65536


def test_retention_of_one_host_neither_counts_nor_expires_what_another_keeps(one: Sandbox, two: Sandbox) -> None:
    """Both call their database `main`: the newer backups of one are no reason for the other's to go."""
    first = sandbox.back_up(one, "full")
    others = [sandbox.back_up(two, "full") for _ in range(4)]
    later = datetime.now(UTC) + timedelta(days=60)

    with two.runtime() as runtime:
        site = replace(runtime.site, clock=replace(runtime.site.clock, now=lambda: later))
        policy = expire.policy_of(RetentionSettings(min_backups=1, only_verified=False), aggressive=True)
        request = expire.RetentionRequest(database="main", policy=policy, by="test", pitr_window_seconds=7 * 86_400)
        looked = finish(expire.preview_retention(request, repository=runtime.repository(), site=site))
    with one.runtime() as runtime:
        sandbox.listed(one)
        assert retention_pairs(runtime) == [("main", "local")]

    assert {decision.backup_id for decision in looked.decisions} == {made.id for made in others}
    assert first.id not in {decision.backup_id for decision in looked.decisions}


def test_a_fresh_backup_of_another_host_hides_no_silence_of_this_one(one: Sandbox, two: Sandbox, tmp_path: Path) -> None:
    mine = sandbox.back_up(one, "full")
    newer = sandbox.back_up(two, "full")
    blank = sandbox.another_host(one, tmp_path / "blank", Options(host="h3"))

    found = {}
    for host in (one, blank):
        with host.runtime() as runtime:
            sandbox.listed(host)
            (judged,) = protections(runtime.config, runtime.catalog.backups(), site=runtime.site)
            found[runtime.config.host] = {backup.id for backup in judged.backups}

    assert found == {"h1": {mine.id}, "h3": {mine.id, newer.id}}
