"""Markup that cannot be broken by what is put into it: text is escaped unless it is markup already. Pure.

What comes out is well-formed XML too, so that a strict parser can read every page.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping

VOID = frozenset({"meta", "br", "hr"})

Value = str | int | float


class Html(str):
    """Markup, made by `tag` and `join` only."""

    __slots__ = ()


def escaped(value: str) -> Html:
    """Escape text; what no document may hold (control characters, lone surrogates) is shown as its escape."""
    if isinstance(value, Html):
        return value
    return Html(html.escape("".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in value), quote=True))


def tag(name: str, attributes: Mapping[str, Value] | None = None, *children: str) -> Html:
    """Build one element; children that are not `Html` are text. A float attribute is written to a tenth."""
    shown = "".join(f' {key}="{escaped(_shown(value))}"' for key, value in (attributes or {}).items())
    if name in VOID:
        return Html(f"<{name}{shown}/>")
    return Html(f"<{name}{shown}>{join(children)}</{name}>")


def join(parts: Iterable[str]) -> Html:
    """Put parts behind each other; those that are not `Html` are text."""
    return Html("".join(escaped(part) for part in parts))


def _shown(value: Value) -> str:
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else str(value)
