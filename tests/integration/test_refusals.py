"""What cannot be backed up or restored is refused: the right error, one line naming the file, nothing stored or changed."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from continuum_tasks.errors import (
    BackupNotFound,
    ContinuumError,
    NoSpace,
    ProofFailed,
    SourceBusy,
    SourceMissing,
    SourceRefused,
    TargetBusy,
    TargetError,
    TargetExists,
)
from continuum_tasks.model import BackupId, BackupStatus, Level, Strategy
from continuum_tasks.restore.find_backup import latest
from continuum_tasks.runtime import finish
from tests.integration import beside as b
from tests.integration.beside import beside, witness
from tests.support import other
from tests.support.sandbox import Options, Sandbox, back_up, back_up_finished, listed, make, objects, restore_to, verified


@pytest.fixture
def sandbox(tmp_path: Path) -> Sandbox:
    return make(tmp_path / "c", Options(busy_seconds=1))


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A directory that other users may reach, unlike the test's own."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def refused(sandbox: Sandbox, error: type[ContinuumError], text: str) -> ContinuumError:
    """Back up, and check the refusal: its class, one line naming the file, a hint; nothing stored, nothing changed."""
    folder = sandbox.database.parent
    before = {path.name: path.lstat().st_size for path in folder.iterdir()}
    with pytest.raises(error, match=text) as info:
        back_up(sandbox)
    check_line(info.value, name=sandbox.database.name)
    assert {path.name: path.lstat().st_size for path in folder.iterdir()} == before
    assert objects(sandbox) == {}
    assert list(sandbox.config.temp_dir.iterdir()) == []
    return info.value


def check_line(error: ContinuumError, *, name: str) -> None:
    assert name in error.message and "\n" not in error.message and error.hint


def test_a_missing_source_is_refused(sandbox: Sandbox) -> None:
    refused(sandbox, SourceMissing, "no such file")


def test_a_source_of_0_bytes_is_refused(sandbox: Sandbox) -> None:
    sandbox.database.touch()
    refused(sandbox, SourceRefused, "0 bytes")


def test_a_source_that_is_not_sqlite_is_refused(sandbox: Sandbox) -> None:
    sandbox.database.write_text("id,name\n1,one\n" * 500)
    refused(sandbox, SourceRefused, "not an SQLite database")


def test_a_source_of_random_bytes_is_refused_as_encrypted(sandbox: Sandbox) -> None:
    sandbox.database.write_bytes(Random(1).randbytes(8 * 4096))
    refused(sandbox, SourceRefused, "encrypted")


def test_a_directory_is_refused(sandbox: Sandbox) -> None:
    sandbox.database.mkdir()
    refused(sandbox, SourceRefused, "a directory")


def test_a_hard_linked_source_is_refused(sandbox: Sandbox) -> None:
    other.run(sandbox.database, other.ROLLBACK)
    sandbox.database.with_name("second.db").hardlink_to(sandbox.database)
    refused(sandbox, SourceRefused, r"hard-linked \(2 names\)")


def test_an_exclusively_locked_source_is_busy_and_its_holder_named(sandbox: Sandbox) -> None:
    other.run(sandbox.database, other.ROLLBACK)
    with other.living(sandbox.database, "c = connect(); c.execute('BEGIN EXCLUSIVE')") as holder:
        refused(sandbox, SourceBusy, rf"locked for more than 1 s, open in pid {holder.pid}")
    assert back_up(sandbox).status is BackupStatus.COMPLETED


def test_an_exclusively_locked_wal_source_is_busy(sandbox: Sandbox) -> None:
    other.run(sandbox.database, other.ROLLBACK + "c.execute('PRAGMA journal_mode=wal').fetchall()")
    use = "c = connect(); c.execute('PRAGMA locking_mode=exclusive').fetchall(); c.execute(\"INSERT INTO t(x) VALUES ('new')\")"
    with other.living(sandbox.database, use) as holder:
        refused(sandbox, SourceBusy, rf"locked for more than 1 s, open in pid {holder.pid}")


def test_a_staging_area_without_room_is_told_before_the_first_byte(sandbox: Sandbox) -> None:
    """The source says it has more pages than the disk has room for; they are a hole."""
    beside(b.script, sandbox.database, "CREATE TABLE t(x)", page_size=65536)
    status = os.statvfs(sandbox.directory)
    free_bytes = status.f_bavail * status.f_frsize
    beside(b.stretch, sandbox.database, n_pages=2 * free_bytes // 65536)
    refused(sandbox, NoSpace, r"staging needs \d+ bytes in .*, \d+ are free")


def test_a_symlinked_source_is_resolved(tmp_path: Path) -> None:
    real = tmp_path / "real.db"
    other.run(real, other.WAL)
    (tmp_path / "link.db").symlink_to(real)
    sandbox = make(tmp_path / "c", database=tmp_path / "link.db")
    made = back_up(sandbox)
    with sandbox.runtime() as runtime:
        assert runtime.repository().read_manifest("main", made.id).source.path == str(real)
    restore_to(sandbox, made.id, tmp_path / "out.db")
    assert witness(tmp_path / "out.db") == witness(real)


# ---- corrupt sources ----


def corrupt(path: Path, *, seed: int) -> None:
    """Overwrite the middles of b-tree pages with random bytes, page 1 left alone."""
    rng = Random(seed)
    n_pages = path.stat().st_size // 4096
    with path.open("r+b") as file:
        for pgno in rng.sample(range(2, n_pages), 3):
            file.seek(pgno * 4096)
            file.write(rng.randbytes(2048))


@pytest.fixture
def corrupted(sandbox: Sandbox) -> tuple[Sandbox, str]:
    """A host with one good full, whose database was damaged afterwards."""
    other.run(sandbox.database, other.ROLLBACK)
    good = back_up(sandbox)
    corrupt(sandbox.database, seed=7)
    return sandbox, good.id


def test_a_corrupt_source_is_copied_as_it_is_and_marked_suspect(corrupted: tuple[Sandbox, str], tmp_path: Path) -> None:
    sandbox, _ = corrupted
    made = back_up(sandbox, "incremental")
    assert made.status is BackupStatus.SUSPECT and made.suspect_reasons
    done = restore_to(sandbox, made.id, tmp_path / "out.db", check=True)
    assert done.warnings and "damaged" in done.warnings[0]
    ours, theirs = (tmp_path / "out.db").read_bytes(), sandbox.database.read_bytes()
    assert ours[4096:] == theirs[4096:] and ours[100:4096] == theirs[100:4096]


def test_a_suspect_backup_is_never_verified_never_built_on_and_never_the_latest(corrupted: tuple[Sandbox, str]) -> None:
    sandbox, good = corrupted
    suspect = back_up(sandbox, "incremental")
    for level in (Level.OBJECTS, Level.PAGES):
        verified(sandbox, suspect.id, level)
    with pytest.raises(ProofFailed, match=f"backup {suspect.id}: restores as it was made, but SQLite finds in it"):
        verified(sandbox, suspect.id)
    assert not next(found for found in listed(sandbox) if found.id == suspect.id).verified
    following = back_up(sandbox, "incremental")
    assert (following.status, following.parent_id) == (BackupStatus.SUSPECT, good)
    assert back_up(sandbox, "differential").parent_id == good
    with sandbox.runtime() as runtime:
        assert finish(latest(runtime)).id == good


def test_after_a_suspect_full_an_incremental_starts_anew_and_says_why(sandbox: Sandbox) -> None:
    other.run(sandbox.database, other.ROLLBACK)
    corrupt(sandbox.database, seed=7)
    assert back_up(sandbox).status is BackupStatus.SUSPECT
    done = back_up_finished(sandbox, "incremental")
    assert done.backup.strategy is Strategy.FULL
    assert "nothing usable" in done.reason


@pytest.mark.parametrize("seed", range(8))
def test_a_source_with_random_damage_anywhere_is_stored_exactly_or_refused(sandbox: Sandbox, tmp_path: Path, seed: int) -> None:
    rng = Random(seed)
    other.run(sandbox.database, other.ROLLBACK)
    with sandbox.database.open("r+b") as file:
        for _ in range(3):
            file.seek(rng.randrange(100, sandbox.database.stat().st_size - 600))
            file.write(rng.randbytes(rng.randrange(1, 600)))
        if seed % 4 == 3:
            file.truncate(sandbox.database.stat().st_size - rng.randrange(1, 9000))
    made = back_up(sandbox)
    restore_to(sandbox, made.id, tmp_path / "out.db")
    source = sandbox.database.read_bytes()
    assert (tmp_path / "out.db").read_bytes()[4096 : len(source)] == source[4096:]
    if seed % 4 == 3:
        assert made.status is BackupStatus.SUSPECT


# ---- targets ----


@pytest.fixture
def stored(sandbox: Sandbox) -> tuple[Sandbox, str]:
    other.run(sandbox.database, other.ROLLBACK)
    return sandbox, back_up(sandbox).id


def test_a_missing_target_directory_is_refused(stored: tuple[Sandbox, str], tmp_path: Path) -> None:
    sandbox, backup_id = stored
    with pytest.raises(TargetError, match="its directory does not exist") as info:
        restore_to(sandbox, backup_id, tmp_path / "no" / "memory.db")
    check_line(info.value, name="memory.db")
    assert not (tmp_path / "no").exists()


def test_an_existing_target_is_refused_without_overwrite(stored: tuple[Sandbox, str], tmp_path: Path) -> None:
    sandbox, backup_id = stored
    (tmp_path / "memory.db").write_text("precious")
    with pytest.raises(TargetExists, match="exists") as info:
        restore_to(sandbox, backup_id, tmp_path / "memory.db")
    check_line(info.value, name="memory.db")
    assert (tmp_path / "memory.db").read_text() == "precious"


@pytest.mark.parametrize("suffix", ["-wal", "-journal"])
def test_a_lone_sidecar_is_data_and_refused_without_overwrite(stored: tuple[Sandbox, str], tmp_path: Path, suffix: str) -> None:
    sandbox, backup_id = stored
    lone = tmp_path / f"memory.db{suffix}"
    lone.write_text("precious")
    with pytest.raises(TargetExists, match=lone.name):
        restore_to(sandbox, backup_id, tmp_path / "memory.db")
    assert lone.read_text() == "precious"


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_symlinked_target_is_refused(stored: tuple[Sandbox, str], tmp_path: Path, overwrite: bool) -> None:
    sandbox, backup_id = stored
    (tmp_path / "real.db").write_text("precious")
    (tmp_path / "memory.db").symlink_to(tmp_path / "real.db")
    with pytest.raises(TargetError, match="a symlink") as info:
        restore_to(sandbox, backup_id, tmp_path / "memory.db", overwrite=overwrite)
    check_line(info.value, name="memory.db")
    assert (tmp_path / "memory.db").is_symlink() and (tmp_path / "real.db").read_text() == "precious"


@pytest.mark.parametrize(
    "use", ["c = connect(); c.execute('BEGIN IMMEDIATE')", "c = connect(); c.execute('PRAGMA user_version')"]
)
def test_a_target_in_use_is_busy_and_unchanged(stored: tuple[Sandbox, str], tmp_path: Path, use: str) -> None:
    sandbox, backup_id = stored
    target = tmp_path / "out" / "memory.db"
    target.parent.mkdir()
    other.run(target, other.ROLLBACK + "c.execute('DELETE FROM t WHERE id > 3')")
    before = target.read_bytes()
    with other.living(target, use) as holder:
        with pytest.raises(TargetBusy, match=f"pid {holder.pid}") as info:
            restore_to(sandbox, backup_id, target, overwrite=True)
        check_line(info.value, name="memory.db")
        assert [path.name for path in target.parent.iterdir()] == ["memory.db"]
    assert target.read_bytes() == before
    restore_to(sandbox, backup_id, target, overwrite=True)


def test_a_target_directory_that_cannot_be_written_is_refused(open_folder: Path) -> None:
    sandbox = make(open_folder / "c")
    other.run(sandbox.database, other.ROLLBACK)
    made = back_up(sandbox)
    home = open_folder / "home"
    home.mkdir(mode=0o555)
    with other.unprivileged(open_folder), pytest.raises(TargetError, match=r"no permission to write in .*home") as info:
        restore_to(sandbox, made.id, home / "memory.db")
    check_line(info.value, name="memory.db")
    assert list(home.iterdir()) == []


def test_a_source_this_user_may_not_read_is_refused(open_folder: Path) -> None:
    sandbox = make(open_folder / "c")
    other.run(sandbox.database, other.ROLLBACK)
    sandbox.database.chmod(0)
    with other.unprivileged(open_folder):
        refused(sandbox, SourceRefused, "no permission to read")


def test_a_restore_without_room_at_the_target_is_refused_before_the_first_byte(
    stored: tuple[Sandbox, str], tmp_path: Path
) -> None:
    sandbox, backup_id = stored
    with sandbox.runtime() as runtime:
        repository = runtime.repository()
        manifest = repository.read_manifest("main", BackupId(backup_id))
        huge = BackupId("backup-full-20200101-000000")
        most = {"page_size": 65536, "n_pages": 2**32 - 1, "original_size_bytes": 65536 * (2**32 - 1)}
        backup = replace(manifest.backup, id=huge, base_id=huge, **most)
        repository.put_manifest(replace(manifest, backup=backup, objects=()))
    with pytest.raises(NoSpace, match=r"restoring needs \d+ bytes, \d+ are free") as info:
        restore_to(sandbox, huge, tmp_path / "memory.db")
    check_line(info.value, name="memory.db")
    assert not (tmp_path / "memory.db").exists()


def test_a_backup_nobody_made_is_not_found(stored: tuple[Sandbox, str], tmp_path: Path) -> None:
    sandbox, _ = stored
    with pytest.raises(BackupNotFound, match="backup-full-20200101-000000: not in storage local"):
        restore_to(sandbox, "backup-full-20200101-000000", tmp_path / "memory.db")
    assert not (tmp_path / "memory.db").exists()


def test_a_chain_with_a_link_gone_is_not_found_and_names_the_link(stored: tuple[Sandbox, str], tmp_path: Path) -> None:
    sandbox, full = stored
    beside(b.script, sandbox.database, "DELETE FROM t WHERE id % 2")
    made = back_up(sandbox, "incremental")
    objects(sandbox)[f"manifests/main/{full}.json"].unlink()
    with pytest.raises(BackupNotFound, match=f"backup {full}"):
        restore_to(sandbox, made.id, tmp_path / "memory.db")
    assert not (tmp_path / "memory.db").exists()
