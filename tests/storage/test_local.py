"""What a directory as storage promises beyond the conformance suite: rights, durability, symlinks, full disks, kills."""

from __future__ import annotations

import errno
import multiprocessing
import os
import resource
import signal
import stat
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from continuum_tasks.errors import (
    ContinuumError,
    ObjectExists,
    ObjectMissing,
    StorageDenied,
    StorageError,
    StorageFull,
    StorageUnreachable,
)
from continuum_tasks.storage.local import INCOMING, STALE_SECONDS, LocalStorage, local_error

MIB = 1024 * 1024


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path / "deep" / "root", name="nas")


def in_child(run: Callable[[], None]) -> str:
    """Run in a forked child and return the name of the error of ours it ended with, or an empty string."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        text = ""
        try:
            run()
        except ContinuumError as err:
            text = f"{type(err).__name__}: {err.message}; {err.hint}"
        finally:
            # Whatever else went wrong ends here too, as a text no test expects: the child must never return to pytest.
            text = text or repr(sys.exc_info()[1] or "")
            os.write(write, text.removeprefix("''").encode())
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as answer:
        text = answer.read()
    os.waitpid(pid, 0)
    return text


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o777])
def test_files_are_0600_and_directories_0700_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    def run() -> None:
        os.umask(umask)
        storage = LocalStorage(tmp_path / "made" / "root")
        storage.put("a/b/replaced", b"x")
        storage.put("a/c/created", b"x", only_new=True)

    assert in_child(run) == ""
    for path in (tmp_path / "made").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    assert stat.S_IMODE((tmp_path / "made").stat().st_mode) == 0o700


def test_file_and_every_directory_above_it_are_fsynced_before_put_returns(tmp_path: Path) -> None:
    """`os.fsync` is watched, not replaced: each call still reaches the disk."""
    synced: list[str] = []
    real = os.fsync

    def fsync(fd: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{fd}").readlink()))
        real(fd)

    root = tmp_path / "new" / "root"
    os.fsync = fsync
    try:
        LocalStorage(root).put("a/b/k", b"x")
    finally:
        os.fsync = real
    inside = [path for path in synced if INCOMING in path]
    assert len(inside) == 1
    assert synced[:2] == [str(tmp_path), str(tmp_path / "new")]
    assert synced[-3:] == [str(root / "a" / "b"), str(root / "a"), str(root)]
    assert synced.index(inside[0]) < synced.index(str(root / "a" / "b"))


def test_a_delete_is_durable_before_it_returns(storage: LocalStorage, tmp_path: Path) -> None:
    storage.put("a/k", b"x")
    storage.put("a/other", b"x")
    synced: list[str] = []
    real = os.fsync
    os.fsync = lambda fd: synced.append(str(Path(f"/proc/self/fd/{fd}").readlink()))  # type: ignore[assignment]
    try:
        storage.delete("a/k")
    finally:
        os.fsync = real
    assert synced == [str(tmp_path / "deep" / "root" / "a")]


def test_a_put_leaves_no_temporary_file(storage: LocalStorage, tmp_path: Path) -> None:
    storage.put("k", b"first", only_new=True)
    storage.put("k", b"second")
    with pytest.raises(ObjectExists, match=r"storage nas: object k under .*root"):
        storage.put("k", b"third", only_new=True)
    storage.capabilities()
    assert list((tmp_path / "deep" / "root" / INCOMING).iterdir()) == []


def test_leftovers_of_a_killed_put_are_never_listed_and_swept_when_old(tmp_path: Path) -> None:
    LocalStorage(tmp_path).put("k", b"x")
    old, young = tmp_path / INCOMING / "old", tmp_path / INCOMING / "young"
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - STALE_SECONDS - 60,) * 2)
    storage = LocalStorage(tmp_path)
    assert [info.key for info in storage.list()] == ["k"]
    assert old.exists()
    storage.put("l", b"x")
    assert not old.exists()
    assert young.exists()


_PUT_FOR_EVER = """
import sys
from pathlib import Path
from continuum_tasks.storage.local import LocalStorage
storage = LocalStorage(Path(sys.argv[1]))
for n in range(10**6):
    storage.put(f"a/{n % 3}", bytes([n % 251]) * 3_000_000, only_new=False)
    print(n, flush=True)
"""


def test_a_put_killed_at_any_moment_leaves_whole_objects_only(tmp_path: Path) -> None:
    for turn in range(6):
        process = subprocess.Popen([sys.executable, "-c", _PUT_FOR_EVER, str(tmp_path)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        for _ in range(3 + turn):
            process.stdout.readline()
        time.sleep(0.0007 * turn)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        found = [LocalStorage(tmp_path).get(info.key) for info in LocalStorage(tmp_path).list()]
        assert found
        assert all(len(data) == 3_000_000 and data == data[:1] * 3_000_000 for data in found)


def test_strangers_in_the_directory_are_no_objects(storage: LocalStorage, tmp_path: Path) -> None:
    storage.put("a/k", b"x")
    root = tmp_path / "deep" / "root"
    (root / "notes of mine.txt").write_text("x")
    (root / "a" / "ä").write_text("x")
    os.mkfifo(root / "pipe")
    (root / "link").symlink_to(root / "a" / "k")
    assert [info.key for info in storage.list()] == ["a/k"]
    with pytest.raises(ObjectMissing):
        storage.get("pipe")
    with pytest.raises(ObjectMissing):
        storage.get("a")


def test_a_symlink_inside_the_root_is_never_followed(storage: LocalStorage, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    storage.put("a/k", b"x")
    root = tmp_path / "deep" / "root"
    (root / "away").symlink_to(outside)
    (root / "file").symlink_to(outside / "secret")
    for call in (
        lambda: storage.put("away/new", b"x"),
        lambda: storage.put("away/new", b"x", only_new=True),
        lambda: storage.get("away/secret"),
        lambda: storage.stat("away/secret"),
        lambda: storage.delete("away/secret"),
        lambda: list(storage.list("away/")),
        lambda: storage.get("file"),
        lambda: storage.stat("file"),
    ):
        with pytest.raises(StorageDenied, match="symlink"):
            call()
    storage.put("file", b"mine")
    assert {path.name: path.read_bytes() for path in outside.iterdir()} == {"secret": b"secret"}
    assert storage.get("file") == b"mine"


def test_the_root_itself_may_be_a_symlink(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "root").symlink_to(tmp_path / "disk")
    LocalStorage(tmp_path / "root").put("k", b"x")
    assert (tmp_path / "disk" / "k").read_bytes() == b"x"


def test_no_key_goes_on_below_another_object(storage: LocalStorage) -> None:
    storage.put("a", b"x")
    with pytest.raises(StorageError, match="below another object"):
        storage.put("a/b", b"x")
    with pytest.raises(ObjectMissing):
        storage.get("a/b")
    storage.delete("a/b")
    assert storage.get("a") == b"x"


def test_a_missing_root_says_that_a_disk_may_not_be_mounted(storage: LocalStorage) -> None:
    with pytest.raises(ObjectMissing) as caught:
        storage.get("k")
    assert "mounted" in caught.value.hint


def test_a_directory_without_rights_is_denied(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    (tmp_path / "root").mkdir(0o000)
    storage = LocalStorage(tmp_path / "root")

    def run() -> None:
        if os.getuid() == 0:
            os.setuid(65534)
        storage.put("k", b"x")

    answer = in_child(run)
    assert answer.startswith("StorageDenied: storage local: object k under")
    assert "rights" in answer


def test_a_file_that_may_not_grow_is_a_full_storage_and_nothing_stays(tmp_path: Path) -> None:
    def run() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (MIB, MIB))
        LocalStorage(tmp_path).put("k", bytes(2 * MIB))

    assert in_child(run).startswith("StorageFull: ")
    assert list(LocalStorage(tmp_path).list()) == []
    assert list((tmp_path / INCOMING).iterdir()) == []


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (errno.ENOSPC, StorageFull),
        (errno.EDQUOT, StorageFull),
        (errno.EACCES, StorageDenied),
        (errno.EROFS, StorageDenied),
        (errno.ESTALE, StorageUnreachable),
        (errno.EIO, StorageError),
    ],
)
def test_each_system_error_has_a_name_and_a_remedy(code: int, error: type[StorageError]) -> None:
    found = local_error(OSError(code, os.strerror(code)), "storage nas: object k")
    assert type(found) is error
    assert found.message.startswith("storage nas: object k: ")
    assert found.hint


def test_a_range_is_read_without_the_rest(storage: LocalStorage) -> None:
    storage.put("k", bytes(20 * MIB))
    before = _bytes_read()
    tracemalloc.start()
    storage.get("k", offset=10 * MIB, length=4096)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert _bytes_read() - before < 64 * 1024
    assert peak < MIB // 4


def _bytes_read() -> int:
    return int(Path("/proc/self/io").read_text().split()[1])


def test_a_put_copies_nothing(storage: LocalStorage) -> None:
    data = bytearray(20 * MIB)
    tracemalloc.start()
    storage.put("k", memoryview(data)[MIB:])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < MIB // 4


def _race(root: Path, start: float, number: int) -> None:
    storage = LocalStorage(root)
    time.sleep(max(0.0, start - time.time()))
    won = []
    for turn in range(200):
        try:
            storage.put(f"leases/{turn}", str(number).encode(), only_new=True)
        except ObjectExists:
            continue
        won.append(turn)
    storage.put(f"won/{number}", ",".join(map(str, won)).encode())


def test_of_two_processes_racing_for_a_key_exactly_one_wins(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    start = time.time() + 1.0
    racers = [context.Process(target=_race, args=(tmp_path, start, number)) for number in range(2)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    storage = LocalStorage(tmp_path)
    claims = [int(t) for n in range(2) for t in storage.get(f"won/{n}").decode().split(",") if t]
    assert sorted(claims) == list(range(200))


def test_puts_survive_deletes_that_remove_directories_under_them(storage: LocalStorage) -> None:
    """A delete removes the directory it empties; a put into it at the same time must not lose its object."""
    stop = threading.Event()

    def churn() -> None:
        while not stop.is_set():
            storage.put("a/b/c/churn", b"x")
            storage.delete("a/b/c/churn")

    churner = threading.Thread(target=churn)
    churner.start()
    try:
        for n in range(300):
            storage.put(f"a/b/c/{n}", b"x")
            assert storage.get(f"a/b/c/{n}") == b"x"
            storage.delete(f"a/b/c/{n}")
    finally:
        stop.set()
        churner.join()


def test_deleting_the_last_object_removes_its_directories(storage: LocalStorage, tmp_path: Path) -> None:
    storage.put("a/b/1", b"x")
    storage.put("a/c/2", b"x")
    storage.delete("a/b/1")
    assert [p.name for p in (tmp_path / "deep" / "root" / "a").iterdir()] == ["c"]
    storage.delete("a/c/2")
    assert [p.name for p in (tmp_path / "deep" / "root").iterdir()] == [INCOMING]


def test_capabilities_tell_the_free_space(storage: LocalStorage, tmp_path: Path) -> None:
    found = storage.capabilities()
    assert found.conditional_put
    space = os.statvfs(tmp_path)
    assert found.free_bytes is not None
    assert abs(found.free_bytes - space.f_bavail * space.f_frsize) < 1024 * MIB


def test_a_file_system_without_hard_links_still_refuses_a_taken_key(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*args: object, **kwargs: object) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(os, "link", no_links)
    storage.put("k", b"first", only_new=True)
    with pytest.raises(ObjectExists):
        storage.put("k", b"second", only_new=True)
    assert storage.get("k") == b"first"
    assert storage.capabilities().conditional_put is False
