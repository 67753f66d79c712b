"""Whole pages in and out of a private file, in long contiguous runs."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator
from pathlib import Path

from continuum_tasks.errors import ProofFailed
from continuum_tasks.layer.format import lock_page

BUFFER_BYTES = 1024 * 1024
PageSlice = range | array  # type: ignore[type-arg]  # array is generic to the checker only, and this is a value
"""Page numbers from 1: `range(first, last + 1)`, or an ascending array('I')."""


def read_runs(
    path: Path, *, page_size: int, pages: PageSlice, buffer_bytes: int = BUFFER_BYTES
) -> Iterator[tuple[int, memoryview]]:
    """Yield (first pgno, bytes of whole pages) in ascending order, each run at most `buffer_bytes`, the lock page left out.

    Neighbouring pages are read together. The memory of a run is its own and may be kept. Raises ProofFailed for a page
    beyond the end of the file. Only for files no SQLite connection of this process has open.
    """
    limit = max(1, buffer_bytes // page_size)
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        for first, n_pages in _coalesce(pages, lock_page(page_size), limit):
            data = _read(fd, n_pages * page_size, (first - 1) * page_size)
            if len(data) != n_pages * page_size:
                raise ProofFailed(f"{path}: ends inside page {first + len(data) // page_size}", hint="stage it again")
            yield first, memoryview(data)
    finally:
        os.close(fd)


def write_pages(fd: int, first: int, data: memoryview | bytes, *, page_size: int) -> None:
    """Write whole pages at their place, from page `first` on. Raises OSError as pwrite does."""
    view, offset = memoryview(data), (first - 1) * page_size
    while len(view):
        n = os.pwrite(fd, view, offset)
        view, offset = view[n:], offset + n


def _coalesce(pages: PageSlice, locked: int, limit: int) -> Iterator[tuple[int, int]]:
    if isinstance(pages, range):
        yield from _split(pages, locked, limit)
        return
    first = n_pages = 0
    for pgno in pages:
        if pgno == locked:
            continue
        if n_pages and pgno == first + n_pages and n_pages < limit:
            n_pages += 1
            continue
        if n_pages:
            yield first, n_pages
        first, n_pages = pgno, 1
    if n_pages:
        yield first, n_pages


def _split(pages: range, locked: int, limit: int) -> Iterator[tuple[int, int]]:
    first, stop = pages.start, pages.stop
    while first < stop:
        if first == locked:
            first += 1
            continue
        end = min(first + limit, stop, locked if first < locked else stop)
        yield first, end - first
        first = end


def _read(fd: int, n_bytes: int, offset: int) -> bytes:
    data = os.pread(fd, n_bytes, offset)
    while len(data) < n_bytes:  # a signal or the end of the file
        more = os.pread(fd, n_bytes - len(data), offset + len(data))
        if not more:
            break
        data += more
    return data
