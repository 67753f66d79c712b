"""Parse the text of one .conf file into sections that remember their lines: stricter than configparser. Pure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from continuum_tasks.errors import ConfigError

_HEADER = re.compile(r"\[([^\[\]]+)\]")
_STRAY_COMMENT = re.compile(r"[ \t][#;]")


@dataclass(frozen=True, slots=True, kw_only=True)
class FilePosition:
    """Where something stands; its text form is `file:line`, lines from 1."""

    file: Path
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingLine:
    text: str
    place: FilePosition


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """`[kind]` or `[kind:label]` with its entries by key."""

    kind: str
    label: str
    place: FilePosition
    entries: Mapping[str, SettingLine] = field(default_factory=dict)

    @property
    def title(self) -> str:
        return title(self.kind, self.label)


def title(kind: str, label: str) -> str:
    return f"[{kind}:{label}]" if label else f"[{kind}]"


def parse_lines(text: str, *, file: Path) -> tuple[Section, ...]:
    """Split text into sections in file order.

    A line is empty, a comment (`#` or `;` first), a `[section]` or `key = value`. Raises ConfigError naming file and line
    for anything else: indented lines, repeated sections or keys, comments behind a value, characters that do not print.
    """
    sections: dict[str, Section] = {}
    entries: dict[str, SettingLine] = {}
    for number, raw in enumerate(text.split("\n"), start=1):
        line = raw.rstrip(" \t\r")
        place = FilePosition(file=file, line=number)
        if not line.strip(" \t") or line[0] in "#;":
            continue
        _refuse_odd(line, place)
        if line[0] == "[":
            entries = {}
            section = _header(line, place, entries)
            if section.title in sections:
                raise _repeated(section.title, place, sections[section.title].place)
            sections[section.title] = section
        else:
            if not sections:
                raise ConfigError(
                    f"{place}: {quoted_text(line)} comes before any [section]", hint="begin with a [section] line"
                )
            key, entry = _entry(line, place)
            if key in entries:
                raise _repeated(f"key {key!r}", place, entries[key].place)
            entries[key] = entry
    return tuple(sections.values())


def suggestion(word: str, known: Iterable[str]) -> str:
    """Name what is allowed, and the likeliest meaning of `word`."""
    allowed = sorted(known)
    close = difflib.get_close_matches(word[:80], allowed, n=1)
    return f"{f'did you mean {close[0]}? ' if close else ''}allowed: {', '.join(allowed) or 'nothing'}"


def quoted_text(text: str) -> str:
    """Quote file text for a message: control characters escaped, at most 80 characters."""
    return repr(text if len(text) <= 80 else f"{text[:77]}...")


def _refuse_odd(line: str, place: FilePosition) -> None:
    if line[0] in " \t":
        raise ConfigError(
            f"{place}: {quoted_text(line)} is indented", hint="begin every line in column one; values take one line"
        )
    if not line.replace("\t", " ").isprintable():
        raise ConfigError(f"{place}: {quoted_text(line)} holds a character that does not print", hint="type the line again")


def _header(line: str, place: FilePosition, entries: dict[str, SettingLine]) -> Section:
    match = _HEADER.fullmatch(line)
    if not match:
        raise ConfigError(
            f"{place}: {quoted_text(line)} is not a section", hint="write [section] or [section:name], nothing behind it"
        )
    kind, colon, label = match[1].partition(":")
    if colon and not label:
        raise ConfigError(f"{place}: {quoted_text(line)} lacks its name", hint=f"write [{kind}:name]")
    return Section(kind=kind, label=label, place=place, entries=entries)


def _entry(line: str, place: FilePosition) -> tuple[str, SettingLine]:
    key, equals, value = line.partition("=")
    key, value = key.strip(" \t"), value.strip(" \t")
    if not equals or not key:
        # The line is not quoted: somebody may have typed a password or a URL with one
        raise ConfigError(f"{place}: the line is not `key = value`", hint="write key = value, or # before a comment")
    if _STRAY_COMMENT.search(value):
        raise ConfigError(f"{place}: {key!r} has a comment behind its value", hint="give the comment a line of its own")
    return key, SettingLine(text=value, place=place)


def _repeated(what: str, place: FilePosition, first: FilePosition) -> ConfigError:
    return ConfigError(f"{place}: {what} was given before, on line {first.line}", hint="keep one of the two")
