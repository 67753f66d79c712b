"""A database that is mounted by itself is refused, from both sides, by real bind mounts in a mount namespace of their own."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support import other
from tests.support.cli import PROGRAM
from tests.support.processes import ROOT, environment
from tests.support.sandbox import Sandbox, back_up, make

PRIVATE = ["unshare", "-m", "--propagation", "private"]
MOUNTED = [*PRIVATE, "sh", "-c", 'mount --bind "$1" "$2" && shift 2 && exec "$@"', "sh"]
BY_ITSELF = "mounted by itself"


def _may_mount() -> bool:
    try:
        return subprocess.run([*PRIVATE, "mount", "--bind", "/tmp", "/mnt"], capture_output=True).returncode == 0
    except OSError:
        return False


pytestmark = pytest.mark.skipif(not _may_mount(), reason="bind mounts need root with CAP_SYS_ADMIN, and unshare")


@pytest.fixture
def sandbox(tmp_path: Path) -> Sandbox:
    sandbox = make(tmp_path / "c")
    other.run(sandbox.database, other.WAL)
    (tmp_path / "service").mkdir()
    (tmp_path / "service" / "app.db").touch()
    return sandbox


def continuum(sandbox: Sandbox, *words: str, mount: tuple[Path, Path] | None = None) -> tuple[int, str]:
    """Run a command, with the first path mounted over the second when they are given; returns exit code and all it said."""
    before = [] if mount is None else [*MOUNTED, *map(str, mount)]
    done = subprocess.run(
        [*before, *PROGRAM, *words],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment(sandbox.config, CONTINUUM_LOCAL="1", CONTINUUM_FAILPOINTS=""),
        timeout=300,
    )
    return done.returncode, " ".join((done.stdout + done.stderr).split())


def refused(code: int, said: str, expected: int) -> None:
    assert BY_ITSELF in said
    assert "mount the directory" in said
    assert code == expected


@contextmanager
def container(source: Path, point: Path) -> Iterator[None]:
    """Keep a process in a namespace of its own in which `source` is mounted over `point`."""
    command = [*MOUNTED, str(source), str(point), "sh", "-c", "echo ready; exec sleep 300"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield
        finally:
            process.kill()


@pytest.mark.parametrize("side", ["the mount point", "the other name"])
def test_a_file_mounted_by_itself_is_refused_by_every_command_that_opens_it(
    sandbox: Sandbox, tmp_path: Path, side: str
) -> None:
    service = tmp_path / "service" / "app.db"
    backup = back_up(sandbox)
    if side == "the mount point":  # what we see as the database is a file of another directory
        service.write_bytes(sandbox.database.read_bytes())
        mount = (service, sandbox.database)
    else:
        mount = (sandbox.database, service)
    target = str(sandbox.database)
    before = sandbox.database.read_bytes()

    restore = ("backup", "restore", str(backup.id), "--target", target, "--overwrite")
    refused(*continuum(sandbox, "backup", "create", "--strategy", "full", mount=mount), 4)
    refused(*continuum(sandbox, "backup", "create", "--strategy", "continuous", "--no-wait", mount=mount), 4)
    refused(*continuum(sandbox, *restore, mount=mount), 9)
    refused(*continuum(sandbox, *restore, "--dry-run", mount=mount), 0)
    refused(*continuum(sandbox, "backup", "extract", str(backup.id), "--table", "t", "--into", target, mount=mount), 4)
    refused(*continuum(sandbox, "backup", "config", "set", "database:main.path", target, mount=mount), 0)

    assert sandbox.database.read_bytes() == before
    assert continuum(sandbox, "backup", "create", "--strategy", "full")[0] == 0


def test_a_file_mounted_by_itself_in_a_container_is_refused_on_the_host(sandbox: Sandbox, tmp_path: Path) -> None:
    with container(sandbox.database, tmp_path / "service" / "app.db"):
        refused(*continuum(sandbox, "backup", "create", "--strategy", "full"), 4)
        copied = continuum(
            sandbox, "backup", "forensics-copy", "--database", str(sandbox.database), "--to", str(tmp_path / "evidence")
        )
        assert copied[0] == 0, copied
        assert BY_ITSELF in next((tmp_path / "evidence").glob("*/NOTE*")).read_text()
    assert continuum(sandbox, "backup", "create", "--strategy", "full")[0] == 0


def test_a_directory_that_is_mounted_is_accepted(sandbox: Sandbox, tmp_path: Path) -> None:
    mount = (sandbox.database.parent, tmp_path / "service")
    assert continuum(sandbox, "backup", "create", "--strategy", "full", mount=mount)[0] == 0
    with container(*mount):
        assert continuum(sandbox, "backup", "create", "--strategy", "full")[0] == 0


def test_a_file_mounted_over_itself_is_backed_up_and_not_replaced(sandbox: Sandbox) -> None:
    backup = back_up(sandbox)
    mount = (sandbox.database, sandbox.database)
    assert continuum(sandbox, "backup", "create", "--strategy", "full", mount=mount)[0] == 0
    target = str(sandbox.database)
    refused(*continuum(sandbox, "backup", "restore", str(backup.id), "--target", target, "--overwrite", mount=mount), 9)
