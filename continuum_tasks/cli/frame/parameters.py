"""Words of the command line as values: what cannot be a path, a name or a backup id is refused before anything is opened."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from continuum_tasks.errors import ContinuumError
from continuum_tasks.model import BackupId, TimelineId

Command = TypeVar("Command", bound=Callable[..., Any])

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_REGION = re.compile(r"[a-z0-9-]{1,64}")
_PATH_BYTES, _PART_BYTES = 4095, 255


def path_value(text: str | Path) -> Path:
    """Return a path this system could have, made absolute from here. Raises BadParameter."""
    text = os.fspath(text)
    if not text or "\0" in text:
        raise click.BadParameter("the path is empty or holds a NUL byte")
    try:
        parts = [len(part) for part in os.fsencode(text).split(b"/")]
    except UnicodeEncodeError as err:
        raise click.BadParameter(f"{quoted_word(text)} cannot be written in this system's encoding") from err
    if sum(parts) + len(parts) > _PATH_BYTES or max(parts) > _PART_BYTES:
        raise click.BadParameter(f"{quoted_word(text)} is longer than a path may be")
    return Path(text).absolute()


def file(text: str | Path) -> Path:
    """Return a path that can name a database file, as `path`. Raises BadParameter."""
    found = path_value(text)
    try:
        str(found).encode()
    except UnicodeEncodeError as err:
        raise click.BadParameter(f"{quoted_word(str(found))} is not UTF-8: SQLite opens UTF-8 names only") from err
    if not found.name:
        raise click.BadParameter(f"{quoted_word(str(found))} is a directory: name a file in it")
    return found


def declared_name(text: str) -> str:
    """Return the name of a database or a storage, as the .conf files may declare it. Raises BadParameter."""
    if not _NAME.fullmatch(text):
        raise click.BadParameter(
            f"{quoted_word(text)} is not a name: 1 to 64 of a-z, 0-9, '_' and '-', beginning with a letter"
        )
    return text


def is_name(text: str) -> bool:
    """Tell whether this could be the name of a database or a storage."""
    return _NAME.fullmatch(text) is not None


def name_option(flag: str, text: str) -> Callable[[Command], Command]:
    """Make an option that takes a declared name; the command gets an empty one when it was not given."""
    return click.option(flag, metavar="NAME", type=declared_name, default=None, callback=_or_empty, help=text)


def complete_database(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the databases of backup.conf whose names begin so, none when the configuration cannot be read."""
    from continuum_tasks.cli.frame.context import CliContext
    from continuum_tasks.config import find_config_directory, load_config

    asked = ctx.find_object(CliContext)
    try:
        found = load_config(find_config_directory(asked.config_dir if asked else None, os.environ)).databases
    except ContinuumError:
        return []
    return [CompletionItem(one.name, help=str(one.path)) for one in found if one.name.startswith(incomplete)]


def region(text: str) -> str:
    """Return the name of an S3 region. Raises BadParameter."""
    if not _REGION.fullmatch(text):
        raise click.BadParameter(f"{quoted_word(text)} is not a region: use one such as us-west-2")
    return text


def region_option(command: Command) -> Command:
    """Give a command `--region`; it gets an empty one when it was not given."""
    text = "Use the S3 storage in this region, whatever storage.conf says."
    return click.option("--region", metavar="REGION", type=region, default=None, callback=_or_empty, help=text)(command)


def backup_id(text: str) -> BackupId:
    """Return a backup id. Raises BadParameter."""
    try:
        return BackupId(text)
    except ValueError as err:
        raise click.BadParameter(
            f"{quoted_word(text)} is not a backup id; `continuum backup list` shows those there are"
        ) from err


def timeline_id(text: str) -> TimelineId:
    """Return the id of a timeline. Raises BadParameter."""
    try:
        return TimelineId(text)
    except ValueError as err:
        raise click.BadParameter(f"{quoted_word(text)} is not a timeline's id; `continuum backup history` shows them") from err


def commit_options(command: Command) -> Command:
    """Give a command `--commit` and `--timeline`, None when they were not given."""
    number = click.option(
        "--commit",
        type=click.IntRange(min=1),
        default=None,
        metavar="N",
        help="Instead of ID: the state after this captured commit; `continuum backup history` lists them.",
    )
    return number(timeline_option("With --commit or --pitr: of this timeline [default: the newest].")(command))


def timeline_option(text: str) -> Callable[[Command], Command]:
    """Make the option that takes a timeline's id; the command gets None when it was not given."""
    return click.option("--timeline", type=timeline_id, default=None, metavar="TIMELINE", help=text)


def quoted_word(text: str) -> str:
    """Quote a word of the command line for a message: at most 80 characters, all of them printable ASCII."""
    return ascii(text if len(text) <= 80 else f"{text[:77]}...")


def _or_empty(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str:
    return value or ""


ALLOWED = "2025-12-06T14:30:00Z, '2025-12-06 14:30' (UTC), or how long ago: 90s, 15m, 24h, 7d, 4w"


_AGO = re.compile(r"([0-9]{1,9})(s|m|h|d|w)")


_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}


def parse_time(text: str, *, now: datetime) -> datetime:
    """Return the instant meant, aware and in UTC; a duration counts back from `now`, a date is its midnight.

    Raises ValueError with what is allowed.
    """
    text = text.strip()
    ago = _AGO.fullmatch(text)
    try:
        if ago is not None:
            return now.astimezone(UTC) - timedelta(seconds=int(ago[1]) * _SECONDS[ago[2]])
        at = datetime.fromisoformat(text)
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError) as err:
        raise ValueError(f"not a time; allowed: {ALLOWED}") from err


def time(text: str | datetime) -> datetime:
    """Return the instant a word of the command line means, counted from now. Raises BadParameter."""
    if isinstance(text, datetime):
        return text
    try:
        return parse_time(text, now=datetime.now(UTC))
    except ValueError as err:
        shown = ascii(text if len(text) <= 80 else f"{text[:77]}...")
        raise click.BadParameter(f"{shown} is not a time; allowed: {ALLOWED}") from err


def time_option(flag: str, text: str) -> Callable[[Command], Command]:
    """Make an option that takes a time; the command gets an aware datetime in UTC, or None when it was not given."""
    return click.option(flag, metavar="TIME", type=time, default=None, help=text)
