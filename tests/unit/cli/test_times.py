from __future__ import annotations

from datetime import UTC, datetime, timedelta

import click
import pytest

from continuum_tasks.cli.frame.parameters import parse_time, time

NOW = datetime(2026, 11, 23, 4, 5, 6, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2025-12-06T14:30:00Z", datetime(2025, 12, 6, 14, 30, tzinfo=UTC)),
        ("2025-12-06T14:30:00+02:00", datetime(2025, 12, 6, 12, 30, tzinfo=UTC)),
        ("2025-12-06 14:30", datetime(2025, 12, 6, 14, 30, tzinfo=UTC)),
        (" 2025-12-06T14:30:00.250 ", datetime(2025, 12, 6, 14, 30, 0, 250_000, tzinfo=UTC)),
        ("2025-12-06", datetime(2025, 12, 6, tzinfo=UTC)),
        ("0s", NOW),
        ("90s", NOW - timedelta(seconds=90)),
        ("15m", NOW - timedelta(minutes=15)),
        ("24h", NOW - timedelta(hours=24)),
        ("30d", NOW - timedelta(days=30)),
        ("4w", NOW - timedelta(weeks=4)),
    ],
)
def test_an_instant_or_how_long_ago_is_read(text: str, expected: datetime) -> None:
    found = parse_time(text, now=NOW)
    assert found == expected and found.tzinfo is UTC


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "24",
        "-24h",
        "24 h",
        "1e3s",
        "999999999w",
        "2025-13-01",
        "0001-01-01T00:00:00+14:00",
        "٣h",
        "\ud800",
        "\0",
    ],
)
def test_anything_else_is_refused_with_what_is_allowed(text: str) -> None:
    with pytest.raises(ValueError, match="not a time; allowed: 2025"):
        parse_time(text, now=NOW)
    with pytest.raises(click.BadParameter, match="is not a time"):
        time(text)
