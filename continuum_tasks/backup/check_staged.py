"""Let SQLite look at a staged copy while others compress it: is it sound, what tables has it, how many rows have they."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from continuum_tasks.backup.phase_costs import timed
from continuum_tasks.config import DatabaseConfig
from continuum_tasks.errors import ProofFailed
from continuum_tasks.model import PhaseCost
from continuum_tasks.sqlite import check
from continuum_tasks.sqlite.snapshot import Staged

_CHECKS = {"quick": check.quick_check_file, "full": check.integrity_check}


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """What was found. Digest and counts are empty where the copy cannot be read, or nothing was to be counted."""

    problems: tuple[str, ...]
    schema_digest: str
    row_counts: tuple[tuple[str, int], ...]
    costs: tuple[PhaseCost, ...]


@contextmanager
def examining(staged: Staged, database: DatabaseConfig, *, monotonic: Callable[[], float]) -> Iterator[Future[Examined]]:
    """Examine in a thread of its own: SQLite walks its trees without the GIL."""
    with ThreadPoolExecutor(1, thread_name_prefix="check") as pool:
        yield pool.submit(_examine, staged, database, monotonic)


def _examine(staged: Staged, database: DatabaseConfig, monotonic: Callable[[], float]) -> Examined:
    costs: list[PhaseCost] = []
    size_bytes = staged.n_pages * staged.page_size
    look = _CHECKS.get(database.check)
    with timed("check", costs, n_bytes=size_bytes if look else 0, monotonic=monotonic):
        problems = look(staged.path) if look else ()
    with timed("count", costs, n_bytes=size_bytes if database.count_rows else 0, monotonic=monotonic):
        try:
            digest = check.schema_digest(staged.path)
            counts = check.row_counts_file(staged.path) if database.count_rows else ()
        except ProofFailed as err:
            # quick_check has said it already, or was not asked for: then this is how the damage becomes known
            problems, digest, counts = problems or (f"rows cannot be counted: {err.message}",), "", ()
    return Examined(problems=problems, schema_digest=digest, row_counts=counts, costs=tuple(costs))
