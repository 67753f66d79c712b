from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from continuum_tasks.cli.main import cli, exit_codes
from continuum_tasks.cli.registry import BACKUP_COMMANDS, COMMANDS
from tests.support.cli import parse

TEXT = (Path(__file__).resolve().parents[3] / "docs" / "CLI.md").read_text(encoding="utf-8")
ALL = [*(f"continuum {name}" for name in COMMANDS), *(f"continuum backup {name}" for name in BACKUP_COMMANDS)]
EXAMPLES = [
    line
    for block in re.findall(r"```bash\n(.*?)```", TEXT, re.DOTALL)
    for line in block.splitlines()
    if line.startswith("continuum")
]


@pytest.mark.parametrize("line", EXAMPLES)
def test_the_command_line_takes_this_example(line: str) -> None:
    assert parse(line).command.callback is not None


def test_a_line_that_is_not_taken_would_be_noticed() -> None:
    with pytest.raises(click.UsageError):
        parse("continuum backup list --no-such-option")


@pytest.mark.parametrize("command", ALL)
def test_this_command_has_a_section_with_an_example_and_its_exit_codes(command: str) -> None:
    section = re.search(rf"^## {command}$\n(.*?)(?=^## |\Z)", TEXT, re.DOTALL | re.MULTILINE)
    assert section is not None
    assert [line for line in EXAMPLES if line in section[1] and line.startswith(command)]
    assert re.search(r"^Exit: ", section[1], re.MULTILINE)


@pytest.mark.parametrize("command", ALL)
def test_every_option_of_this_command_is_documented(command: str) -> None:
    words = command.split()[1:]
    found: click.Command = cli
    for word in words:
        assert isinstance(found, click.Group)
        next_command = found.get_command(click.Context(found), word)
        assert next_command is not None
        found = next_command
    for parameter in found.params:
        if isinstance(parameter, click.Option):
            assert all(f"`{flag}" in TEXT or f"{flag} " in TEXT for flag in (*parameter.opts, *parameter.secondary_opts)), (
                parameter.opts
            )


def test_no_section_is_about_a_command_that_does_not_exist() -> None:
    assert re.findall(r"^## (continuum .*)$", TEXT, re.MULTILINE) == ALL


def test_the_table_of_exit_codes_is_the_program_s() -> None:
    rows = re.findall(r"^\| (\d+) \| (.*) \|$", TEXT, re.MULTILINE)
    assert [(int(code), text) for code, text in rows] == list(exit_codes().items())
