"""Kinds of values: how each is read from text, written back, and described when it is wrong. Pure but for `~`."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Generic, TypeVar
from urllib.parse import urlsplit

from continuum_tasks.model import DATABASE_NAME

T = TypeVar("T")
E = TypeVar("E", bound=StrEnum)

KEY_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
KEY_ID_ALLOWED = "1 to 64 of a-z, 0-9, '_' and '-', and begin with a letter or digit"
INVARIANT = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
HOST = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")

_INTEGER = re.compile(r"-?[0-9]{1,12}")
_DURATION = re.compile(r"([0-9]{1,10})([smhd])")
_SIZE = re.compile(r"([0-9]{1,12})([KMG]?)")
_UNIT_SECONDS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
_UNIT_BYTES = {"G": 1024**3, "M": 1024**2, "K": 1024, "": 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueKind(Generic[T]):
    """`parse` raises ValueError on any text that is not `allowed`; `show` gives text that parses to the same value."""

    parse: Callable[[str], T]
    show: Callable[[T], str]
    allowed: str


def matching(pattern: str, allowed: str) -> ValueKind[str]:
    """Text that matches the whole of `pattern`."""
    compiled = re.compile(pattern)

    def parse(text: str) -> str:
        if not compiled.fullmatch(text):
            raise ValueError(allowed)
        return text

    return ValueKind(parse=parse, show=str, allowed=allowed)


def checked(accept: Callable[[str], bool], allowed: str) -> ValueKind[str]:
    """Text that `accept` takes."""

    def parse(text: str) -> str:
        if not accept(text):
            raise ValueError(allowed)
        return text

    return ValueKind(parse=parse, show=str, allowed=allowed)


def choice(enum: type[E], *members: E) -> ValueKind[E]:
    """One value of `enum`, or one of `members` when given."""
    choices = members or tuple(enum)
    allowed = "one of " + ", ".join(choices)

    def parse(text: str) -> E:
        value = enum(text)
        if value not in choices:
            raise ValueError(allowed)
        return value

    return ValueKind(parse=parse, show=str, allowed=allowed)


def integer(low: int, high: int) -> ValueKind[int]:
    """A whole number from `low` to `high`, in digits."""
    allowed = f"a whole number from {low} to {high}"

    def parse(text: str) -> int:
        if not _INTEGER.fullmatch(text) or not low <= int(text) <= high:
            raise ValueError(allowed)
        return int(text)

    return ValueKind(parse=parse, show=str, allowed=allowed)


def boolean() -> ValueKind[bool]:
    """`yes` or `no`."""
    words = {"yes": True, "no": False}

    def parse(text: str) -> bool:
        if text not in words:
            raise ValueError
        return words[text]

    return ValueKind(parse=parse, show=lambda value: "yes" if value else "no", allowed="yes or no")


def duration_value(low: int, high: int) -> ValueKind[int]:
    """Seconds from `low` to `high`, written as a number with s, m, h or d."""
    allowed = f"a number with s, m, h or d, from {show_duration(low)} to {show_duration(high)}"

    def parse(text: str) -> int:
        match = _DURATION.fullmatch(text)
        if not match or not low <= int(match[1]) * _UNIT_SECONDS[match[2]] <= high:
            raise ValueError(allowed)
        return int(match[1]) * _UNIT_SECONDS[match[2]]

    return ValueKind(parse=parse, show=show_duration, allowed=allowed)


def duration_or_never(high: int) -> ValueKind[int]:
    """As `duration_value` from one second up; `0`, `never` and `off` are 0."""
    some = duration_value(1, high)

    def parse(text: str) -> int:
        return 0 if text in ("0", "never", "off") else some.parse(text)

    return ValueKind(
        parse=parse, show=lambda value: show_duration(value) if value else "never", allowed=f"{some.allowed}, or never"
    )


def size_value(low: int, high: int, *, multiple: int) -> ValueKind[int]:
    """Bytes from `low` to `high` in whole multiples of `multiple`, written as a number with K, M, G (1024s) or nothing."""
    allowed = f"a number with K, M or G, from {show_size(low)} to {show_size(high)}, a multiple of {show_size(multiple)}"

    def parse(text: str) -> int:
        match = _SIZE.fullmatch(text)
        if not match:
            raise ValueError(allowed)
        n_bytes = int(match[1]) * _UNIT_BYTES[match[2]]
        if not low <= n_bytes <= high or n_bytes % multiple:
            raise ValueError(allowed)
        return n_bytes

    return ValueKind(parse=parse, show=show_size, allowed=allowed)


def path_setting() -> ValueKind[Path]:
    """An absolute path; a leading `~` is the home directory."""
    allowed = "an absolute path (a leading ~ is the home directory)"

    def parse(text: str) -> Path:
        try:
            found = Path(text).expanduser()
        except RuntimeError as err:  # no such user, or no home
            raise ValueError(allowed) from err
        if not found.is_absolute() or len(text) > 4096:
            raise ValueError(allowed)
        return found

    return ValueKind(parse=parse, show=str, allowed=allowed)


def command_value() -> ValueKind[str]:
    """Words as a shell would split them; no shell ever sees them."""

    def accept(text: str) -> bool:
        return bool(shlex.split(text))  # an open quotation is a ValueError of its own

    return checked(accept, "a program and its arguments, quoted as in a shell")


def question() -> ValueKind[str]:
    """One SELECT."""
    start = re.compile(r"(?i)(select|with)\b")
    return checked(lambda text: start.match(text) is not None, "one SELECT (or WITH ... SELECT) in one line")


def words(pattern: str, allowed: str) -> ValueKind[tuple[str, ...]]:
    """Any number of different words that match `pattern`, with commas between them."""
    compiled = re.compile(pattern)

    def parse(text: str) -> tuple[str, ...]:
        found = tuple(part.strip(" \t") for part in text.split(",")) if text else ()
        if not all(map(compiled.fullmatch, found)) or len(set(found)) != len(found):
            raise ValueError(allowed)
        return found

    return ValueKind(parse=parse, show=", ".join, allowed=allowed)


def or_empty(kind: ValueKind[str]) -> ValueKind[str]:
    """As `kind`, or nothing at all."""
    return ValueKind(parse=lambda text: kind.parse(text) if text else "", show=str, allowed=f"{kind.allowed}, or empty")


def optional(kind: ValueKind[T]) -> ValueKind[T | None]:
    """As `kind`; empty is None."""
    return ValueKind(
        parse=lambda text: kind.parse(text) if text else None,
        show=lambda value: "" if value is None else kind.show(value),
        allowed=f"{kind.allowed}, or empty",
    )


def database_name() -> ValueKind[str]:
    """A name that backup ids can carry: `-2` at the end would read as a collision number, `--` is no id at all."""
    allowed = "1 to 64 of a-z, 0-9, '_' and '-'; begin with a letter; no '--', no '-' and no '-' with a number at the end"
    return checked(is_database_name, allowed)


def is_database_name(text: str) -> bool:
    return DATABASE_NAME.fullmatch(text) is not None and not re.search(r"--|-[0-9]*$", text)


def storage_name() -> ValueKind[str]:
    return matching(DATABASE_NAME.pattern, "1 to 64 of a-z, 0-9, '_' and '-', and begin with a letter")


def bucket() -> ValueKind[str]:
    return matching(
        r"(?!.*\.\.)[A-Za-z0-9][A-Za-z0-9._-]{2,254}", "a bucket name: 3 to 255 of letters, digits, '.', '_' and '-'"
    )


def prefix_value() -> ValueKind[str]:
    """Key parts under which everything is kept, without a slash at either end."""
    part = r"(?!\.{1,2}(?:/|$))[A-Za-z0-9._-]+"
    allowed = "parts of letters, digits, '.', '_' and '-' with '/' between them, at most 256 characters"
    return or_empty(matching(rf"(?=.{{1,256}}$){part}(?:/{part})*", allowed))


def endpoint() -> ValueKind[str]:
    return checked(_is_endpoint, "http://HOST[:PORT][/PATH] or https://HOST[:PORT][/PATH], without user or password")


def broker_url_value() -> ValueKind[str]:
    return checked(_is_broker_url, "a redis://, rediss:// or redis+socket:// URL")


def show_duration(seconds: int) -> str:
    """Write seconds in the largest unit that divides them."""
    unit = next(u for u, n in _UNIT_SECONDS.items() if seconds % n == 0) if seconds else "s"
    return f"{seconds // _UNIT_SECONDS[unit]}{unit}"


def show_size(n_bytes: int) -> str:
    """Write bytes in the largest unit that divides them."""
    unit = next(u for u, n in _UNIT_BYTES.items() if n_bytes % n == 0) if n_bytes else ""
    return f"{n_bytes // _UNIT_BYTES[unit]}{unit}"


def _is_endpoint(text: str) -> bool:
    url = urlsplit(text)
    plain = not (url.username or url.password or url.query or url.fragment or "@" in url.netloc)
    return url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0 and plain and " " not in text


def _is_broker_url(text: str) -> bool:
    url = urlsplit(text)
    if " " in text or url.scheme not in ("redis", "rediss", "redis+socket"):
        return False
    return url.path.startswith("/") if url.scheme == "redis+socket" else bool(url.hostname) and url.port != 0
