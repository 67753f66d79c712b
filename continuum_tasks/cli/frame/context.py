"""What every command is asked alike: which configuration, which output; and the configuration and runtime it means."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from continuum_tasks.errors import ConfigError

if TYPE_CHECKING:
    from continuum_tasks.config import Config
    from continuum_tasks.runtime import Runtime

Command = TypeVar("Command", bound=Callable[..., Any])


class Format(StrEnum):
    TABLE = "table"
    JSON = "json"


@dataclass(slots=True)
class CliContext:
    """The shared options of one run; click fills it in, the innermost command's word counts."""

    config_dir: str | None = None
    format: Format = Format.TABLE

    @property
    def as_json(self) -> bool:
        return self.format is Format.JSON


def shared_options(command: Command) -> Command:
    """Give a command `--config-dir` and `--format`; also before the subcommand. Read them with `cli_context()`."""
    directory = click.option(
        "--config-dir",
        metavar="DIR",
        expose_value=False,
        callback=_keep_directory,
        help="Directory of the .conf files [default: CONTINUUM_CONFIG_DIR, else /etc/continuum].",
    )
    output = click.option(
        "--format",
        type=click.Choice([form.value for form in Format]),
        expose_value=False,
        callback=_keep_format,
        help="A table for people or one JSON document on standard output [default: table].",
    )
    return directory(output(command))


def cli_context() -> CliContext:
    """Return the shared options of the command that runs now."""
    found = click.get_current_context().find_object(CliContext)
    if found is None:
        raise RuntimeError("no command runs")
    return found


def config_directory() -> Path:
    """Return the absolute configuration directory that is meant. Raises ConfigError."""
    from continuum_tasks.config import find_config_directory

    return find_config_directory(cli_context().config_dir, os.environ)


def configuration() -> Config:
    """Read the configuration that is meant. Raises ConfigError."""
    from continuum_tasks.config import load_config

    return load_config(config_directory(), environment=os.environ)


@contextmanager
def open_runtime_of_command() -> Iterator[Runtime]:
    """Open what actions need. Raises ConfigError, KeyringError."""
    from continuum_tasks.runtime import open_runtime

    with open_runtime(configuration()) as runtime:
        if runtime.state_trouble:
            from continuum_tasks.cli.frame.output import warn

            warn(f"{runtime.state_trouble}: this run remembers nothing, and reads the storages instead")
        yield runtime


def local_forced(option: bool | None) -> bool | None:
    """Return True for `--local`, False for `--no-local`, None for neither; then CONTINUUM_LOCAL decides. Raises ConfigError."""
    if option is not None:
        return option
    text = os.environ.get("CONTINUUM_LOCAL", "").strip().lower()
    if text in ("1", "yes", "true", "on"):
        return True
    if text in ("", "0", "no", "false", "off"):
        return None
    raise ConfigError(f"CONTINUUM_LOCAL = {text[:80]!r} is not allowed", hint="1 runs work in this process; otherwise unset it")


def _keep_directory(ctx: click.Context, _param: click.Parameter, value: str | None) -> None:
    if value is not None:
        ctx.ensure_object(CliContext).config_dir = value


def _keep_format(ctx: click.Context, _param: click.Parameter, value: str | None) -> None:
    if value is not None:
        ctx.ensure_object(CliContext).format = Format(value)
