"""sqlite/expression.py: is a text one SQL expression that stays inside the parentheses it is put in? Pure.

What the expression may do is decided by an authorizer where it runs; this only keeps it from ending the statement.
"""

from __future__ import annotations

import re

_MAX_CHARACTERS = 100_000
# A whole quoted text or comment, else one character; an open quote or comment matches as itself and is refused.
_TOKEN = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|`(?:[^`]|``)*`|\[[^\]]*\]|--[^\n]*|/\*.*?\*/|.", re.DOTALL)


def problem(text: str) -> str:
    """Return why a text is not one whole expression, empty when it may be one."""
    if not text.strip():
        return "it is empty"
    if len(text) > _MAX_CHARACTERS or "\0" in text:
        return "it is too long" if "\0" not in text else "it holds a NUL"
    if not text.isascii() and text != text.encode(errors="replace").decode():
        return "it holds bytes that are not UTF-8"
    depth = 0
    for match in _TOKEN.finditer(text):
        token = match[0]
        if token == ";":  # noqa: S105 - a word of SQL
            return "it holds a ';'"
        if token in ("$", "@", ":", "?", "#"):  # SQLite reads $x(...) as one word, with whatever is between the brackets
            return f"it holds a {token} outside quotes: parameters have no values here"
        if token in ("'", '"', "`", "["):
            return f"a {token} is never closed"
        depth += (token == "(") - (token == ")")  # noqa: S105 - brackets
        if depth < 0:
            return "a ) has no ("
    if depth:
        return "a ( is never closed"
    return "a /* is never closed" if _open_comment(text) else ""


def _open_comment(text: str) -> bool:
    outside = "".join(match[0] if len(match[0]) == 1 else " " for match in _TOKEN.finditer(text))
    return "/*" in outside
