"""Durations, sizes and instants: as text for people, and to and from whole microseconds since 1970. Pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


def show_seconds(seconds: float) -> str:
    """Return a duration in its two largest units: `3 min 12 s`, `2 d 4 h`."""
    left, parts = round(seconds), list[str]()
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        n, left = divmod(left, size)
        if n or parts or unit == "s":
            parts.append(f"{n} {unit}")
    return " ".join(part for part in parts[:2] if not (part.startswith("0 ") and len(parts) > 1))


def show_bytes(n_bytes: float) -> str:
    """Return a size in binary units: `1.5 GiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if n_bytes < 1024:
            return f"{n_bytes:.0f} B" if unit == "B" else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1024
    return f"{n_bytes:.1f} TiB"


def instant(at_us: int) -> datetime:
    """Return microseconds since 1970 as an aware instant (UTC)."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at_us)


def microseconds(at: datetime) -> int:
    """Return an aware instant in whole microseconds since 1970."""
    whole = at.astimezone(UTC)
    return int(whole.replace(microsecond=0).timestamp()) * 1_000_000 + whole.microsecond
