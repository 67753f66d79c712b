"""wal/commits.py: the transactions in a stretch of proven frames: which pages each left behind. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from continuum_tasks.wal.frames import Frames


@dataclass(frozen=True, slots=True, kw_only=True)
class Transaction:
    """One committed transaction: its frames, the database's size after it, and its pages in ascending order.

    `at` says for each page which of the frames holds it, counted from 0: the last one, when a page was written twice.
    """

    first_frame: int
    last_frame: int
    n_pages: int
    pgnos: tuple[int, ...]
    at: tuple[int, ...]


def transactions(frames: Frames) -> Iterator[Transaction]:
    """Yield the transactions of `frames`, which must end with a commit. Raises ValueError when it does not.

    Pages that the commit itself cut off (its size is smaller than their number) are left out.
    """
    ends = np.flatnonzero(frames.sizes)
    if not len(ends) or int(ends[-1]) != len(frames.sizes) - 1:
        raise ValueError(f"frame {frames.first + len(frames.sizes) - 1} is the last one and ends no commit")
    start = 0
    for end in ends.tolist():
        n_pages = int(frames.sizes[end])
        newest = {pgno: at for at, pgno in enumerate(frames.pgnos[start : end + 1].tolist(), start) if pgno <= n_pages}
        pgnos = tuple(sorted(newest))
        yield Transaction(
            first_frame=frames.first + start,
            last_frame=frames.first + end,
            n_pages=n_pages,
            pgnos=pgnos,
            at=tuple(newest[pgno] for pgno in pgnos),
        )
        start = end + 1
