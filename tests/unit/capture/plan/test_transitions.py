"""What a capture does when something happens: every event in every state, without threads, files or a clock."""

from __future__ import annotations

from itertools import product

import pytest

from continuum_tasks.capture.plan.transitions import CaptureEvent, CapturePhase, Transition, transition
from continuum_tasks.capture.state.status import CaptureState

E, S = CaptureEvent, CaptureState
LIVE = (S.WAITING, S.RUNNING, S.JOURNAL, S.RELEASED)
MARK, COPY, PINS = "the mark", "the copy", "the pins"
# event: the next state, what is told with "x", the pause in seconds (None: as long as the storage is left alone), what goes
WHILE_LIVE: dict[CaptureEvent, tuple[CaptureState, str, float | None, set[str]]] = {
    E.FOLLOWED: (S.RUNNING, "x", 0.0, set()),
    E.JOURNAL_FOUND: (S.JOURNAL, "journal mode x: backed up when it changes", 15.0, set()),
    E.BEGIN_FAILED: (S.WAITING, "x", 1.0, set()),
    E.STORAGE_FAILED: (S.WAITING, "x", None, set()),
    E.SOURCE_REFUSED: (S.WAITING, "x", 5.0, set()),
    E.TRANSACTION_TOO_LARGE: (S.WAITING, "x", 0.0, {MARK, PINS}),
    E.LOG_LOST: (S.WAITING, "x", 0.0, {PINS}),
    E.BYPASSED: (S.WAITING, "x", 1.0, {PINS}),
    E.PROOF_FAILED: (S.WAITING, "x", 1.0, {PINS}),
    E.SOURCE_CHANGED: (S.WAITING, "x", 30.0, {PINS}),
    E.MOVED: (S.WAITING, "x", 1.0, {MARK, PINS}),
    E.LOG_OVER_LIMIT: (S.WAITING, "the log has x bytes, more than wal_limit_bytes: released", 10.0, {COPY, PINS}),
    E.PINS_LOST: (S.WAITING, "the process that held the log ended", 0.1, {PINS}),
    E.RELEASE_REQUESTED: (S.RELEASED, "released for a restore", 0.2, {COPY, PINS}),
    E.REFUSED: (S.WAITING, "x", 0.0, {PINS}),
    E.STILL_REFUSED: (S.WAITING, "x", 0.0, set()),
    E.ADMITTED: (S.WAITING, "begins", 0.0, {PINS}),
    E.FENCED: (S.FENCED, "x", 0.0, {PINS}),
    E.STOPPED: (S.STOPPED, "x", 0.0, {PINS}),
}
EXPECTED = {(state, event): row for state, (event, row) in product(LIVE, WHILE_LIVE.items())} | {
    (S.JOURNAL, E.LOOK_REQUESTED): (S.JOURNAL, "before", 0.0, set()),
    (S.FENCED, E.FENCE_REMOVED): (S.WAITING, "begins anew", 0.0, set()),
    (S.FENCED, E.STOPPED): (S.STOPPED, "x", 0.0, {PINS}),
}
WHILE_NOTHING_IS_HELD = {E.BEGIN_FAILED, E.STORAGE_FAILED, E.SOURCE_REFUSED, E.JOURNAL_FOUND, E.STILL_REFUSED}


def gone(found: Transition) -> set[str]:
    said = ((MARK, found.gives_up_mark), (COPY, found.closes_copy), (PINS, found.lets_go))
    return {what for what, is_gone in said if is_gone}


@pytest.mark.parametrize(("state", "event"), list(product(CaptureState, CaptureEvent)), ids=lambda one: one.name)
def test_every_event_in_every_state_leads_where_the_table_says(state: CaptureState, event: CaptureEvent) -> None:
    found, expected = transition(state, event), EXPECTED.get((state, event))

    if found is None or expected is None:
        assert (found, expected) == (None, None)
        return
    after = CapturePhase(state=state, detail="before").after(found, "x")
    assert (after.state, after.detail, found.pause_seconds, gone(found)) == expected
    assert found.makes_durable is (event is E.RELEASE_REQUESTED)
    assert found.raises_fence is (event is E.FENCED)


def test_who_does_not_run_any_more_holds_nothing() -> None:
    """A pin that stayed would keep the log of the service growing, and nobody would read it."""
    for event in set(CaptureEvent) - WHILE_NOTHING_IS_HELD:
        found = transition(S.RUNNING, event)
        assert found is None or found.state is S.RUNNING or found.lets_go


@pytest.mark.parametrize("event", sorted(set(CaptureEvent) - {E.FENCE_REMOVED, E.STOPPED}), ids=lambda one: one.name)
def test_a_fenced_capture_stays_fenced_whatever_else_happens(event: CaptureEvent) -> None:
    """Two hosts that write one timeline would each take the other's commits for its own."""
    assert transition(S.FENCED, event) is None


def test_a_stopped_capture_never_goes_on() -> None:
    assert not any(transition(S.STOPPED, event) for event in CaptureEvent)


def test_from_every_state_but_stopped_a_capture_can_come_to_run_again() -> None:
    reached = {S.RUNNING}
    for _ in CaptureState:
        steps = ((state, transition(state, event)) for state, event in product(CaptureState, CaptureEvent))
        reached |= {state for state, found in steps if found is not None and found.state in reached}
    assert reached == set(CaptureState) - {S.STOPPED}


def test_what_failed_is_forgotten_with_what_is_let_go() -> None:
    phase = CapturePhase(trouble="the spool is full")
    kept, lost = transition(S.RUNNING, E.STILL_REFUSED), transition(S.RUNNING, E.LOG_LOST)
    assert kept is not None and lost is not None
    assert (phase.after(kept, "x").trouble, phase.after(lost, "x").trouble) == ("the spool is full", "")


def test_what_comes_with_an_event_is_told_as_it_is() -> None:
    found = transition(S.WAITING, E.BEGIN_FAILED)
    assert found is not None
    assert CapturePhase().after(found, "{0} {braces}").detail == "{0} {braces}"
