"""Decide whether a state may be written into a live database: what it takes, and how long writers would wait. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from continuum_tasks.errors import ContinuumError, NoSpace, TargetBusy

ASSUMED_WRITE_BYTES_PER_SECOND = 100 * 1024 * 1024
_RATE = f"{ASSUMED_WRITE_BYTES_PER_SECOND // 1024**2} MiB/s"
ASSUMED_SYNC_SECONDS = 0.2
WRITES = 3  # each page: into the log or the journal and database, and the one it replaces into the quarantine
SPACE_MARGIN_BYTES = 8 * 1024 * 1024
_FRAME_HEADER_BYTES = 24
_WAL_HEADER_BYTES = 32
_JOURNAL_RECORD_BYTES = 8
_JOURNAL_HEADER_BYTES = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class OnlinePlan:
    """What writing takes: `n_pages_differ` of `n_pages`, as compared just now in `compare_seconds`.

    `log_bytes` are those of the -wal (or -journal), `space_bytes` all that is needed beside the database until it is done.
    """

    target: str
    wal: bool
    n_pages_differ: int
    n_pages: int
    n_pages_now: int
    page_size: int
    compare_seconds: float
    busy_window_seconds: float
    log_bytes: int
    space_bytes: int
    lock_seconds: float
    how_estimated: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PageDifference:
    """How a live database differs from a state, measured."""

    wal: bool
    n_differ: int
    n_pages: int
    n_pages_now: int
    page_size: int
    compare_seconds: float


def online_plan(target: str, found: PageDifference, *, busy_window_seconds: float) -> OnlinePlan:
    """Work out space and lock time; the comparison is counted again, as it is when somebody commits meanwhile."""
    n_written = found.n_differ + 1 if found.n_differ else 0  # page 1 always
    if found.wal:
        log_bytes = _WAL_HEADER_BYTES + n_written * (found.page_size + _FRAME_HEADER_BYTES)
    else:
        n_replaced = min(n_written, found.n_pages_now)
        log_bytes = _JOURNAL_HEADER_BYTES + n_replaced * (found.page_size + _JOURNAL_RECORD_BYTES)
    log_bytes = log_bytes if n_written else 0
    growth_bytes = abs(found.n_pages - found.n_pages_now) * found.page_size  # of the database, or of what is kept of it
    writing = n_written * found.page_size * WRITES / ASSUMED_WRITE_BYTES_PER_SECOND
    return OnlinePlan(
        target=target,
        wal=found.wal,
        n_pages_differ=found.n_differ,
        n_pages=found.n_pages,
        n_pages_now=found.n_pages_now,
        page_size=found.page_size,
        compare_seconds=round(found.compare_seconds, 3),
        busy_window_seconds=busy_window_seconds,
        log_bytes=log_bytes,
        space_bytes=log_bytes + growth_bytes,
        lock_seconds=round(found.compare_seconds + writing + ASSUMED_SYNC_SECONDS, 2) if n_written else 0.0,
        how_estimated=f"comparing took {found.compare_seconds:.2f} s just now; writing is assumed at {_RATE}",
    )


def online_refusal(plan: OnlinePlan, *, free_bytes: int, wait_writers: bool) -> ContinuumError | None:
    """Return why it may not be done, None when it may."""
    need_bytes = plan.space_bytes + SPACE_MARGIN_BYTES
    if free_bytes < need_bytes:
        return NoSpace(
            f"{plan.target}: writing into it needs {need_bytes} bytes for its {'-wal' if plan.wal else '-journal'}"
            f" and what is replaced, {free_bytes} are free",
            hint="free space in its directory",
        )
    if plan.lock_seconds > plan.busy_window_seconds and not wait_writers:
        return TargetBusy(
            f"{plan.target}: {plan.n_pages_differ} pages differ, so writers would wait about {plan.lock_seconds:g} s,"
            f" longer than the busy window ({plan.busy_window_seconds:g} s)",
            hint="--wait-writers lets them wait; or stop the service and restore without --online",
        )
    return None
