"""Decide what a capture does when something happens: one table of events and states. Pure: no files, no clock, no threads.

In the live states (waiting, running, journal, released) an event leads to the same whichever of them it is, but for a look
that is asked for, which only a rollback-journal database waits for. A fenced capture ends, or begins anew once its fence is
removed; nothing else moves it. A stopped one does nothing any more.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from continuum_tasks.capture.state.status import CaptureState

RETRY_SECONDS = 1.0
REFUSED_SECONDS = 5.0  # until a file that cannot be captured is looked at again: somebody has to do something first
SETTLE_SECONDS = 1.0  # after files were changed without SQLite: who copied one may be copying the next
LONGEST_RETRY_SECONDS = 30.0
LIMIT_PAUSE_SECONDS = 10.0  # after letting go of a log that was too large: time for it to be restarted
JOURNAL_PAUSE_SECONDS = 15.0  # between two backups of a rollback-journal database that changes all the time


class CaptureEvent(StrEnum):
    """What happens to a capture; where a detail comes with it, the text says what that is."""

    FOLLOWED = "the log is held and followed: why it goes on as it does"
    JOURNAL_FOUND = "the database is not in WAL mode: its journal mode"
    BEGIN_FAILED = "it cannot be held: the error"
    STORAGE_FAILED = "the storage in which a timeline is to begin fails: the error"
    SOURCE_REFUSED = "the file cannot be captured as it is: the error and its remedy"
    TRANSACTION_TOO_LARGE = "a transaction is larger than can be read: the error"
    LOG_LOST = "the log is not what it should be while it is held: what was found"
    BYPASSED = "the files were changed without SQLite: what was found"
    PROOF_FAILED = "what the database holds is not what was captured, or is not held any more: what was found"
    SOURCE_CHANGED = "the file became one that cannot be captured: the error"
    MOVED = "the file is reached by another name now: the error and its remedy"
    LOG_OVER_LIMIT = "the log is larger than it may become: its bytes"
    PINS_LOST = "the process that held the log ended"
    LOOK_REQUESTED = "somebody says that it is worth a look now"
    RELEASE_REQUESTED = "a restore asks for the database"
    REFUSED = "it may not be captured from now on: why"
    STILL_REFUSED = "it may still not be captured: why"
    ADMITTED = "it may be captured from now on"
    FENCED = "another host captures this timeline: the error"
    FENCE_REMOVED = "the fence was removed"
    STOPPED = "the capture ends: why"


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """What follows from an event: the next state, how long until it is begun again, and what is done before, in this order.

    `detail` is told with the state; `{}` in it is what came with the event, and None tells what was told before.
    `pause_seconds` None waits as long as the storage has to be left alone. `makes_durable`: what can be read still is read and
    spooled. `gives_up_mark`: what the log holds now is read by nobody, so a hole follows. `closes_copy`: a copy that is being
    made is given up. `lets_go`: nothing is held any more. `raises_fence`: the timeline is left to its other writer, until
    somebody removes the fence.
    """

    state: CaptureState
    detail: str | None = "{}"
    pause_seconds: float | None = 0.0
    makes_durable: bool = False
    gives_up_mark: bool = False
    closes_copy: bool = False
    lets_go: bool = False
    raises_fence: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CapturePhase:
    """How a capture stands: its state and why, what fails although it goes on, and why it may not be captured if so.

    `is_touched`: files changed since the last look. `has_unspooled`: commits may have come that are not durable on this host.
    `settled_ns` is the monotonic clock (nanoseconds) when the last look began all whose commits are durable here, 0 before.
    """

    state: CaptureState = CaptureState.WAITING
    detail: str = "begins"
    trouble: str = ""
    refused: str = ""
    is_touched: bool = True
    has_unspooled: bool = True
    settled_ns: int = 0

    def after(self, found: Transition, text: str) -> CapturePhase:
        """Return how it stands after a transition that an event with this text made."""
        return replace(
            self,
            state=found.state,
            detail=self.detail if found.detail is None else found.detail.format(text),
            trouble="" if found.lets_go else self.trouble,
        )


_WAIT = Transition(state=CaptureState.WAITING)
_LAPSE = replace(_WAIT, lets_go=True)
_GIVE_UP = replace(_LAPSE, gives_up_mark=True)
_STOP = Transition(state=CaptureState.STOPPED, lets_go=True)

_LIVE = {
    CaptureEvent.FOLLOWED: Transition(state=CaptureState.RUNNING),
    CaptureEvent.JOURNAL_FOUND: Transition(
        state=CaptureState.JOURNAL,
        detail="journal mode {}: backed up when it changes",
        pause_seconds=JOURNAL_PAUSE_SECONDS,
    ),
    CaptureEvent.BEGIN_FAILED: replace(_WAIT, pause_seconds=RETRY_SECONDS),
    CaptureEvent.STORAGE_FAILED: replace(_WAIT, pause_seconds=None),
    CaptureEvent.SOURCE_REFUSED: replace(_WAIT, pause_seconds=REFUSED_SECONDS),
    CaptureEvent.TRANSACTION_TOO_LARGE: _GIVE_UP,
    CaptureEvent.LOG_LOST: _LAPSE,
    CaptureEvent.BYPASSED: replace(_LAPSE, pause_seconds=SETTLE_SECONDS),
    CaptureEvent.PROOF_FAILED: replace(_LAPSE, pause_seconds=SETTLE_SECONDS),
    CaptureEvent.SOURCE_CHANGED: replace(_LAPSE, pause_seconds=LONGEST_RETRY_SECONDS),
    CaptureEvent.MOVED: replace(_GIVE_UP, pause_seconds=RETRY_SECONDS),
    CaptureEvent.LOG_OVER_LIMIT: replace(
        _LAPSE,
        detail="the log has {} bytes, more than wal_limit_bytes: released",
        pause_seconds=LIMIT_PAUSE_SECONDS,
        closes_copy=True,
    ),
    CaptureEvent.PINS_LOST: replace(_LAPSE, detail="the process that held the log ended", pause_seconds=0.1),
    CaptureEvent.RELEASE_REQUESTED: Transition(
        state=CaptureState.RELEASED,
        detail="released for a restore",
        pause_seconds=0.2,
        makes_durable=True,
        closes_copy=True,
        lets_go=True,
    ),
    CaptureEvent.REFUSED: _LAPSE,
    CaptureEvent.STILL_REFUSED: _WAIT,
    CaptureEvent.ADMITTED: replace(_LAPSE, detail="begins"),
    CaptureEvent.FENCED: Transition(state=CaptureState.FENCED, lets_go=True, raises_fence=True),
    CaptureEvent.STOPPED: _STOP,
}
_FENCED = {
    CaptureEvent.FENCE_REMOVED: replace(_WAIT, detail="begins anew"),
    CaptureEvent.STOPPED: _STOP,
}
TABLE: dict[CaptureState, dict[CaptureEvent, Transition]] = {
    CaptureState.WAITING: _LIVE,
    CaptureState.RUNNING: _LIVE,
    CaptureState.JOURNAL: _LIVE | {CaptureEvent.LOOK_REQUESTED: Transition(state=CaptureState.JOURNAL, detail=None)},
    CaptureState.RELEASED: _LIVE,
    CaptureState.FENCED: _FENCED,
    CaptureState.STOPPED: {},
}
"""What each event leads to in each state; one that is not there leads to nothing."""


def transition(state: CaptureState, event: CaptureEvent) -> Transition | None:
    """Return what follows from an event in a state, None where nothing does."""
    return TABLE[state].get(event)
