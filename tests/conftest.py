"""What every test process starts from, whoever started it, and which tests belong to one worker."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hypothesis.core
import pytest
from hypothesis import HealthCheck, settings

from tests.support import servers
from tests.support.sampling import SEED, WHOLE
from tests.support.servers import S3Server

_OWN = pytest.StashKey[Path]()
# Examples are the same in every run unless a seed is given, and nothing that hangs on the machine's speed fails a test.
_SEED_GIVEN = "CONTINUUM_TEST_SEED" in os.environ
settings.register_profile(
    "continuum", derandomize=not _SEED_GIVEN, database=None, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("continuum")

_KEPT_TO_ONE_WORKER = ("module", "class", "package")


def pytest_configure(config: pytest.Config) -> None:
    """Take SIGINT again (a shell starts what it puts in the background without it), and give the process a home of its own."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if _SEED_GIVEN:
        hypothesis.core.global_force_seed = SEED
    # Not below pytest's directory: every user must reach it, and a socket's path may have 107 bytes.
    own = Path(tempfile.mkdtemp(prefix="ct-"))
    own.chmod(0o755)
    (own / "home").mkdir(mode=0o700)
    (own / "tmp").mkdir()
    (own / "tmp").chmod(0o1777)
    config.stash[_OWN] = own
    for name in [name for name in os.environ if name.startswith(("AWS_", "XDG_", "RCLONE_", "CONTINUUM_"))]:
        if not name.startswith("CONTINUUM_TEST_"):
            del os.environ[name]
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())  # tmp_path stays where everybody looks for it
    os.environ["HOME"] = str(own / "home")
    os.environ["TMPDIR"] = str(own / "tmp")
    tempfile.tempdir = None


def pytest_unconfigure(config: pytest.Config) -> None:
    shutil.rmtree(config.stash[_OWN], ignore_errors=True)


def pytest_report_header() -> list[str]:
    cases = "all" if WHOLE else "a sample (CONTINUUM_TEST_PROOF=1 takes all)"
    return [f"seed of samples: {SEED} (CONTINUUM_TEST_SEED gives another); cases of matrices: {cases}"]


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep tests that share a module's fixture on one worker; each value of its parameters may have a worker of its own."""
    for item in items:
        if isinstance(item, pytest.Function) and (group := _group(item)):
            item.add_marker(pytest.mark.xdist_group(group))
            if hasattr(item, "_id") and item.config.getoption("loadgroup", False):
                # pytest 9.2 reads its own `_id`, and pytest-xdist 3.8 writes the group to where older ones had it
                item._id = type(item._id).parse(f"{item.nodeid}@{group}")


def _group(item: pytest.Function) -> str:
    fixtures = item._fixtureinfo.name2fixturedefs.values()
    shared = [found[-1] for found in fixtures if found[-1].scope in _KEPT_TO_ONE_WORKER]
    if not shared:
        return ""
    values = item.callspec.params if hasattr(item, "callspec") else {}
    own = [str(values[fixture.argname]) for fixture in shared if fixture.argname in values]
    return " ".join([item.nodeid.partition("::")[0], *own])


@pytest.fixture
def folder() -> Iterator[Path]:
    """A directory every user can reach, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    for part in (folder, *folder.rglob("*")):
        if part.is_dir():
            part.chmod(0o700)
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def ministack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """The S3 server that knows conditions, versions and locks: one for all tests of a worker, each with its own prefix."""
    with servers.ministack(tmp_path_factory.mktemp("ministack")) as server:
        yield server


@pytest.fixture(scope="session")
def rclone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """The S3 server that knows none of it: one for all tests of a worker, each with its own prefix."""
    with servers.rclone(tmp_path_factory.mktemp("rclone")) as server:
        yield server
