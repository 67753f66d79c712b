"""Decide how pages are cut into chunks. Pure arithmetic over counts; a chunk is one object, made by one task."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """Positions `start` (inclusive) to `stop` (exclusive) in an ordered list of pages."""

    start: int
    stop: int


def split(n_pages: int, *, page_size: int, chunk_bytes: int) -> tuple[Slice, ...]:
    """Cut `n_pages` into slices of at most `chunk_bytes` raw bytes (at least one page each), none for no pages."""
    step = max(1, chunk_bytes // page_size)
    return tuple(Slice(start=start, stop=min(start + step, n_pages)) for start in range(0, n_pages, step))
