"""Write what the capture of one database says of itself, when that is another thing than it said last."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace

from continuum_tasks.capture.pins.client import Pins
from continuum_tasks.capture.plan.transitions import CapturePhase
from continuum_tasks.capture.reader.follower import CommitFollower
from continuum_tasks.capture.shipping.shipper import SegmentShipper
from continuum_tasks.capture.state.environment import CaptureContext
from continuum_tasks.capture.state.status import CaptureState, CaptureStatus, write_status
from continuum_tasks.errors import ContinuumError

_log = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class StatusWriter:
    """The status of one capture, gathered from what does the work."""

    follower: CommitFollower
    shipper: SegmentShipper
    pins: Pins
    place: CaptureContext
    _said: CaptureStatus | None = field(default=None, init=False)
    _unsaid: str = field(default="", init=False)

    @property
    def state(self) -> CaptureState | None:
        """Return the state that was told last, None before the first."""
        return None if self._said is None else self._said.state

    def write(self, phase: CapturePhase, *, trouble: str) -> None:
        """Write the status if it is another one; where that fails, on a full disk, the last one grows old, and that shows.

        `trouble` is what fails of the commands that the capture needs.
        """
        try:
            status = self._status(phase, trouble)
            if self._said is None or status != replace(self._said, updated_us=status.updated_us):
                write_status(self.follower.directory, status)
                self._said = status
        except (ContinuumError, OSError) as err:
            if str(err) != self._unsaid:
                _log.warning("database %s: its status cannot be written: %s", self.follower.database, err)
            self._unsaid = str(err)

    def has_news(self, phase: CapturePhase) -> bool:
        """Tell whether something may have changed since the last status, without asking the disk."""
        said, found = self._said, self.follower.standing
        if said is None or found is None or phase.has_unspooled or self.shipper.seconds_until_due() is not None:
            return True
        looked = (found.commit, found.base_after, phase.settled_ns, self.shipper.durable_commit)
        return looked != (said.commit, said.base_after, said.settled_monotonic_ns, said.durable_commit)

    def _status(self, phase: CapturePhase, trouble: str) -> CaptureStatus:
        follower, found, shipped = self.follower, self.follower.standing, self.shipper.shipped
        spool = follower.spool()
        waiting = [] if spool is None else spool.waiting()
        wal_bytes = follower.source.wal_bytes()
        troubles = (phase.trouble, self.shipper.trouble, trouble)
        return CaptureStatus(
            database=follower.database,
            state=phase.state,
            detail=phase.detail,
            trouble="; ".join(part for part in troubles if part),
            worker=self.place.worker,
            storage=follower.storage,
            timeline="" if found is None else found.timeline.id,
            commit=0 if found is None else found.commit,
            observed_us=0 if found is None else found.observed_us,
            durable_commit=self.shipper.durable_commit,
            watched_until_us=follower.times.watched_until_us,
            settled_monotonic_ns=phase.settled_ns,
            lag_seconds=shipped.lag(1.0),
            lag_p50_seconds=shipped.lag(0.5),
            lag_p95_seconds=shipped.lag(0.95),
            wal_bytes=wal_bytes,
            wal_alarm=wal_bytes > self.place.capture.wal_alarm_bytes,
            spool_bytes=sum(one.size_bytes for one in waiting),
            spool_segments=len(waiting),
            n_pins=self.pins.count(follower.source.path),
            n_holes=follower.n_holes,
            base_after=0 if found is None else found.base_after,
            shipped_bytes=shipped.n_bytes,
            n_requests=shipped.n_requests,
            source="" if found is None else found.source,
            updated_us=self.place.now_us(),
            durable_us=self.shipper.durable_us,
        )
