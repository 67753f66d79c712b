"""capture/shipper.py: bring spooled segments into the storage, in order, and remember how long that took."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from continuum_tasks.capture.spool import Spool
from continuum_tasks.capture.standing import Standing
from continuum_tasks.repository import Repository
from continuum_tasks.timelines import put_raw, put_timeline

N_LAGS = 2048  # the last so many commits tell the lag: two minutes of a busy database, 16 of each segment
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 30.0


@dataclass(slots=True, kw_only=True)
class Shipped:
    """What was shipped since this process began: figures for the status, shared between the thread that ships and the loop."""

    seq: int = 0
    n_segments: int = 0
    n_bytes: int = 0
    n_requests: int = 0
    lags_seconds: deque[float] = field(default_factory=lambda: deque(maxlen=N_LAGS))

    def lag(self, share: float) -> float:
        """Return the lag (seconds) that `share` of the last segments did not exceed, 0 before the first."""
        known = sorted(self.lags_seconds)
        return known[min(len(known) - 1, int(share * len(known)))] if known else 0.0

    @property
    def last_lag(self) -> float:
        return self.lags_seconds[-1] if self.lags_seconds else 0.0


def ship(
    standing: Standing,
    spool: Spool,
    shipped: Shipped,
    *,
    repository: Repository,
    seen: dict[int, tuple[float, ...]],
    monotonic: Callable[[], float],
) -> None:
    """Ship what waits, oldest first, the timeline's own document before its first segment.

    `seen` says when some of each segment's commits were seen (monotonic seconds); what is shipped leaves it. Raises
    StorageError (what is left waits on), Fenced when another writer has written on this timeline.
    """
    if not standing.published and not shipped.n_segments:
        put_timeline(repository, standing.timeline)
        shipped.n_requests += 1
    for waiting in spool.waiting():
        if waiting.seq > standing.seq:
            return
        data = waiting.path.read_bytes()
        put_raw(repository, standing.timeline, waiting.seq, data)
        spool.remove(waiting.seq)
        shipped.lags_seconds.extend(monotonic() - at for at in seen.pop(waiting.seq, ()))
        shipped.seq = waiting.seq
        shipped.n_segments += 1
        shipped.n_bytes += len(data)
        shipped.n_requests += 1
