"""Every command's help has an example, and the command line takes each of them."""

from __future__ import annotations

import shlex

import click
import pytest

from continuum_tasks.cli.main import cli
from continuum_tasks.cli.registry import BACKUP_COMMANDS, COMMANDS, EXAMPLES


@pytest.mark.parametrize("name", [*COMMANDS, *(name for name in BACKUP_COMMANDS if name != "config")])
def test_the_help_has_an_example_that_parses(name: str) -> None:
    words = shlex.split(EXAMPLES[name])[1:]
    context: click.Context = cli.make_context("continuum", ["--help"], resilient_parsing=True)
    command: click.Command = cli
    while isinstance(command, click.Group):
        found = command.get_command(context, words[0])
        assert found is not None
        command, words = found, words[1:]
    assert "Example:" in command.get_help(click.Context(command, info_name=name))
    command.make_context(name, words, parent=context)
