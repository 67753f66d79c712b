"""Whatever is typed: a documented exit code, no traceback, no defect, and with JSON one document."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.cli.conftest import Call
from tests.unit.cli.odd import ODD, QUICK, WORDS, check

pytestmark = pytest.mark.slow

COMMANDS = {
    "create": ["--strategy", "--database", "--storage", "--priority", "--no-wait", "--wait"],
    "list": ["--database", "--storage", "--limit", "--verified-only"],
    "info": ["--storage"],
    "restore": [
        *("--target", "--storage", "--database", "--latest", "--overwrite", "--verify"),
        *("--pitr", "--region", "--undo", "--dry-run", "--exact"),
    ],
    "extract": [
        *("--table", "--where", "--into", "--on-conflict", "--output", "--pitr", "--region", "--storage", "--database"),
        "--dry-run",
    ],
    "verify-recovery": [],
    "verify": ["--level", "--storage"],
    "compare-counts": ["--storage"],
    "test-storage": [],
    "reindex": ["--storage"],
    "health": [],
}
VALUED = ("--target", "--storage", "--database", "--level", "--strategy", "--limit", "--priority", *("--pitr", "--region"))
SHARED = ["--config-dir", "--format", "--format=json", "--local", "--no-local", "--help"]


@pytest.mark.parametrize("command", COMMANDS)
@QUICK
@given(data=st.data())
def test_no_argument_breaks(call: Call, site: Path, command: str, data: st.DataObject) -> None:
    options = st.sampled_from([*COMMANDS[command], *SHARED[:4]])
    words = data.draw(st.lists(st.one_of(options, WORDS, WORDS), max_size=7))
    check(["backup", command, *words])


@pytest.mark.parametrize("command", COMMANDS)
def test_an_odd_word_for_each_option_and_argument_is_answered(call: Call, site: Path, command: str) -> None:
    needed = {
        "create": ["--strategy", "full"],
        "restore": ["backup-full-20251206-010000", "--target", "out.db"],
        "extract": ["backup-full-20251206-010000", "--table", "tenants"],
    }
    valued = [option for option in COMMANDS[command] if option in VALUED]
    for word in ODD:
        for option in valued:
            check(["backup", command, *needed.get(command, []), option, word, "--format=json"])
        check(["backup", command, word, "--format=json"])
        check(["backup", command, word, word, "--format=json"])
        check(["backup", command, *needed.get(command, []), "--config-dir", word, "--format=json"])


def test_odd_paths_for_a_backup_that_is_there_are_answered(call: Call, site: Path, full: str) -> None:
    for word in ODD:
        check(["backup", "compare-counts", full, word, "--format=json"])
        if not word.startswith("/proc"):
            check(["backup", "restore", full, "--target", word, "--format=json"])
        if not word.startswith("/"):
            check(["backup", "restore", full, "--overwrite", "--target", word, "--format=json"])


def test_odd_words_for_rows_and_evidence_are_answered(call: Call, site: Path, full: str) -> None:
    for word in ODD:
        check(["backup", "extract", full, "--table", word, "--format=json"])
        check(["backup", "forensics-copy", f"--database={word}", "--to", "evidence", "--format=json"])
        check(["backup", "restore", f"--pitr={word}", "--target", "out.db", "--format=json"])
        if len(word) < 100:
            check(
                [
                    "backup",
                    "extract",
                    full,
                    "--table",
                    "tenants",
                    f"--where={word}",
                    "--output",
                    f"{len(word)}.sql",
                    "--format=json",
                ]
            )
            check(["backup", "extract", full, "--table", "tenants", f"--into={word}", "--dry-run", "--format=json"])


def test_odd_words_for_init_and_up_are_answered(call: Call, tmp_path: Path) -> None:
    for number, word in enumerate(ODD):
        place = tmp_path / str(number)
        place.mkdir()
        with contextlib.chdir(place):
            check(["up", "--config-dir", word, "--format=json"])  # before anything makes a configuration there: it would start
            check(["up", word, "--format=json"])
            check(["health-check", "--config-dir", word, "--format=json"])
            check([word])
            check(["--config-dir", word, "backup", "list", "--format=json"])
            if word.startswith("/"):
                continue
            for option in ("--database", "--storage", "--key-file", "--config-dir"):
                words = ["--config-dir", f"conf{option}", "--database", "memory.db", "--storage", "backups", option, word]
                check(["init", "--yes", *words, "--format=json"])
            check(["init", "--yes", word, "--format=json"])


@pytest.mark.parametrize("name", ["backup.conf", "storage.conf", "retention.conf"])
@pytest.mark.parametrize("content", [b"", b"\0", b"\xff\xfe", b"[", b"= x\n", b"[a]\nb\n", b"x" * 2_000_000, None])
def test_an_unreadable_configuration_is_exit_3(call: Call, site: Path, name: str, content: bytes | None) -> None:
    path = site / "etc" / name
    path.unlink()
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    done = call("backup", "list")
    if (name, content) != ("retention.conf", b""):
        assert done.code == 3 and name in done.err


@pytest.mark.parametrize(
    "part", ["etc/state", "etc/state/metadata.db", "etc/state/locks", "etc/tmp", "etc/keys", "store", "memory.db"]
)
@pytest.mark.parametrize("kind", ["file", "directory", "loop", "empty file"])
def test_a_part_that_is_something_else_is_no_defect(call: Call, site: Path, full: str, part: str, kind: str) -> None:
    path = site / part
    path.rename(site / "moved") if path.exists() else None
    if kind == "directory":
        path.mkdir()
    elif kind == "loop":
        path.symlink_to(path.name)
    else:
        path.write_bytes(b"" if kind.startswith("empty") else os.urandom(5000))
    for words in (
        ["list"],
        ["create", "--strategy", "full"],
        ["restore", full, "--target", "out.db"],
        ["verify", full],
        ["health"],
    ):
        check(["backup", *words, "--format=json"])
