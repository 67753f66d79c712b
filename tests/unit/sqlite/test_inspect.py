from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from continuum_tasks.errors import SourceMissing, SourceRefused
from continuum_tasks.sqlite.inspect import inspect
from continuum_tasks.sqlite.mount_tables import MountTables
from continuum_tasks.sqlite.mounts import network_file_system, parse_mounts
from tests.support import other


def test_a_source_is_described_as_it_lies_there(tmp_path: Path) -> None:
    path = tmp_path / "memory.db"
    other.run(path, other.WAL)
    path.chmod(0o640)

    source = inspect(path)

    status = path.stat()
    assert source.path == path.resolve()
    assert (source.wal, source.page_size, source.mode) == (True, 4096, 0o640)
    assert source.wal_bytes == Path(f"{path}-wal").stat().st_size > 0
    assert (source.device, source.inode) == (status.st_dev, status.st_ino)
    assert (source.size_bytes, source.uid, source.gid) == (status.st_size, status.st_uid, status.st_gid)


def test_a_symlinked_source_is_resolved_first(tmp_path: Path) -> None:
    other.run(tmp_path / "real.db", other.ROLLBACK)
    (tmp_path / "link.db").symlink_to("real.db")
    assert inspect(tmp_path / "link.db").path == (tmp_path / "real.db").resolve()


def test_a_missing_file_is_named_with_a_remedy(tmp_path: Path) -> None:
    for path in (tmp_path / "nothing.db", tmp_path / "nowhere" / "memory.db"):
        with pytest.raises(SourceMissing, match=str(path)) as missing:
            inspect(path)
        assert "backup.conf" in missing.value.hint


def _empty(path: Path) -> None:
    path.touch()


def _directory(path: Path) -> None:
    path.mkdir()


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _text(path: Path) -> None:
    path.write_text("not a database\n" * 400)


def _encrypted(path: Path) -> None:
    path.write_bytes(random.Random(7).randbytes(8192))


def _hard_linked(path: Path) -> None:
    other.run(path, other.ROLLBACK)
    path.with_name("second.db").hardlink_to(path)


def _circle(path: Path) -> None:
    path.symlink_to(path.name)


@pytest.mark.parametrize(
    ("make", "message", "remedy"),
    [
        (_empty, "0 bytes", "path"),
        (_directory, "a directory", "file inside"),
        (_pipe, "not a regular file", "file itself"),
        (_text, "not an SQLite database", "backup.conf"),
        (_encrypted, "looks encrypted", "decrypt"),
        (_hard_linked, "hard-linked", "-samefile"),
        (_circle, "cannot be resolved", "circle"),
    ],
)
def test_what_cannot_be_backed_up_is_refused_by_name_and_with_a_remedy(
    tmp_path: Path, make: object, message: str, remedy: str
) -> None:
    path = tmp_path / "memory.db"
    assert callable(make)
    make(path)

    with pytest.raises(SourceRefused, match=message) as refused:
        inspect(path)

    assert str(path) in refused.value.message
    assert remedy in refused.value.hint


def test_a_file_this_user_may_not_read_is_refused(folder: Path) -> None:
    path = folder / "memory.db"
    other.run(path, other.ROLLBACK)
    path.chmod(0)
    with other.unprivileged(folder), pytest.raises(SourceRefused, match=r"memory\.db: no permission to read") as refused:
        inspect(path)
    assert "owner" in refused.value.hint


def test_a_network_file_system_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "memory.db"
    other.run(path, other.ROLLBACK)
    tables = MountTables(own=parse_mounts(f"/dev/vda / ext4 rw 0 0\nfiler:/export {tmp_path} nfs4 rw 0 0\n"))

    with pytest.raises(SourceRefused, match=r"memory\.db: on a network file system or shared folder \(nfs4\)") as refused:
        inspect(path, tables=tables)

    assert "host that has the disk" in refused.value.hint
    assert "accept_file_system = nfs4" in refused.value.hint
    assert inspect(path, tables=tables, accepted=("nfs4",)).path == path.resolve()


def test_an_unknown_file_system_is_warned_of_until_it_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "memory.db"
    other.run(path, other.ROLLBACK)
    tables = MountTables(own=parse_mounts(f"/dev/vda / ext4 rw 0 0\nx {tmp_path} foofs rw 0 0\n"))

    assert "accept_file_system = foofs" in inspect(path, tables=tables).remark
    assert inspect(path, tables=tables, accepted=("foofs",)).remark == ""


@pytest.mark.parametrize(
    ("mounts", "kind"),
    [
        ("filer:/ / nfs rw 0 0\n/dev/sda /var/lib ext4 rw 0 0", None),
        ("/dev/sda / ext4 rw 0 0\nfiler:/x /var/lib cifs rw 0 0", "cifs"),
        ("/dev/sda / ext4 rw 0 0\nfiler:/x /var/li nfs rw 0 0", None),
        ("/dev/sda / ext4 rw 0 0\nu@h:/x /var/lib/my\\040data fuse.sshfs rw 0 0", None),
        ("filer:/ /var/lib nfs rw 0 0\n/dev/sda /var/lib ext4 rw 0 0", None),
        ("lxcfs /var/lib fuse.lxcfs rw 0 0", None),
        ("", None),
        ("short line", None),
    ],
)
def test_the_innermost_and_latest_mount_decides(mounts: str, kind: str | None) -> None:
    assert network_file_system(Path("/var/lib/memory.db"), mounts) == kind


def test_a_mount_point_with_a_space_is_found() -> None:
    mounts = "/dev/sda / ext4 rw 0 0\nu@h:/x /my\\040data fuse.sshfs rw 0 0"
    assert network_file_system(Path("/my data/memory.db"), mounts) == "fuse.sshfs"
