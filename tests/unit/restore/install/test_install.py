"""Installing a restored file, told by what another process then sees."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from continuum_tasks import failpoints
from continuum_tasks.errors import StorageUnreachable, TargetBusy, TargetError, TargetExists
from continuum_tasks.restore.install.install import InstallOutcome, Ownership, install, recover
from continuum_tasks.restore.install.intent import Intent, recorded
from continuum_tasks.sqlite.raw import record_path
from tests.support import other
from tests.unit.restore.install.restored_files import names, new_file
from tests.unit.sqlite.conftest import NOW

QUARANTINE = ".memory.db.quarantine-20261123T040506Z"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "memory.db"


@pytest.mark.parametrize("mode", ["delete", "wal"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_fresh_target_gets_the_file_and_nothing_else(target: Path, mode: str, overwrite: bool) -> None:
    temp = new_file(target.parent, mode=mode)
    data = temp.read_bytes()

    done = install(temp, target, overwrite=overwrite, now=NOW)

    assert (done.path, done.quarantine, done.findings, done.stale, done.recovered) == (target, None, (), (), None)
    assert names(target.parent) == ["memory.db"]
    assert target.read_bytes() == data
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert other.sql(target, "SELECT x FROM t; PRAGMA journal_mode").split("\n")[0] == f"('new',)('{mode}',)"


@pytest.mark.parametrize("old", [other.ROLLBACK, other.WAL, other.HOT], ids=["rollback", "wal", "hot"])
def test_the_old_database_is_kept_whole_in_quarantine(target: Path, old: str) -> None:
    other.run(target, old)
    sidecars = {name for name in names(target.parent) if name != "memory.db"}
    temp = new_file(target.parent)

    done = install(temp, target, overwrite=True, now=NOW)

    assert names(target.parent) == [QUARANTINE, "memory.db"]
    assert done.quarantine == target.parent / QUARANTINE
    assert stat.S_IMODE(done.quarantine.stat().st_mode) == 0o700
    assert set(names(done.quarantine)) == {"memory.db", *sidecars}
    assert other.sql(target, "SELECT x FROM t") == "('new',)"
    kept = done.quarantine / "memory.db"
    assert other.sql(kept, "SELECT count(*), min(x LIKE 'old %') FROM t; PRAGMA integrity_check") == "(500, 1)('ok',)"


def test_a_stale_wal_never_brings_the_damaged_database_back(target: Path) -> None:
    """With the -wal left in place SQLite replays it over the restored file, and integrity_check says ok."""
    other.run(target, other.WAL)
    wal = Path(f"{target}-wal").read_bytes()
    temp = new_file(target.parent, mode="wal")
    revived = target.parent / "revived.db"
    revived.write_bytes(temp.read_bytes())
    Path(f"{revived}-wal").write_bytes(wal)
    assert "old 7" in other.dump(revived)

    install(temp, target, overwrite=True, now=NOW)

    assert "old" not in other.dump(target)
    assert other.sql(target, "SELECT x FROM t") == "('new',)"


def test_a_file_sqlite_cannot_read_is_replaced_and_kept_to_the_byte(target: Path) -> None:
    garbage = bytes(range(256)) * 64
    target.write_bytes(garbage)
    for suffix in ("-wal", "-shm", "-journal"):
        Path(f"{target}{suffix}").write_bytes(b"stale" * 999)

    done = install(new_file(target.parent), target, overwrite=True, now=NOW)

    assert done.quarantine is not None
    assert (done.quarantine / "memory.db").read_bytes() == garbage
    assert (done.quarantine / "memory.db-wal").read_bytes() == b"stale" * 999
    assert names(target.parent) == [QUARANTINE, "memory.db"]
    assert other.sql(target, "SELECT x FROM t") == "('new',)"


@pytest.mark.parametrize("size", [0, None])
def test_sidecars_of_an_empty_or_missing_database_go_to_quarantine_untouched(target: Path, size: int | None) -> None:
    if size == 0:
        target.touch()
    for suffix in ("-wal", "-journal"):
        Path(f"{target}{suffix}").write_bytes(b"data of an older database")

    done = install(new_file(target.parent), target, overwrite=True, now=NOW)

    assert done.quarantine is not None
    for suffix in ("-wal", "-journal"):
        assert (done.quarantine / f"memory.db{suffix}").read_bytes() == b"data of an older database"
    assert names(target.parent) == [QUARANTINE, "memory.db"]


def test_two_installs_in_one_second_have_a_quarantine_each(target: Path) -> None:
    for text in ("one", "two", "three"):
        install(new_file(target.parent, text=text), target, overwrite=True, now=NOW)
    assert names(target.parent) == [QUARANTINE, f"{QUARANTINE}-2", "memory.db"]
    assert other.sql(target.parent / f"{QUARANTINE}-2" / "memory.db", "SELECT x FROM t") == "('two',)"


def test_the_new_file_takes_mode_and_owner_of_the_old_one(target: Path) -> None:
    other.run(target, other.ROLLBACK)
    target.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(target, 1234, 2345)
    before = target.stat()

    install(new_file(target.parent), target, overwrite=True, now=NOW, ownership=Ownership(mode=0o777, uid=7, gid=7))

    after = target.stat()
    assert after.st_ino != before.st_ino
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)


def test_a_fresh_target_takes_the_mode_and_owner_given(target: Path) -> None:
    uid, gid = (1234, 2345) if os.geteuid() == 0 else (os.getuid(), os.getgid())
    install(new_file(target.parent), target, overwrite=False, now=NOW, ownership=Ownership(mode=0o664, uid=uid, gid=gid))
    after = target.stat()
    assert (stat.S_IMODE(after.st_mode), after.st_uid, after.st_gid) == (0o664, uid, gid)


def test_a_group_that_cannot_be_given_gets_no_rights(folder: Path) -> None:
    target = folder / "memory.db"
    temp = new_file(folder)
    with other.unprivileged(folder):
        install(temp, target, overwrite=False, now=NOW, ownership=Ownership(mode=0o664, uid=4321, gid=4321))
    assert stat.S_IMODE(target.stat().st_mode) == 0o604


@pytest.mark.parametrize(
    "use",
    [
        "c = connect(); c.execute('BEGIN IMMEDIATE')",
        "c = connect(); c.execute('SELECT count(*) FROM t').fetchall()",
        "c = connect(); c.execute('PRAGMA journal_mode=wal'); c.execute('SELECT count(*) FROM t').fetchall()",
    ],
)
def test_a_target_in_use_is_refused_and_left_as_it_is(target: Path, use: str) -> None:
    other.run(target, other.ROLLBACK)
    temp = new_file(target.parent)
    with other.living(target, use) as user, pytest.raises(TargetBusy, match=f"pid {user.pid}"):
        install(temp, target, overwrite=True, now=NOW)
    assert temp.exists()
    assert not record_path(target).exists()
    assert not [name for name in names(target.parent) if "quarantine" in name]
    assert other.sql(target, "SELECT count(*) FROM t") == "(500,)"


def test_a_service_that_starts_during_the_install_waits_and_then_sees_the_new_database(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other.run(target, other.ROLLBACK)
    temp = new_file(target.parent)
    seen: list[tuple[str, str]] = []
    monkeypatch.setattr("continuum_tasks.restore.install.install.reach", lambda name: seen.append((name, other.write(target))))

    done = install(temp, target, overwrite=True, now=NOW)

    # Free only before the old one is locked; then never, neither the old nor the new, until all is checked.
    assert [(name, said) for name, said in seen if said == "written"] == [("install.intent_written", "written")]
    assert [name for name, _ in seen] == [name for name in failpoints.RESTORE if name.startswith("install.")]
    assert {said for _, said in seen} == {"written", "database is locked"}
    assert other.write(target) == "written"
    assert done.quarantine is not None
    assert other.sql(done.quarantine / "memory.db", "SELECT count(*) FROM beside") == "(1,)"


def test_without_overwrite_nothing_is_replaced_even_if_it_appears_during_the_install(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temp = new_file(target.parent)

    def appear(name: str) -> None:
        if name == "install.sidecars_gone":
            other.run(target, other.ROLLBACK)

    monkeypatch.setattr("continuum_tasks.restore.install.install.reach", appear)
    with pytest.raises(TargetExists, match="appeared during the restore"):
        install(temp, target, overwrite=False, now=NOW)

    assert other.sql(target, "SELECT count(*) FROM t") == "(500,)"
    assert names(target.parent) == [temp.name, "memory.db"]


def test_existing_needs_overwrite_and_a_symlink_is_never_followed(target: Path) -> None:
    other.run(target, other.ROLLBACK)
    temp = new_file(target.parent)
    with pytest.raises(TargetExists):
        install(temp, target, overwrite=False, now=NOW)
    link = target.parent / "link.db"
    link.symlink_to(target)
    with pytest.raises(TargetError, match="symlink"):
        install(temp, link, overwrite=True, now=NOW)
    assert other.sql(target, "SELECT count(*) FROM t") == "(500,)"


def test_a_temporary_file_elsewhere_is_a_mistake_of_ours(target: Path, folder: Path) -> None:
    with pytest.raises(RuntimeError, match="not in the directory"):
        install(new_file(folder), target, overwrite=False, now=NOW)


@pytest.mark.parametrize("point", [name for name in failpoints.RESTORE if name.startswith("install.")])
def test_an_error_at_any_step_leaves_the_old_or_the_new_and_no_record(
    target: Path, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    other.run(target, other.WAL)
    temp = new_file(target.parent)
    monkeypatch.setattr(failpoints, "_armed", {point: "raise"})

    with pytest.raises(StorageUnreachable):
        install(temp, target, overwrite=True, now=NOW)

    renamed = not temp.exists()
    assert other.sql(target, "SELECT count(*) FROM t") == ("(1,)" if renamed else "(500,)")
    assert not record_path(target).exists()
    assert recover(target) is None


def test_what_is_wrong_with_the_new_file_is_reported(target: Path) -> None:
    temp = new_file(target.parent)
    with temp.open("r+b") as file:
        file.seek(100)
        file.write(b"\xff" * 3996)
    assert install(temp, target, overwrite=False, now=NOW).findings


def test_quarantine_falls_back_to_a_copy_where_links_are_refused_and_keeps_the_lock(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old file is locked by this process while it is copied: an ordinary descriptor would lose that lock."""
    other.run(target, other.WAL)
    target.chmod(0o640)
    temp = new_file(target.parent)
    seen: list[str] = []

    def refuse(self: Path, to: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    monkeypatch.setattr("continuum_tasks.restore.install.install.reach", lambda name: seen.append(other.write(target)))
    done = install(temp, target, overwrite=True, now=NOW)

    assert seen[1:] == ["database is locked"] * 6
    assert done.quarantine is not None
    kept = done.quarantine / "memory.db"
    assert kept.stat().st_nlink == 1
    assert stat.S_IMODE(kept.stat().st_mode) == 0o640
    assert other.sql(kept, "SELECT count(*) FROM t; PRAGMA integrity_check") == "(500,)('ok',)"
    fresh = target.parent / "fresh.db"
    install(new_file(target.parent), fresh, overwrite=False, now=NOW)
    assert other.sql(fresh, "SELECT x FROM t") == "('new',)"


def _intent(target: Path, temp: Path) -> Intent:
    return Intent(
        target=target.name,
        temp=temp.name,
        temp_inode=temp.stat().st_ino,
        old_inode=target.stat().st_ino if target.exists() else 0,
        quarantine=QUARANTINE,
        pid=1,
        begun_at="",
    )


def test_a_second_install_waits_its_turn_and_never_undoes_a_living_one(target: Path) -> None:
    other.run(target, other.ROLLBACK)
    temp = new_file(target.parent)
    with recorded(target, _intent(target, temp)):
        with pytest.raises(TargetBusy, match="another restore"):
            install(temp, target, overwrite=True, now=NOW)
        with pytest.raises(TargetBusy, match="another restore"):
            recover(target)
    assert recover(target) is not None


def test_a_kill_between_link_and_unlink_of_a_fresh_target_is_finished(target: Path) -> None:
    temp = new_file(target.parent)
    with recorded(target, _intent(target, temp)):
        target.hardlink_to(temp)
    recovered = recover(target)
    assert recovered is not None
    assert recovered.outcome is InstallOutcome.FINISHED
    assert names(target.parent) == ["memory.db"]
    assert recover(target) is None


@pytest.mark.parametrize("text", ["", "{", "[]", "7", '{"version'])
def test_a_record_cut_off_by_a_kill_means_that_nothing_had_begun(target: Path, text: str) -> None:
    other.run(target, other.ROLLBACK)
    record_path(target).write_text(text)
    assert recover(target) is None
    assert names(target.parent) == ["memory.db"]


def test_a_record_of_a_newer_version_or_with_foreign_paths_is_left_alone(target: Path) -> None:
    record = record_path(target)
    record.write_text('{"version": 2}')
    with pytest.raises(TargetError, match="newer version"):
        recover(target)
    record.write_text(
        '{"version": 1, "target": "memory.db", "temp": "../x", "temp_inode": 1, "old_inode": 1,'
        ' "quarantine": "q", "pid": 1, "begun_at": ""}'
    )
    with pytest.raises(TargetError, match="outside its directory"):
        recover(target)
    assert record.exists()


def test_recovery_keeps_a_temporary_file_that_is_in_use_again(target: Path) -> None:
    other.run(target, other.ROLLBACK)
    temp = new_file(target.parent)
    with recorded(target, _intent(target, temp)):
        pass
    done = install(temp, target, overwrite=True, now=NOW + timedelta(seconds=1))
    assert done.recovered is not None
    assert done.recovered.outcome is InstallOutcome.UNDONE
    assert other.sql(target, "SELECT x FROM t") == "('new',)"


def test_recovery_keeps_the_only_copy_of_an_old_database_somebody_replaced_by_hand(target: Path) -> None:
    other.run(target, other.ROLLBACK)
    temp = new_file(target.parent)
    with recorded(target, _intent(target, temp)):
        (target.parent / QUARANTINE).mkdir()
        (target.parent / QUARANTINE / "memory.db").hardlink_to(target)
    by_hand = new_file(target.parent, text="by hand")
    by_hand.rename(target)

    recovered = recover(target)

    assert recovered is not None
    assert recovered.quarantine == target.parent / QUARANTINE
    assert other.sql(recovered.quarantine / "memory.db", "SELECT count(*) FROM t") == "(500,)"
    assert other.sql(target, "SELECT x FROM t") == "('by hand',)"


@pytest.mark.parametrize("old", [other.ROLLBACK, other.WAL, other.HOT], ids=["rollback", "wal", "hot"])
def test_nothing_under_the_new_name_is_touched_once_the_new_database_bears_it(
    target: Path, monkeypatch: pytest.MonkeyPatch, old: str
) -> None:
    """After rolling back a hot journal SQLite deletes `-journal` by name when the connection closes: whose is it by then?"""
    other.run(target, old)
    temp = new_file(target.parent)
    belong_to_new = [Path(f"{target}{suffix}") for suffix in ("-wal", "-shm", "-journal")]

    def start_using(name: str) -> None:
        if name == "install.renamed":
            for sidecar in belong_to_new:
                sidecar.write_bytes(b"new")

    monkeypatch.setattr("continuum_tasks.restore.install.install.reach", start_using)
    install(temp, target, overwrite=True, now=NOW)
    assert recover(target) is None

    assert [sidecar.read_bytes() for sidecar in belong_to_new] == [b"new"] * 3


def test_a_worker_that_still_has_the_new_file_open_stops_the_install(target: Path) -> None:
    """It was given up and may wake at any time: what it then writes must not land in the installed database."""
    other.run(target, other.WAL)
    temp = new_file(target.parent)
    script = "import sys, time; f = open(sys.argv[1], 'r+b'); print('open', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", script, str(temp)], stdout=subprocess.PIPE) as stalled:
        assert stalled.stdout is not None
        stalled.stdout.readline()
        with pytest.raises(TargetBusy, match=str(stalled.pid)):
            install(temp, target, overwrite=True, now=NOW)
        stalled.kill()
    assert other.sql(target, "SELECT count(*) FROM t") == "(500,)"
    assert install(temp, target, overwrite=True, now=NOW).findings == ()
