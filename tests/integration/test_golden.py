"""What format 1 wrote is listed, verified, restored and continued, for ever: tests/golden/v1 is never made again."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from continuum_tasks.cli.main import run_command
from tests.support.processes import ROOT, environment, until

GOLDEN = Path(__file__).parents[1] / "golden" / "v1"
_DIGESTS = """
import hashlib, json, sqlite3, sys
for path in sys.argv[1:]:
    dump = "\\n".join(sqlite3.connect(path).iterdump())
    print(hashlib.sha256(dump.encode()).hexdigest())
"""
_WRITE = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
connection.execute("INSERT INTO notes VALUES (?, 'new')", (sys.argv[2],))
connection.commit()
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Old:
    """A copy of one golden host, configured as that was."""

    directory: Path
    known: dict[str, Any]
    capsys: pytest.CaptureFixture[str]

    @property
    def database(self) -> Path:
        return self.directory / "main.db"

    def backup(self, *words: str) -> Any:
        """Run `continuum backup WORDS` in this process and return what it printed."""
        self.capsys.readouterr()
        code = run_command(["--config-dir", str(self.directory), "--format", "json", "backup", *words])
        out, err = self.capsys.readouterr()
        assert code == 0, (words, out, err)
        return json.loads(out) if out.strip() else None

    def restored(self, *which: list[str]) -> list[str]:
        """Restore states and return their digests, by another SQLite in another process."""
        targets = [self.directory / f"restored-{number}.db" for number in range(len(which))]
        for words, target in zip(which, targets, strict=True):
            self.backup("restore", *words, "--target", str(target))
        return digests(*targets)

    def check_backups(self, ids: list[str]) -> None:
        assert self.restored(*([one] for one in ids)) == [self.known["backups"][one] for one in ids]
        for path in self.directory.glob("restored-*.db"):
            path.unlink()

    def write(self, number: int) -> None:
        subprocess.run([sys.executable, "-c", _WRITE, str(self.database), str(number)], check=True)


def newest_of(old: Old) -> str:
    return max(old.known["backups"], key=lambda name: name[-15:])


def digests(*paths: Path) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", _DIGESTS, *map(str, paths)], capture_output=True, text=True, check=True, timeout=120
    )
    return done.stdout.split()


@pytest.fixture(params=["sealed", "plain"])
def old(request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> Old:
    name, directory = request.param, tmp_path / "old"
    shutil.copytree(GOLDEN / name, directory)
    encryption = "none" if name == "plain" else "aes-256-gcm\nencryption_key_id = golden-v1"
    (directory / "backup.conf").write_text(
        f"[continuum]\nhost = h1\nstate_dir = {directory}/state\nkeys_dir = {directory}/keys\n\n"
        f"[backup]\nencryption = {encryption}\n\n"
        f"[database:main]\npath = {directory}/main.db\nfull_every = never\nincremental_every = never\nverify_every = never\n"
    )
    (directory / "storage.conf").write_text(f"[storage:local]\ntype = local\npath = {directory}/store\n")
    (directory / "retention.conf").write_text("")
    (directory / "state").mkdir(mode=0o700)
    if name == "sealed":
        (directory / "keys").chmod(0o700)
        for key in (directory / "keys").iterdir():
            key.chmod(0o600)
        for file in ("metadata.db", "audit.log"):
            shutil.copyfile(GOLDEN / name / file, directory / "state" / file)
        shutil.copytree(GOLDEN / name / "capture", directory / "state" / "capture" / "main")
    monkeypatch.setenv("CONTINUUM_LOCAL", "1")
    return Old(directory=directory, known=json.loads((GOLDEN / name / "expected.json").read_text()), capsys=capsys)


def test_the_golden_files_are_the_ones_that_were_made() -> None:
    sums = dict(reversed(line.split("  ")) for line in (GOLDEN / "SHA256SUMS").read_text().splitlines())
    files = [path for name in ("plain", "sealed") for path in (GOLDEN / name).rglob("*") if path.is_file()]
    assert {str(path.relative_to(GOLDEN)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files} == sums


def test_every_backup_is_listed_and_restored(old: Old) -> None:
    listed = old.backup("list")
    assert {one["backup_id"] for one in listed} == set(old.known["backups"])
    assert {one["backup_id"]: one["status"] for one in listed}[old.known["made"]["accepted"]] == "completed"
    assert {one["backup_id"] for one in listed if one["verified"]} == {old.known["made"]["full"], old.known["made"]["second"]}
    old.check_backups(sorted(old.known["backups"]))


def test_every_captured_commit_is_restored(old: Old) -> None:
    commits = old.known["commits"]
    shown = {(one["timeline"], one["number"]) for one in old.backup("history", "--limit", "1000")["commits"]}
    assert shown >= {(one["timeline"], one["number"]) for one in commits}
    found = old.restored(*(["--commit", str(one["number"]), "--timeline", one["timeline"]] for one in commits))
    assert found == [one["digest"] for one in commits]


def test_every_backup_verifies(old: Old) -> None:
    for name in old.known["backups"]:
        old.backup("verify", name, "--level", "restore")
    assert all(one["verified"] for one in old.backup("list"))


def test_the_catalog_made_again_from_the_storage_says_the_same(old: Old) -> None:
    old.backup("reindex")
    before = old.backup("list")
    for path in (old.directory / "state").glob("metadata.db*"):
        path.unlink()
    old.backup("reindex")
    assert old.backup("list") == before
    held = [key.stem for key in (old.directory / "store" / "holds").rglob("*.json")]
    assert held == [old.known["made"]["full"]]


def test_an_old_chain_is_continued_and_old_segments_are_merged(old: Old) -> None:
    newest = newest_of(old)
    old.database.unlink(missing_ok=True)
    old.backup("restore", newest, "--target", str(old.database))
    old.write(1001)
    made = old.backup("create", "--strategy", "incremental", "--force")
    assert (made["strategy"], made["parent_id"]) == ("incremental", newest)
    old.write(1002)
    differential = old.backup("create", "--strategy", "differential", "--force")
    assert differential["strategy"] == "differential" and differential["parent_id"] == old.known["made"]["full"]
    old.backup("compact")
    assert old.restored([differential["backup_id"]]) == digests(old.database)
    old.backup("verify", made["backup_id"], "--level", "restore")
    (old.directory / "restored-0.db").unlink()
    commits = old.known["commits"][::3]
    found = old.restored(*(["--commit", str(one["number"]), "--timeline", one["timeline"]] for one in commits))
    assert found == [one["digest"] for one in commits]


@pytest.mark.parametrize("with_commits", [True, False])
def test_retention_is_applied_to_old_backups_and_what_it_keeps_is_restored(old: Old, with_commits: bool) -> None:
    if not with_commits:
        for name in ("segments", "timelines"):
            shutil.rmtree(old.directory / "store" / name)
    (old.directory / "retention.conf").write_text(
        "[retention]\nhourly = 1\ndaily = 0\nweekly = 0\nmonthly = 0\nyearly = 0\nkeep_within = 0\ngrace_period = 0\n"
        "min_backups = 1\nonly_verified = no\npitr_window = 1h\n"
    )
    old.database.unlink(missing_ok=True)
    old.backup("restore", newest_of(old), "--target", str(old.database))
    made = old.backup("create", "--strategy", "full", "--force")["backup_id"]
    old.backup("verify", made, "--level", "restore")
    (done,) = old.backup("apply-retention")
    left = {one["backup_id"] for one in old.backup("list")}
    assert done["stopped"] == "" and (with_commits or done["n_expire"] >= 5)  # commits of the last hour keep their bases
    assert {made, old.known["made"]["full"]} <= left  # the newest, and one that is held
    old.check_backups(sorted(left - {made}))


def test_the_audit_log_is_intact(old: Old) -> None:
    if (old.directory / "audit.log").exists():
        old.backup("audit")


@pytest.mark.parametrize("old", ["sealed"], indirect=True)
def test_capture_goes_on_where_the_version_before_ended(old: Old) -> None:
    conf = old.directory / "backup.conf"
    conf.write_text(conf.read_text() + "continuous = yes\n")
    status = old.directory / "state" / "capture" / "main" / "status.json"
    status.unlink()
    env = {**environment(_config(old)), "CONTINUUM_LOCAL": "1"}
    process = subprocess.Popen([sys.executable, "-m", "workers.capture"], cwd=ROOT, env=env, stderr=subprocess.DEVNULL)
    try:
        assert until(lambda: status.exists() and json.loads(status.read_text()).get("state") == "running")
        old.write(2001)
        assert until(lambda: bool(_new(old)))
        (commit, *_) = _new(old)
        assert until(lambda: len(old.backup("list")) > len(old.known["backups"]))
    finally:
        process.terminate()
        assert process.wait(timeout=60) == 0
    assert old.restored(["--commit", str(commit["number"]), "--timeline", commit["timeline"]]) == digests(old.database)


def _new(old: Old) -> list[dict[str, Any]]:
    """Return the commits, newest first, that are none of the golden ones and no state that capture found."""
    seen = {(one["timeline"], one["number"]) for one in old.known["commits"]}
    found = old.backup("history", "--limit", "1000")["commits"]
    return [one for one in found if not one["resumed"] and (one["timeline"], one["number"]) not in seen]


def _config(old: Old) -> Any:
    from continuum_tasks.config import load_config

    return load_config(old.directory)
