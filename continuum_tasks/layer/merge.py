"""layer/merge.py: which layer of a chain each page of the restored database comes from. Newest page wins."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from itertools import groupby

from continuum_tasks.layer.format import lock_page

__all__ = ["claim_pages", "lock_page", "owned"]


def claim_pages(owners: memoryview, pgnos: array[int], ordinal: int) -> None:
    """Let layer `ordinal` own the pages it has. Called for every delta, oldest first; the base is 0 and owns the rest.

    `owners` has one unsigned 32-bit number for each page of the final state: `owners[pgno - 1]`. Pages beyond it have
    been cut off since and are passed over.
    """
    n_pages = len(owners)
    for pgno in pgnos:
        if pgno <= n_pages:
            owners[pgno - 1] = ordinal


def owned(
    runs: Iterable[tuple[int, memoryview]], owners: memoryview, *, ordinal: int, page_size: int
) -> Iterator[tuple[int, memoryview]]:
    """Yield of each (first pgno, pages) what layer `ordinal` owns, as runs again."""
    for first, pages in runs:
        at = 0
        for owner, group in groupby(owners[first - 1 : first - 1 + len(pages) // page_size]):
            end = at + sum(page_size for _ in group)
            if owner == ordinal:
                yield first + at // page_size, pages[at:end]
            at = end
