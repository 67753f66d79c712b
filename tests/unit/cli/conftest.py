from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from continuum_tasks.cli.main import run_command
from continuum_tasks.sample.generate import SampleSpec, generate
from tests.support.cli import Done

MIB = 1024 * 1024


Call = Callable[..., Done]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Call:
    """Run a command in this process, in a directory of its own, and without workers unless it asks for them."""
    monkeypatch.chdir(tmp_path)
    for name in ("CONTINUUM_CONFIG_DIR", "CONTINUUM_LOCAL", "CONTINUUM_FAILPOINTS", "CONTINUUM_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CONTINUUM_HOST", "h1")

    def call(*words: str) -> Done:
        capsys.readouterr()
        code = run_command(words)
        captured = capsys.readouterr()
        return Done(code=code, out=captured.out, err=captured.err)

    return call


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("sample") / "memory.db"
    generate(path, SampleSpec(size_bytes=MIB))
    return path.read_bytes()


@pytest.fixture
def site(call: Call, tmp_path: Path, sample: bytes, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration in tmp_path/etc for tmp_path/memory.db and tmp_path/store; work is done in this process."""
    (tmp_path / "memory.db").write_bytes(sample)
    done = call("init", "--config-dir", "etc", "--database", "memory.db", "--storage", "store", "--yes")
    assert done.code == 0, done.err
    monkeypatch.setenv("CONTINUUM_CONFIG_DIR", str(tmp_path / "etc"))
    monkeypatch.setenv("CONTINUUM_LOCAL", "1")
    return tmp_path


@pytest.fixture
def full(call: Call, site: Path) -> str:
    """The id of one full backup."""
    return str(call("backup", "create", "--strategy", "full", "--format", "json").json["backup_id"])
