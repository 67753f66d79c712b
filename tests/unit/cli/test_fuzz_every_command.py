"""Every command there is and every option of it, found in the command line itself: no word and no file ends in a defect."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from continuum_tasks.cli.main import cli
from tests.unit.cli.conftest import Call
from tests.unit.cli.odd import ODD, QUICK, WORDS, check

pytestmark = pytest.mark.slow

NEVER_ENDING = {"up", "run", "--follow"}  # they run until somebody stops them
HUGE = ("9" * 30, "-" + "9" * 30, "9" * 18 + "d", "9" * 400 + "h", "99999-01-01", "0001-01-01T00:00:00Z", "1e400", "0x10", "٣")
# What a command wants before it looks at the rest.
NEEDED = {
    "create": ["--strategy", "full"],
    "restore": ["ID", "--target", "out.db"],
    "extract": ["ID", "--table", "tenants"],
    "info": ["ID"],
    "verify": ["ID"],
    "test-restore": ["ID"],
    "drill": ["ID"],
    "compare-counts": ["ID", "memory.db"],
    "hold": ["ID", "--reason", "because"],
    "release": ["ID"],
    "accept": ["ID", "--reason", "because"],
    "config get": ["compression_level"],
    "config set": ["compression_level", "1"],
}


def commands(group: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield every command below a group with its words."""
    if not isinstance(group, click.Group):
        yield path, group
        return
    ctx = click.Context(group)
    for name in group.list_commands(ctx):
        found = group.get_command(ctx, name)
        assert found is not None
        yield from commands(found, (*path, name))


ALL = {" ".join(path): command for path, command in commands(cli) if path[-1] not in NEVER_ENDING and path != ("init",)}
NAMES = sorted(ALL)


def options(command: click.Command) -> list[click.Option]:
    found = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
    return [option for option in found if not NEVER_ENDING & {*option.opts}]


def needed(name: str, backup_id: str) -> list[str]:
    short = name.removeprefix("backup ")
    return [backup_id if word == "ID" else word for word in NEEDED.get(short, [])]


def test_every_command_is_here() -> None:
    assert len(NAMES) >= 28
    assert {"backup config set", "backup logs", "backup audit", "backup extract", "backup drill", "health-check"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_an_odd_word_for_each_option_of_this_command_is_answered(call: Call, site: Path, full: str, name: str) -> None:
    valued = [option.opts[-1] for option in options(ALL[name]) if not option.is_flag]
    for number, word in enumerate((*HUGE, *ODD)):
        for place, option in enumerate(valued):
            if (number + place) % 3 == 0:  # each word meets a third of the options, each option a third of the words
                words = [*name.split(), *needed(name, full), f"{option}={word}", "--format=json"]
                check(words)


@pytest.mark.parametrize("name", NAMES)
def test_an_odd_word_for_each_argument_of_this_command_is_answered(call: Call, site: Path, full: str, name: str) -> None:
    n_arguments = sum(isinstance(parameter, click.Argument) for parameter in ALL[name].params)
    for word in (*HUGE, *ODD):
        for n in {1, n_arguments, n_arguments + 1}:
            check([*name.split(), *[word] * n, "--format=json"])


@pytest.mark.parametrize("name", NAMES)
@settings(QUICK, max_examples=30)
@given(data=st.data())
def test_no_mixture_of_options_and_words_breaks_this_command(call: Call, site: Path, name: str, data: st.DataObject) -> None:
    known = [flag for option in options(ALL[name]) for flag in (*option.opts, *option.secondary_opts)]
    words = data.draw(st.lists(st.one_of(st.sampled_from(known), WORDS, st.sampled_from(HUGE)), max_size=8))
    check([*name.split(), *words])


def _directory(path: Path) -> None:
    path.mkdir()


def _socket(path: Path) -> None:
    before = Path.cwd()
    os.chdir(path.parent)
    try:
        socket.socket(socket.AF_UNIX).bind(path.name)
    finally:
        os.chdir(before)


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.write(b"SQLite format 3\0")
        file.truncate(1 << 40)


FILES: dict[str, Callable[[Path], object]] = {
    "directory": _directory,
    "pipe": lambda path: os.mkfifo(path),
    "socket": _socket,
    "link to itself": lambda path: path.symlink_to(path.name),
    "link to nothing": lambda path: path.symlink_to("nowhere/at/all"),
    "link to a device": lambda path: path.symlink_to("/dev/zero"),
    "empty": lambda path: path.touch(),
    "noise": lambda path: path.write_bytes(os.urandom(70_000)),
    "text": lambda path: path.write_text("-- a dump\nCREATE TABLE t (x);\n"),
    "a database of a terabyte that is not there": _sparse,
    "a header alone": lambda path: path.write_bytes(b"SQLite format 3\0" + bytes(84)),
}


@pytest.mark.timeout(300)
@pytest.mark.filterwarnings("ignore:unclosed <socket")
@pytest.mark.parametrize("kind", FILES)
def test_a_file_of_the_wrong_kind_is_answered_wherever_a_path_is_taken(call: Call, site: Path, full: str, kind: str) -> None:
    wrong = site / "wrong"
    FILES[kind](wrong)
    for words in (
        ["compare-counts", full, "wrong"],
        ["restore", full, "--target", "wrong"],
        ["restore", full, "--target", "wrong/x.db"],
        ["restore", full, "--target", "wrong", "--overwrite", "--dry-run"],
        ["restore", full, "--target", "wrong", "--overwrite", "--dry-run", "--exact"],
        ["restore", "--undo", "--target", "wrong"],
        ["extract", full, "--table", "tenants", "--into", "wrong"],
        ["extract", full, "--table", "tenants", "--into", "wrong", "--dry-run"],
        ["extract", full, "--table", "tenants", "--output", "wrong"],
        ["report", "--output", "wrong"],
        ["report", "--output", "wrong/page.html"],
        ["forensics-copy", "--to", "wrong"],
        ["list", "--config-dir", "wrong"],
        ["restore", full, "--target", "wrong", "--overwrite"],
    ):
        check(["backup", *words, "--format=json"])
    if "terabyte" not in kind:
        check(["backup", "forensics-copy", "--database", "./wrong", "--to", "evidence", "--format=json"])
    check(["init", "--yes", "--config-dir", "new", "--database", "wrong", "--storage", "wrong", "--format=json"])
    if kind != "pipe":  # `--key-file <(...)` is read until its end, as the documentation says
        words = ["--config-dir", "other", "--database", "m.db", "--storage", "s", "--key-file", "wrong"]
        check(["init", "--yes", *words, "--format=json"])


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "part", ["etc/log/backup.log", "etc/state/audit.log", "etc/log/dr-drills.log", "etc/state/reports", "etc/state/drills"]
)
@pytest.mark.parametrize("kind", ["directory", "noise", "empty", "link to itself"])
def test_a_log_or_record_of_the_wrong_kind_is_no_defect(call: Call, site: Path, full: str, part: str, kind: str) -> None:
    path = site / part
    path.parent.mkdir(parents=True, exist_ok=True)
    path.rename(site / "moved") if path.exists() else None
    FILES[kind](path)
    for words in (
        *(
            ["logs"],
            ["logs", "--tail", "5"],
            ["logs", "--level", "error", "--since", "1h"],
            ["audit"],
            ["audit", "--since", "1d"],
        ),
        *(["drill", full], ["hold", full, "--reason", "r"], ["release", full], ["config", "set", "compression_level", "3"]),
        *(["apply-retention"], ["restore", full, "--target", "out.db"], ["report", "--day"], ["health"]),
    ):
        check(["backup", *words, "--format=json"])
