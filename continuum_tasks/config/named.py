"""Every setting of the three files by name: `compression_level`, `backup.compression_level`, `database:memory.path`. Pure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from continuum_tasks.config import schema
from continuum_tasks.config.lines import Section, SettingLine, parse_lines, quoted_text
from continuum_tasks.config.schema import SettingKey
from continuum_tasks.config.settings import Config, StorageType
from continuum_tasks.config.values import question
from continuum_tasks.errors import UsageError

NOT_SHOWN = "(not shown)"
_QUESTION = re.compile(r"(?:drill\.)?(sql\.[a-z0-9_.-]{1,130})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One key of one section, whether the file has it or not; `entry` is what the file says."""

    file: str
    kind: str
    label: str
    key: SettingKey
    entry: SettingLine | None

    @property
    def name(self) -> str:
        return f"{self.kind}{f':{self.label}' if self.label else ''}.{self.key.name}"

    def shown(self, text: str) -> str:
        """Return a value of this setting as others may see it."""
        return NOT_SHOWN if self.key.secret and text else text


def settings_of(texts: Mapping[str, str], *, directory: Path) -> tuple[Setting, ...]:
    """Return every setting the files may have, in the order of the documents. Raises ConfigError for what is no .conf text."""
    found: list[Setting] = []
    for file, kinds in schema.FILES.items():
        sections = parse_lines(texts[file], file=directory / file)
        for kind, keys in kinds.items():
            mine = [section for section in sections if section.kind == kind]
            if keys is not None:
                entries = mine[0].entries if mine else {}
                found += _settings(file, (kind, ""), entries, keys)
            else:
                for section in mine:
                    found += _settings(file, (kind, section.label), section.entries, _keys(section))
    return tuple(found)


def find_setting(text: str, settings: Sequence[Setting]) -> Setting:
    """Return the setting a name means: in full, with its kind of section, or its key alone where one section has it.

    `sql.NAME` of [drill] need not be there yet. Raises UsageError with what was probably meant.
    """
    match = [s for s in settings if s.name == text]
    match = match or [s for s in settings if text in (f"{s.kind}.{s.key.name}", s.key.name)]
    if len(match) == 1:
        return match[0]
    if match:
        names = ", ".join(s.name for s in match[:8])
        raise UsageError(f"setting {quoted_text(text)}: several are called so", hint=f"name one of them: {names}")
    asked = _QUESTION.fullmatch(text)
    if asked is not None:
        return Setting(file="backup.conf", kind="drill", label="", key=_question(asked[1]), entry=None)
    raise UsageError(f"setting {quoted_text(text)}: no such setting", hint=_meant(text, settings))


def effective(setting: Setting, config: Config) -> str:
    """Return the value that counts, default or not, as text the file could say. A secret one comes as it is."""
    if setting.key.name.startswith(schema.SQL_PREFIX):
        return setting.entry.text if setting.entry is not None else ""
    holders: Mapping[str, Any] = {
        "continuum": config,
        "backup": config.backup,
        "broker": config.broker,
        "workers": config.workers,
        "capture": config.capture,
        "drill": config.drill,
        "retention": config.retention,
    }
    if setting.kind == "storages":
        return config.default_storage
    if setting.kind == "database":
        holder: Any = config.database(setting.label)
    else:
        holder = config.storage(setting.label) if setting.kind == "storage" else holders[setting.kind]
    return setting.key.kind.show(getattr(holder, setting.key.target))


def _settings(
    file: str, section: tuple[str, str], entries: Mapping[str, SettingLine], keys: tuple[SettingKey, ...]
) -> Iterator[Setting]:
    kind, label = section
    asked = (_question(name) for name in entries if kind == "drill" and name.startswith(schema.SQL_PREFIX))
    for key in (*keys, *asked):
        yield Setting(file=file, kind=kind, label=label, key=key, entry=entries.get(key.name))


def _keys(section: Section) -> tuple[SettingKey, ...]:
    if section.kind == "database":
        return schema.DATABASE
    text = section.entries["type"].text if "type" in section.entries else ""
    if text in (StorageType.LOCAL, StorageType.S3):
        return schema.STORAGE[StorageType(text)]
    return tuple({key.name: key for keys in schema.STORAGE.values() for key in keys}.values())


def _question(name: str) -> SettingKey:
    return SettingKey(name=name, kind=question(), note="an SQL question that a drill asks the restored database")


def _meant(text: str, settings: Sequence[Setting]) -> str:
    names = {s.name: s.name for s in settings} | {f"{s.kind}.{s.key.name}": s.name for s in settings}
    names |= {s.key.name: s.name for s in settings}
    close = [names[word] for word in difflib.get_close_matches(text[:80], [*names], n=3)]
    more = "`continuum backup config list` shows all"
    return f"did you mean {' or '.join(dict.fromkeys(close))}? {more}" if close else more
