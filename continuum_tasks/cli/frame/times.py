"""Times on the command line: an instant (ISO 8601, naive means UTC) or how long ago (`24h`, `30d`)."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])

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
