"""Change one setting in the text of a .conf file and leave every other line as it is. Pure."""

from __future__ import annotations

from pathlib import Path

from continuum_tasks.config.lines import parse_lines, title
from continuum_tasks.config.named import Setting


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
