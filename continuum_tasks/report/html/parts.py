"""What the page's sections share: words for numbers and times, tables, keys to colours. Pure."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from continuum_tasks.report.html.scale import Horizontal
from continuum_tasks.report.plan.report import Period
from continuum_tasks.units import show_bytes, show_seconds

MAX_ROWS = 12
UNKNOWN = "–"  # noqa: RUF001 - a dash for people


@dataclass(frozen=True, slots=True, kw_only=True)
class HtmlColumn:
    """`kind`: "" text, "long" text that may break anywhere, "number" aligned right, "when" never wrapped."""

    title: str
    kind: str = ""


def section(key: str, title: str, *parts: str) -> Html:
    """Build one section of the page; `key` names it in links."""
    return tag("section", {"id": key, "aria-labelledby": f"{key}-title"}, tag("h2", {"id": f"{key}-title"}, title), *parts)


def paragraph(*words: str) -> Html:
    return tag("p", {"class": "soft"}, *words)


def html_table(columns: Sequence[HtmlColumn], rows: Sequence[Sequence[str]], *, more: str = "") -> Html:
    """Build a table of at most `MAX_ROWS` rows; where there are others, a line says how many and `more`."""
    head = tag("tr", None, *(tag("th", _kind(column, scope=True), column.title) for column in columns))
    body = [
        tag("tr", None, *(tag("td", _kind(column), cell) for column, cell in zip(columns, row, strict=True)))
        for row in rows[:MAX_ROWS]
    ]
    left = len(rows) - MAX_ROWS
    rest = [paragraph(f"and {left} more", more)] if left > 0 else []
    made = tag("div", {"class": "scroll"}, tag("table", None, tag("thead", None, head), tag("tbody", None, *body)))
    return tag("div", None, made, *rest)


def keys(entries: Iterable[tuple[str, str]]) -> Html:
    """Build the key to a chart's colours: (class, meaning)."""
    return tag("div", None, *(tag("span", {"class": "key"}, tag("i", {"class": kind}, ""), words) for kind, words in entries))


def code_text(words: str) -> Html:
    return tag("code", None, words)


def word(kind: str, words: str) -> Html:
    """Build a word that is coloured by what it means: ok, warn or bad."""
    return tag("span", {"class": f"word-{kind}"}, words)


def moment_text(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M}"


def seconds_text(value: float | None) -> str:
    """Show a duration; below ten seconds with a decimal."""
    if value is None:
        return UNKNOWN
    return f"{value:.1f} s" if value < 9.95 else show_seconds(value)


def size_text(value: float | None) -> str:
    """Show a size, or a negative change of one."""
    if value is None:
        return UNKNOWN
    return show_bytes(value) if value >= 0 else f"−{show_bytes(-value)}"  # noqa: RUF001 - a minus sign for people


def count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def axis(period: Period) -> Horizontal:
    return Horizontal(since=period.since, until=period.until)


def _kind(column: HtmlColumn, *, scope: bool = False) -> dict[str, str | int | float]:
    found: dict[str, str | int | float] = {"class": column.kind} if column.kind else {}
    return {**found, "scope": "col"} if scope else found


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
