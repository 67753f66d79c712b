"""Capture many databases in one process, woken by the kernel when one of them changes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from continuum_tasks.capture.descriptors import Capacity
from continuum_tasks.capture.file_events import Events
from continuum_tasks.capture.follow_ups import JobRunner
from continuum_tasks.capture.pins.client import Pins, PinsLost
from continuum_tasks.capture.state.environment import CaptureContext, make_private_directory
from continuum_tasks.capture.state.requests import REQUESTS
from continuum_tasks.capture.state.status import CaptureHeartbeat, write_heartbeat
from continuum_tasks.capture.supervisor import CaptureSupervisor, WantedCapture
from continuum_tasks.errors import ContinuumError

N_SHIPPERS = 4
RECONCILE_SECONDS = 2.0
HEARTBEAT_SECONDS = 5.0
LONGEST_WAIT_SECONDS = 1.0
TAILS_SECONDS = 5.0
_log = logging.getLogger(__name__)


class Agent:
    """The captures of one host. `wanted` says which databases they are, now; `runner_for` who does what one of them needs.

    No more databases than `capacity` carries are captured at a time; each further one is refused by name, and harms no other.
    """

    def __init__(
        self,
        wanted: Callable[[], Sequence[WantedCapture]],
        *,
        place: CaptureContext,
        runner_for: Callable[[str], JobRunner],
        capacity: Capacity,
    ) -> None:
        self._wanted = wanted
        self._capacity = capacity
        self._place = place
        self._runner_for = runner_for
        self._requests = make_private_directory(place.directory / REQUESTS)
        self._pins = Pins()
        self._events = Events()
        self._watches: dict[WantedCapture, CaptureSupervisor] = {}
        self._warned: set[str] = set()
        self._reconcile_at = self._heartbeat_at = 0.0

    def run(self, stopped: Callable[[], bool]) -> None:
        """Capture until told to stop; then make durable and ship what there is, and let everything go."""
        self._start_pins()
        try:
            with ThreadPoolExecutor(N_SHIPPERS, thread_name_prefix="ship") as executor:
                try:
                    while not stopped():
                        self._turn(executor)
                finally:  # before what is being shipped is waited for
                    for watch in self._watches.values():
                        watch.close(detail="stopped")
            self._ship_tails()
        finally:
            self._events.close()
            self._pins.close()

    def _ship_tails(self) -> None:
        """Ship what the end made durable while a thread was still at work; what takes longer waits for the next capture."""
        until = self._place.clock.monotonic() + TAILS_SECONDS
        for watch in self._watches.values():
            if self._place.clock.monotonic() < until:
                watch.ship_tail()

    def _turn(self, executor: ThreadPoolExecutor) -> None:
        now = self._place.clock.monotonic()
        if now >= self._reconcile_at:
            self._reconcile_at = now + RECONCILE_SECONDS
            self._reconcile()
        waits = [watch.seconds_until_due() for watch in self._watches.values()]
        changed = self._events.wait(min([LONGEST_WAIT_SECONDS, *waits]))
        for watch in self._watches.values():
            watch.touched(changed)
            self._step(watch, executor)
        if now >= self._heartbeat_at:
            self._heartbeat_at = now + HEARTBEAT_SECONDS
            self._beat()

    def _step(self, watch: CaptureSupervisor, executor: ThreadPoolExecutor) -> None:
        try:
            watch.step(executor)
        except PinsLost as err:
            _log.warning("%s; it is started again", err)
            for each in self._watches.values():
                each.lost_pins()
            self._start_pins()
        except (ContinuumError, OSError) as err:  # its files cannot be written: what is held stays held, and is tried again
            self._warn(f"database {watch.wanted.database}: {err}")

    def _start_pins(self) -> None:
        """Start the process that holds pins; where the system has no room for it, the next step of a capture does."""
        try:
            self._pins.start()
        except OSError as err:
            self._warn(f"the process that holds logs cannot be started ({err.strerror}); trying again")

    def _beat(self) -> None:
        """Say that this process is alive; where that cannot be written, others take it for stopped."""
        place, carried = self._place, self._capacity.n_databases
        try:
            write_heartbeat(place.directory, CaptureHeartbeat(worker=place.worker, at_us=place.now_us(), n_databases=carried))
        except ContinuumError as err:
            self._warn(err.message)

    def _reconcile(self) -> None:
        """Begin with databases that are wanted now, and end the capture of those that are not."""
        try:
            wanted = set(self._wanted())
        except (ContinuumError, OSError) as err:  # somebody is editing the configuration: what is captured goes on
            self._warn(f"{err}; what is captured goes on")
            return
        for gone in self._watches.keys() - wanted:
            self._watches.pop(gone).close(detail="not wanted any more")
        for new in sorted(wanted - self._watches.keys(), key=lambda one: one.database):
            try:
                runner = self._runner_for(new.database)
                self._watches[new] = CaptureSupervisor(new, pins=self._pins, place=self._place, runner=runner)
            except (ContinuumError, OSError) as err:  # one that cannot begin keeps no other from being captured
                self._warn(f"database {new.database}: its capture cannot begin: {err}")
        self._refuse_more()
        self._events.watch(_directories(self._watches.values(), self._requests))

    def _refuse_more(self) -> None:
        """Capture those that were wanted first; the next takes the place of one that is not wanted any more."""
        n_files, n_databases = self._capacity.n_files, self._capacity.n_databases
        why = f"{n_files} open files carry the capture of {n_databases} databases: raise LimitNOFILE (`ulimit -Hn`)"
        for number, watch in enumerate(self._watches.values()):
            watch.refuse(why if number >= n_databases else "")
            if number >= n_databases:
                self._warn(f"database {watch.wanted.database}: is not captured: {why}")

    def _warn(self, text: str) -> None:
        """Log what is tried again every few seconds once, not each time."""
        if text not in self._warned:
            self._warned.add(text)
            _log.warning(text)


def _directories(watches: Iterable[CaptureSupervisor], requests: Path) -> list[Path]:
    return [requests, *{watch.wanted.path.parent for watch in watches}]
