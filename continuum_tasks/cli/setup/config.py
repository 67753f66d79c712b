"""continuum backup config get, set, list."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import click
from click.shell_completion import CompletionItem

from continuum_tasks.cli.frame import output
from continuum_tasks.cli.frame.context import cli_context, config_directory, shared_options
from continuum_tasks.cli.frame.table import TableColumn, print_table
from continuum_tasks.cli.registry import LazyGroup
from continuum_tasks.config import Config
from continuum_tasks.config.files import MAX_BYTES, read_text
from continuum_tasks.config.load import read_config
from continuum_tasks.config.named import Setting, effective, find_setting, settings_of
from continuum_tasks.config.schema import FILES
from continuum_tasks.errors import ContinuumError, UsageError
from continuum_tasks.host.audit_trail import user
from continuum_tasks.setup.configure import Changed, SettingChange, change_setting

HOST = "CONTINUUM_HOST"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Loaded:
    """The configuration and every setting it has or may have."""

    config: Config
    settings: tuple[Setting, ...]


@click.group("config", cls=LazyGroup, table={})
@shared_options
def config() -> None:
    """Show and change the settings of the three .conf files.

    \b
    Example:
      continuum backup config set compression_level 9
    """


def _complete(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    try:
        settings = _load().settings
    except ContinuumError:
        return []
    return [CompletionItem(s.name, help=s.key.note) for s in settings if incomplete in s.name]


@config.command("get")
@click.argument("setting", metavar="SETTING", shell_complete=_complete)
@shared_options
def get(setting: str) -> None:
    """Print the value of one setting; where it comes from is printed on standard error.

    \b
    Example:
      continuum backup config get compression_level
    """
    loaded = _load()
    found = find_setting(setting, loaded.settings)
    if found not in loaded.settings:
        raise UsageError(f"setting {found.name}: is not there", hint="`continuum backup config list` shows all")
    if cli_context().as_json:
        output.print_document(_fields(found, loaded.config))
        return
    output.print_text(found.shown(effective(found, loaded.config)))
    output.remark(f"{found.name}: {_origin(found, loaded.config)}")


@config.command("list")
@shared_options
def list_settings() -> None:
    """List every setting, its value, and where it comes from.

    \b
    Example:
      continuum backup config list
    """
    loaded = _load()
    if cli_context().as_json:
        output.print_document([_fields(setting, loaded.config) for setting in loaded.settings])
        return
    columns = [TableColumn(title="setting"), TableColumn(title="value", folds=True), TableColumn(title="from")]
    output.print_text(f"{loaded.config.directory}\n")
    print_table(columns, [_row(setting, loaded.config) for setting in loaded.settings])


@config.command("set")
@click.argument("setting", metavar="SETTING", shell_complete=_complete)
@click.argument("value", metavar="[VALUE]", required=False)
@click.option("--stdin", is_flag=True, help="Read the value from standard input: a password is then not in the shell history.")
@click.option("--default", is_flag=True, help="Remove its line, so that the default applies.")
@shared_options
def set_value(setting: str, value: str | None, stdin: bool, default: bool) -> None:
    """Change one setting: checked as a whole first, comments kept, written in one step, audited.

    Workers use it from their next task on, unless it says that `continuum up` must be started again.

    \b
    Example:
      continuum backup config set compression_algorithm lz4
    """
    if [value is not None, stdin, default].count(True) != 1:
        raise UsageError("give one of VALUE, --stdin and --default", hint="an empty value is written ''")
    request = SettingChange(
        setting=setting,
        value=_typed() if stdin else value,
        directory=config_directory(),
        environment=os.environ,
        by=user(),
    )
    _show(change_setting(request, now=datetime.now(UTC)))


def _typed() -> str:
    """Return what standard input holds, less a line break at its end. Raises UsageError when it cannot be read."""
    try:
        data = b"" if sys.stdin is None else sys.stdin.buffer.read(MAX_BYTES + 1)
    except OSError as err:
        raise UsageError(f"--stdin: standard input cannot be read: {err}", hint="give VALUE instead") from err
    text = data.decode("utf-8", "surrogateescape")
    return text.removesuffix("\n").removesuffix("\r")


def _show(done: Changed) -> None:
    for text in done.warnings:
        output.warn(text)
    place = f"{done.file}:{done.line}" if done.line else "default"
    if cli_context().as_json:
        fields = {"setting": done.name, "old": done.old, "new": done.new, "from": place}
        output.print_document({**fields, "changed": done.written, "restart": done.restart})
        return
    if done.written:
        output.print_text(f"{done.name}: {done.old or '(empty)'} -> {done.new or '(empty)'} ({place})")
    else:
        output.print_text(f"{done.name}: {done.new or '(empty)'} already ({place}); nothing was changed")
    if done.restart:
        output.remark("processes that run keep the old value: start `continuum up` again")


def _load() -> _Loaded:
    directory = config_directory()
    texts: Mapping[str, str] = {name: read_text(directory / name) for name in FILES}
    found = read_config(texts, directory=directory, environment=os.environ)
    return _Loaded(config=found, settings=settings_of(texts, directory=directory))


def _origin(setting: Setting, config: Config) -> str:
    if setting.name == "continuum.host" and os.environ.get(HOST):
        return HOST
    if setting.entry is None:
        return "default"
    return f"{config.directory / setting.file}:{setting.entry.place.line}"


def _fields(setting: Setting, config: Config) -> dict[str, object]:
    value = effective(setting, config)
    return {
        "setting": setting.name,
        "value": None if setting.key.secret and value else value,
        "from": _origin(setting, config),
        "secret": setting.key.secret,
        "restart": setting.key.restart,
        "allowed": setting.key.kind.allowed,
        "note": setting.key.note,
    }


def _row(setting: Setting, config: Config) -> list[str]:
    origin = _origin(setting, config).removeprefix(f"{config.directory}/")
    return [setting.name, setting.shown(effective(setting, config)), origin]
