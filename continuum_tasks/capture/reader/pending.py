"""Commits that were read and are not sealed yet."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field

from continuum_tasks.capture.reader.first_page import FirstPage
from continuum_tasks.model import Commit
from continuum_tasks.wal.frames import Frames, transactions


@dataclass(slots=True, kw_only=True)
class Pending:
    """Commits in order with their pages; `reasons` say why there was a hole before those that resumed.

    `first_page` is page 1 as the last of them that has it left it.
    """

    commits: list[Commit] = field(default_factory=list)
    pgnos: array[int] = field(default_factory=lambda: array("I"))
    pages: list[memoryview] = field(default_factory=list)
    reasons: list[tuple[int, str]] = field(default_factory=list)
    n_bytes: int = 0
    first_page: FirstPage | None = None

    def add(self, frames: Frames, *, number: int, observed_us: int, unseen_us: int) -> int:
        """Add the transactions of `frames`, the first as commit `number`; returns the number of the last."""
        for found in transactions(frames):
            self.commits.append(
                Commit(
                    number=number,
                    n_pages=found.n_pages,
                    n_stored=len(found.pgnos),
                    first_frame=found.first_frame,
                    last_frame=found.last_frame,
                    observed_us=observed_us,
                    unseen_us=unseen_us,
                )
            )
            self.pgnos.extend(found.pgnos)
            self.pages.extend(frames.page(at) for at in found.at)
            if found.pgnos[:1] == (1,):
                self.first_page = FirstPage(commit=number, page=bytes(frames.page(found.at[0])))
            number += 1
        self.n_bytes += len(frames.data)
        return number - 1

    def resume(self, commit: Commit, page: bytes, *, reason: str) -> None:
        """Add the state found after a hole; `page` is page 1 as it is there."""
        self.commits.append(commit)
        self.pgnos.append(1)
        self.pages.append(memoryview(page))
        self.first_page = FirstPage(commit=commit.number, page=page)
        self.reasons.append((commit.number, reason))
        self.n_bytes += len(page)

    def __bool__(self) -> bool:
        return bool(self.commits)

    def __iter__(self) -> Iterator[Commit]:
        return iter(self.commits)
