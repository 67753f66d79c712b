"""Write the three files from a `Config`, with a comment on every key; what is written reads back as the same values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from continuum_tasks.config.files import create_file, system_reason
from continuum_tasks.config.lines import parse_lines, quoted_text, title
from continuum_tasks.config.load import read_config
from continuum_tasks.config.named import Setting
from continuum_tasks.config.schema import (
    BACKUP,
    BROKER,
    CAPTURE,
    CONTINUUM,
    DATABASE,
    DRILL,
    RETENTION,
    SQL_PREFIX,
    STORAGE,
    STORAGES,
    WORKERS,
    SettingKey,
)
from continuum_tasks.config.settings import Config, Invariant, StorageConfig
from continuum_tasks.errors import ConfigError

_BACKUP_HEAD = """\
# What is backed up, how, and where things live. Every key with its default: docs/CONFIGURATION.md.
# Comments take a line of their own. Durations: 30s, 4m, 12h, 7d. Sizes: 64K, 32M, 1G.
"""
_STORAGE_HEAD = """\
# Where backups are stored. Every key with its default: docs/CONFIGURATION.md.
"""
_RETENTION_HEAD = """\
# Which backups stay; every other one expires, each day after 01:00 UTC and by `continuum backup apply-retention`,
# which says with --dry-run what it would do and why. What never expires, whatever is set here: docs/RETENTION.md.
"""
_STORAGE_TAIL = """
# A second storage, for example:
#[storage:s3]
#type = s3
#bucket = continuum-backups
#prefix = memory
#region = us-west-2
"""
_DRILL_TAIL = """\
# Questions that must be answered by no row at all, or by one row that says 1, for example:
#sql.has_rows = SELECT count(*) > 0 FROM entities
"""
_BACKUP_TAIL = """
# A second database, for example:
#[database:archive]
#path = /var/lib/continuum/archive.db
#full_every = 1d
"""


def render_config(config: Config) -> dict[str, str]:
    """Return the text of each file by name.

    An empty `config.host` is written as empty: the host name of whichever machine reads it. Raises ConfigError for a value
    that the format cannot carry, such as a path with a line break.
    """
    backup = [
        _section("continuum", "", config, CONTINUUM),
        _section("backup", "", config.backup, BACKUP),
        _section("broker", "", config.broker, BROKER),
        _section("workers", "", config.workers, WORKERS),
        _section("capture", "", config.capture, CAPTURE),
        _section("drill", "", config.drill, DRILL) + _questions(config.drill.invariants),
        *(_section("database", database.name, database, DATABASE) for database in config.databases),
    ]
    storage = [
        f"[storages]\n{_entry(STORAGES[0], config.default_storage)}\n",
        *(_section("storage", storage.name, storage, STORAGE[storage.type]) for storage in config.storages),
    ]
    texts = {
        "backup.conf": "\n".join((_BACKUP_HEAD, *backup)) + _BACKUP_TAIL,
        "storage.conf": "\n".join((_STORAGE_HEAD, *storage)) + _storage_tail(config.storages),
        "retention.conf": "\n".join((_RETENTION_HEAD, _section("retention", "", config.retention, RETENTION))),
    }
    # Read back before anyone writes it: what cannot be loaded is refused here, with the place in the file it would have
    environment = {} if config.host else {"CONTINUUM_HOST": "any"}
    read_config(texts, directory=config.directory, environment=environment)
    return texts


def write_config(config: Config) -> tuple[Path, ...]:
    """Create the three files in `config.directory`, 0600, none of them over one that is there; on failure none stays."""
    texts = render_config(config)
    written: list[Path] = []
    try:
        for name in sorted(texts, reverse=True):  # backup.conf last: it is what tells an initialised directory
            create_file(config.directory / name, texts[name].encode())
            written.append(config.directory / name)
    except OSError as err:
        for path in written:
            path.unlink()
        if isinstance(err, FileExistsError):
            raise ConfigError(f"{config.directory}: already initialised: {name} is there", hint="edit it instead") from err
        message = f"{config.directory / name}: cannot be written: {system_reason(err)}"
        raise ConfigError(message, hint="make the directory writable for this user, or name another --config-dir") from err
    return tuple(reversed(written))


def _section(kind: str, label: str, values: object, keys: tuple[SettingKey, ...]) -> str:
    return "\n".join((title(kind, label), *(_entry(key, getattr(values, key.target)) for key in keys), ""))


def _entry(key: SettingKey, value: Any) -> str:
    text = key.kind.show(value)
    if text != text.strip(" \t") or not text.isprintable():
        raise ConfigError(f"{key.name} {quoted_text(text)} cannot be written to a .conf file", hint="use a plainer name")
    return f"# {key.note}\n{key.name} = {text}".rstrip()


def _questions(invariants: tuple[Invariant, ...]) -> str:
    if not invariants:
        return _DRILL_TAIL
    lines = (f"{SQL_PREFIX}{f'{one.database}.' if one.database else ''}{one.name} = {one.sql}" for one in invariants)
    return "\n".join((*lines, ""))


def _storage_tail(storages: tuple[StorageConfig, ...]) -> str:
    return "" if any(storage.name == "s3" for storage in storages) else _STORAGE_TAIL


def put(text: str, setting: Setting, value: str, *, file: Path) -> str:
    """Return the text with a value: in its line where there is one, else at the end of its section, made if need be."""
    lines = text.split("\n")
    if setting.entry is not None:
        at = setting.entry.place.line - 1
        lines[at] = _replaced(lines[at], value)
        return "\n".join(lines)
    line = f"{setting.key.name} = {value}".rstrip(" ")
    for section in parse_lines(text, file=file):
        if (section.kind, section.label) == (setting.kind, setting.label):
            last = max((entry.place.line for entry in section.entries.values()), default=section.place.line)
            lines.insert(last, line + _end(lines[last - 1]))
            return "\n".join(lines)
    gap = "" if not text else "\n" if text.endswith("\n") else "\n\n"
    return f"{text}{gap}{title(setting.kind, setting.label)}\n{line}\n"


def drop_setting(text: str, setting: Setting) -> str:
    """Return the text without the setting's line, so that its default counts."""
    lines = text.split("\n")
    if setting.entry is not None:
        del lines[setting.entry.place.line - 1]
    return "\n".join(lines)


def _replaced(line: str, value: str) -> str:
    before, _, after = line.partition("=")
    blank = after[: len(after) - len(after.lstrip(" \t"))]
    if not after.strip(" \t\r"):
        blank = " " if before.endswith(" ") else ""
    return f"{before}={blank}{value}".rstrip(" \t") + _end(line)


def _end(line: str) -> str:
    return "\r" if line.endswith("\r") else ""
