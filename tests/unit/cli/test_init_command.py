from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support.cli import PROGRAM
from tests.unit.cli.conftest import Call

pytestmark = pytest.mark.slow


def test_it_says_what_it_made_and_that_losing_the_key_loses_the_backups(call: Call, tmp_path: Path) -> None:
    done = call("init", "--config-dir", "etc", "--database", "m.db", "--storage", "store", "--yes")
    assert done.code == 0
    assert f"initialised {tmp_path}/etc" in done.out
    assert "if you lose the key, you lose the backups" in done.out
    assert "keep a copy away" in done.out
    assert "warning: database" in done.err


def test_its_json_names_files_key_and_advice(call: Call, tmp_path: Path) -> None:
    done = call(
        "init", "--config-dir", "etc", "--database", "m.db", "--storage", "s3://bucket/p?region=x", "--yes", "--format", "json"
    )
    assert done.json["config_dir"] == str(tmp_path / "etc")
    assert done.json["storage"] == {"name": "s3", "type": "s3"}
    assert Path(done.json["key_path"]).exists() and len(done.json["key_fingerprint"]) == 32
    assert done.json["warnings"] and done.json["advice"]


def test_without_encryption_there_is_no_key(call: Call, tmp_path: Path) -> None:
    done = call("init", "--config-dir", "etc", "--storage", "store", "--no-encryption", "--yes", "--format", "json")
    assert done.json["key_path"] is None and done.json["key_fingerprint"] is None
    assert not list(tmp_path.rglob("*.key"))


def test_a_second_time_is_refused_and_changes_nothing(call: Call, tmp_path: Path) -> None:
    words = ("init", "--config-dir", "etc", "--storage", "store", "--yes")
    assert call(*words).code == 0
    before = {path: path.read_bytes() for path in (tmp_path / "etc").rglob("*") if path.is_file()}
    assert call(*words).code == 3
    assert before == {path: path.read_bytes() for path in (tmp_path / "etc").rglob("*") if path.is_file()}


def test_a_copy_of_a_key_is_adopted(call: Call, tmp_path: Path) -> None:
    first = call("init", "--config-dir", "one", "--storage", "store", "--yes", "--format", "json").json
    words = ("init", "--config-dir", "two", "--storage", "store", "--key-file", first["key_path"], "--yes", "--format", "json")
    assert call(*words).json["key_fingerprint"] == first["key_fingerprint"]
    assert call("init", "--config-dir", "three", "--key-file", "one/backup.conf", "--yes").code == 5


def ask(directory: Path, answers: str, *words: str) -> subprocess.CompletedProcess[str]:
    command = [*PROGRAM, "init", "--config-dir", "etc", *words]
    return subprocess.run(command, input=answers, capture_output=True, text=True, cwd=directory)


def test_without_yes_it_asks_and_takes_the_answers(tmp_path: Path) -> None:
    done = ask(tmp_path, "here.db\nstore\ny\ny\n", "--format", "json")
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "etc/backup.conf").read_text()
    assert f"path = {tmp_path}/here.db" in text
    assert "you lose the backups" in done.stderr
    assert done.stdout.startswith("{")


def test_a_bad_answer_is_asked_again(tmp_path: Path) -> None:
    done = ask(tmp_path, "x" * 300 + "\nhere.db\nstore\nn\ny\n")
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.rglob("*.key"))
    assert "encryption = none" in (tmp_path / "etc/backup.conf").read_text()


def test_no_to_the_last_question_makes_nothing(tmp_path: Path) -> None:
    done = ask(tmp_path, "here.db\nstore\ny\nn\n")
    assert done.returncode == 130
    assert list(tmp_path.iterdir()) == []


def test_without_anybody_to_answer_it_is_refused(tmp_path: Path) -> None:
    done = ask(tmp_path, "")
    assert done.returncode == 2
    assert "--yes" in done.stderr and list(tmp_path.iterdir()) == []
