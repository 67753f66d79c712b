"""The wheel in a fresh environment, where another project's `workers` and `beat_schedule` lie on every path Python looks at."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from continuum_tasks import __version__
from continuum_tasks.sample.generate import SampleSpec, generate
from tests.support.processes import ROOT

NOT_SOURCE = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist")
NAMES = ("workers/__init__.py", "workers/app.py", "workers/stack.py", "beat_schedule.py")
# Whoever imports this leaves a mark with its file name, and has nothing that we need.
STRANGER = "import os\nopen(os.environ['STRANGER_MARKS'], 'a').write(__file__ + '\\n')\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """A virtual environment with our wheel and a stranger's modules; `marks` has a line for each import of those."""

    python: Path
    site: Path
    elsewhere: Path
    marks: Path

    def command(self, *words: str | Path, **more: str) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment where the stranger's modules come first on every path."""
        inherited = {name: text for name, text in os.environ.items() if not name.startswith("CONTINUUM")}
        environment = {**inherited, "PYTHONPATH": str(self.elsewhere), "STRANGER_MARKS": str(self.marks), **more}
        program, *rest = map(str, words)
        return subprocess.run(
            [str(self.python.with_name(program)), *rest],
            cwd=self.elsewhere,
            env=environment,
            capture_output=True,
            text=True,
            timeout=540,
        )


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout: building writes beside the source."""
    return Path(shutil.copytree(ROOT, tmp_path_factory.mktemp("source") / "copy", ignore=NOT_SOURCE))


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    shutil.copy2(ROOT / ".editorconfig", source)
    shutil.copy2(ROOT / ".pre-commit-config.yaml", source)
    target = tmp_path_factory.mktemp("dist")
    words = ("wheel", "--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", str(target), str(source))
    subprocess.run([sys.executable, "-m", "pip", *words], check=True, timeout=540)
    return next(target.glob("continuum_backup-*.whl"))


@pytest.fixture
def installed(wheel: Path, tmp_path: Path) -> Iterator[Installed]:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True, timeout=540)
    python = tmp_path / "venv" / "bin" / "python"
    site = next((tmp_path / "venv").glob("lib/python*/site-packages"))
    (site / "dependencies.pth").write_text(
        sysconfig.get_path("purelib") + "\n"
    )  # a plain path: our editable install is not on it
    found = Installed(python=python, site=site, elsewhere=tmp_path / "elsewhere", marks=tmp_path / "marks")
    for place in (site, found.elsewhere):
        _put_stranger(place)
    words = ("--python", str(python), "install", "--quiet", "--no-deps", "--no-index", str(wheel))
    subprocess.run([sys.executable, "-m", "pip", *words], check=True, timeout=540)
    yield found
    found.command("continuum", "--config-dir", str(tmp_path / "etc"), "down")


def _put_stranger(place: Path) -> None:
    for name in NAMES:
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(STRANGER)


def test_an_installed_stack_runs_our_workers_and_the_stranger_keeps_its_own(installed: Installed, tmp_path: Path) -> None:
    generate(tmp_path / "memory.db", SampleSpec(size_bytes=1 << 20))
    etc = tmp_path / "etc"
    words = ("--database", tmp_path / "memory.db", "--storage", tmp_path / "store", "--yes")
    made = installed.command("continuum", "init", "--config-dir", etc, *words)
    assert made.returncode == 0, made.stderr
    started = installed.command("continuum", "up", "--detach", "--config-dir", etc)
    assert started.returncode == 0, started.stderr
    work = ("create", "--strategy", "full", "--no-local", "--format", "json")
    done = installed.command("continuum", "backup", *work, "--config-dir", etc)
    assert (done.returncode, json.loads(done.stdout)["status"]) == (0, "completed"), done.stderr
    stopped = installed.command("continuum", "down", "--config-dir", etc)
    assert stopped.returncode == 0, stopped.stderr
    assert not installed.marks.exists(), installed.marks.read_text()
    assert {(installed.site / name).read_text() for name in NAMES} == {STRANGER}
    theirs = installed.command("python", "-c", "import workers, beat_schedule")
    assert theirs.returncode == 0 and len(installed.marks.read_text().splitlines()) == 2


def test_capture_alone_is_ours_too(installed: Installed, tmp_path: Path) -> None:
    """`capture run` becomes another process as well; a refusal of its own shows that it is the right one."""
    generate(tmp_path / "memory.db", SampleSpec(size_bytes=1 << 20))
    etc = tmp_path / "etc"
    words = ("--database", tmp_path / "memory.db", "--storage", tmp_path / "store", "--yes")
    assert installed.command("continuum", "init", "--config-dir", etc, *words).returncode == 0
    (etc / "storage.conf").write_text("nonsense\n")
    done = installed.command("python", "-m", "continuum_tasks.launch", "workers.capture", CONTINUUM_CONFIG_DIR=str(etc))
    assert done.returncode == 3 and "storage.conf" in done.stderr
    assert not installed.marks.exists(), installed.marks.read_text()


def test_an_incomplete_installation_says_so_and_imports_nobody_else(installed: Installed) -> None:
    shutil.rmtree(installed.site / "continuum_tasks" / "processes" / "workers")
    done = installed.command("python", "-m", "continuum_tasks.launch", "workers.stack", "--config-dir", "/nowhere")
    assert done.returncode == 3
    assert "not complete" in done.stderr and "install continuum-backup again" in done.stderr
    assert not installed.marks.exists()


def test_the_wheel_has_one_top_level_package_its_types_schemas_and_licence(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    information = f"continuum_backup-{__version__}.dist-info"
    assert {name.partition("/")[0] for name in names} == {"continuum_tasks", information}
    assert {"continuum_tasks/py.typed", f"{information}/licenses/LICENSE", "continuum_tasks/processes/workers/app.py"} <= set(
        names
    )
    assert len([name for name in names if name.startswith("continuum_tasks/cli/schemas/")]) > 20
    told = zipfile.ZipFile(wheel).read(f"{information}/METADATA").decode()
    assert f"\nVersion: {__version__}\n" in told and "\nLicense-Expression: Apache-2.0\n" in told


def test_the_source_archive_has_what_tests_and_readers_need(wheel: Path, source: Path, tmp_path: Path) -> None:
    code = f"from setuptools import build_meta; print(build_meta.build_sdist({str(tmp_path)!r}))"
    subprocess.run([sys.executable, "-c", code], cwd=source, check=True, timeout=540, capture_output=True)
    archive = next(tmp_path.glob("continuum_backup-*.tar.gz"))
    with tarfile.open(archive) as tar:
        names = {name.partition("/")[2] for name in tar.getnames()}
    wanted = {
        "README.md",
        "LICENSE",
        "SECURITY.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "Makefile",
        "constraints.txt",
        "setup.py",
    }
    assert wanted <= names
    assert {"workers/app.py", "beat_schedule.py", "docs/API.md", "tests/conftest.py", "examples/list_backups.py"} <= names
    layers = [name for name in names if name.endswith((".layer", ".segment"))]
    assert layers, "golden objects"
