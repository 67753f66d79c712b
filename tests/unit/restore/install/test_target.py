from __future__ import annotations

import os
from pathlib import Path

import apsw
import pytest

from continuum_tasks.errors import NoSpace, TargetBusy, TargetError, TargetExists
from continuum_tasks.restore.install.install import check_target, prove_unused
from continuum_tasks.restore.install.target import refuse_shared
from continuum_tasks.sqlite.mount_tables import MountTables
from continuum_tasks.sqlite.mounts import parse_mounts
from tests.support import other


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "memory.db"
    other.run(path, other.ROLLBACK)
    return path


def test_a_free_path_in_a_writable_directory_is_fit(tmp_path: Path) -> None:
    target = check_target(tmp_path / "new.db", overwrite=False, need_bytes=1000)
    assert (target.path, target.ownership) == (tmp_path.resolve() / "new.db", None)


def test_a_relative_path_and_a_symlinked_directory_are_resolved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    monkeypatch.chdir(tmp_path)
    assert check_target(Path("link/new.db"), overwrite=False, need_bytes=0).path == (tmp_path / "real").resolve() / "new.db"


def test_an_existing_file_needs_overwrite_and_is_described(path: Path) -> None:
    with pytest.raises(TargetExists, match=r"memory\.db: exists") as refused:
        check_target(path, overwrite=False, need_bytes=0)
    assert "--overwrite" in refused.value.hint
    path.chmod(0o640)
    ownership = check_target(path, overwrite=True, need_bytes=0).ownership
    assert ownership is not None
    assert (ownership.mode, ownership.uid, ownership.gid) == (0o640, path.stat().st_uid, path.stat().st_gid)


@pytest.mark.parametrize("suffix", ["-wal", "-journal"])
def test_a_lone_sidecar_is_data_and_is_not_passed_over(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"memory.db{suffix}").write_bytes(b"data")
    with pytest.raises(TargetExists, match=f"memory.db{suffix} is there"):
        check_target(tmp_path / "memory.db", overwrite=False, need_bytes=0)
    assert check_target(tmp_path / "memory.db", overwrite=True, need_bytes=0).ownership is None


def test_a_symlinked_target_is_refused_and_the_real_path_named(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.db"
    for to in (path, tmp_path / "nothing.db"):
        link.unlink(missing_ok=True)
        link.symlink_to(to)
        with pytest.raises(TargetError, match=r"link\.db: a symlink") as refused:
            check_target(link, overwrite=True, need_bytes=0)
        assert str(to) in refused.value.hint


def test_a_directory_that_is_missing_or_a_file_is_refused(path: Path, tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="its directory does not exist") as refused:
        check_target(tmp_path / "no" / "memory.db", overwrite=False, need_bytes=0)
    assert "mkdir -p" in refused.value.hint
    with pytest.raises(TargetError, match="is not a directory"):
        check_target(path / "memory.db", overwrite=False, need_bytes=0)


def test_what_is_not_a_file_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(TargetError, match="folder: not a regular file"):
        check_target(tmp_path / "folder", overwrite=True, need_bytes=0)


def test_a_directory_this_user_cannot_write_is_refused(folder: Path) -> None:
    (folder / "home").mkdir(mode=0o555)
    with other.unprivileged(folder), pytest.raises(TargetError, match=r"no permission to write in .*home") as refused:
        check_target(folder / "home" / "memory.db", overwrite=False, need_bytes=0)
    assert "owner" in refused.value.hint


def test_too_little_space_is_told_in_bytes(tmp_path: Path) -> None:
    with pytest.raises(NoSpace, match=r"memory\.db: restoring needs 1152921504606846976 bytes, \d+ are free"):
        check_target(tmp_path / "memory.db", overwrite=False, need_bytes=1 << 60)


@pytest.mark.parametrize(
    "use",
    [
        "c = connect(); c.execute('BEGIN IMMEDIATE')",
        "c = connect(); c.execute('BEGIN'); c.execute('SELECT * FROM t').fetchone()",
        "c = connect(); c.execute('SELECT count(*) FROM t').fetchall()",  # idle: no lock, a descriptor only
        "c = connect(); c.execute('PRAGMA journal_mode=wal'); c.execute('SELECT count(*) FROM t').fetchall()",
        "f = open(path, 'rb')",
    ],
)
def test_a_database_in_use_is_busy_and_the_process_named(path: Path, use: str) -> None:
    with other.living(path, use) as user, pytest.raises(TargetBusy, match=rf"memory\.db: .*pid {user.pid} \(python") as busy:
        prove_unused(path)
    assert "stop the service" in busy.value.hint
    prove_unused(path)


def test_a_lock_is_enough_when_proc_does_not_show_the_process(folder: Path) -> None:
    path = folder / "memory.db"
    other.run(path, other.ROLLBACK)
    path.chmod(0o666)
    if os.geteuid() != 0:
        pytest.skip("needs another user's process")
    with (
        other.living(path, "c = connect(); c.execute('BEGIN'); c.execute('SELECT * FROM t').fetchone()"),
        other.unprivileged(folder),
        pytest.raises(TargetBusy, match="a process that /proc does not show to this user"),
    ):
        prove_unused(path)


def test_this_process_counts_as_a_user_too(path: Path) -> None:
    connection = apsw.Connection(str(path))
    connection.execute("SELECT count(*) FROM t").fetchall()
    with pytest.raises(TargetBusy, match=f"pid {os.getpid()}"):
        prove_unused(path)
    connection.close()
    prove_unused(path)


def test_a_missing_file_is_unused(tmp_path: Path) -> None:
    prove_unused(tmp_path / "memory.db")


def test_the_proof_leaves_no_lock_and_no_file_behind(path: Path) -> None:
    before = sorted(path.parent.iterdir())
    prove_unused(path)
    assert sorted(path.parent.iterdir()) == before
    assert other.write(path) == "written"


def test_a_file_this_user_may_not_write_cannot_be_proven_unused(folder: Path) -> None:
    path = folder / "memory.db"
    other.run(path, other.ROLLBACK)
    path.chmod(0o444)
    with other.unprivileged(folder), pytest.raises(TargetError, match=r"memory\.db: cannot be opened or locked") as refused:
        prove_unused(path)
    assert "owner" in refused.value.hint


def test_a_database_on_a_shared_file_system_is_not_replaced_until_that_is_accepted(tmp_path: Path) -> None:
    tables = MountTables(own=parse_mounts(f"1 0 8:1 / / rw - ext4 d rw\n2 1 0:9 / {tmp_path.resolve()} rw - virtiofs v rw\n"))
    path = tmp_path / "memory.db"
    refuse_shared(path, accepted=(), tables=tables)  # a new name: nobody has it open
    path.touch()
    with pytest.raises(TargetError, match=r"memory\.db: on a network file system or shared folder \(virtiofs\)") as refused:
        refuse_shared(path, accepted=(), tables=tables)
    assert "accept_file_system = virtiofs" in refused.value.hint
    refuse_shared(path, accepted=("virtiofs",), tables=tables)
