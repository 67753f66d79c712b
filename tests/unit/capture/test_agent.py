"""Many databases in one process: what is wrong with one keeps no other from being captured."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from continuum_tasks.capture.agent import Agent
from continuum_tasks.capture.descriptors import EACH, SPARE, Capacity
from continuum_tasks.capture.plan.transitions import TABLE, CaptureEvent
from continuum_tasks.capture.state.progress import STANDING
from continuum_tasks.capture.state.requests import ask_to_look, capture_released
from continuum_tasks.capture.state.status import HEARTBEAT, STATUS, CaptureState, read_heartbeat, read_status
from continuum_tasks.capture.supervisor import WantedCapture
from continuum_tasks.errors import ConfigError
from tests.support.service import Service, make
from tests.unit.capture import held
from tests.unit.capture.conftest import Listed, Setting
from workers.capture import _Wanted

pytestmark = pytest.mark.slow

Eventually = Callable[[Callable[[], bool]], None]


@contextmanager
def running(setting: Setting, *wanted: WantedCapture, n_files: int = 1024) -> Iterator[None]:
    with running_what(setting, lambda: wanted, n_files=n_files):
        yield


@contextmanager
def running_what(setting: Setting, wanted: Callable[[], Sequence[WantedCapture]], *, n_files: int = 1024) -> Iterator[None]:
    stop = threading.Event()
    capacity = Capacity(n_files=n_files)
    agent = Agent(wanted, place=setting.place, runner_for=lambda _: Listed(), capacity=capacity)
    thread = threading.Thread(target=agent.run, args=(stop.is_set,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def a_database(name: str, path: Path) -> WantedCapture:
    return WantedCapture(database=name, storage="here", path=path)


def state_of(setting: Setting, name: str) -> CaptureState | None:
    found = read_status(setting.place.directory.parent, name)
    return None if found is None else found.state


def commit_of(setting: Setting, name: str) -> int:
    found = read_status(setting.place.directory.parent, name)
    return 0 if found is None else found.commit


def test_one_whose_standing_is_damaged_keeps_no_other_from_being_captured(
    setting: Setting, service: Service, eventually: Eventually, tmp_path: Path
) -> None:
    make(tmp_path / "other.db")
    (setting.place.directory / "damaged").mkdir(parents=True)
    (setting.place.directory / "damaged" / STANDING).write_text("{")
    wanted = (a_database("damaged", tmp_path / "other.db"), a_database("memory", setting.path))
    with running(setting, *wanted):
        eventually(lambda: state_of(setting, "memory") is CaptureState.RUNNING)
        assert read_heartbeat(setting.place.directory.parent) is not None and state_of(setting, "damaged") is None
    assert state_of(setting, "memory") is CaptureState.STOPPED


def test_one_whose_directory_is_not_there_waits_and_the_others_are_captured(
    setting: Setting, service: Service, eventually: Eventually, tmp_path: Path
) -> None:
    wanted = (a_database("gone", tmp_path / "nowhere" / "gone.db"), a_database("memory", setting.path))
    with running(setting, *wanted):
        eventually(lambda: state_of(setting, "memory") is CaptureState.RUNNING)
        eventually(lambda: state_of(setting, "gone") is CaptureState.WAITING)


def test_one_that_is_switched_to_wal_mode_is_captured_at_once_when_it_is_said(
    setting: Setting, service: Service, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    for row in TABLE.values():
        if CaptureEvent.JOURNAL_FOUND in row:
            patient = replace(row[CaptureEvent.JOURNAL_FOUND], pause_seconds=3600.0)
            monkeypatch.setitem(row, CaptureEvent.JOURNAL_FOUND, patient)
    service.run("PRAGMA journal_mode = delete")
    with running(setting, a_database("memory", setting.path)):
        eventually(lambda: state_of(setting, "memory") is CaptureState.JOURNAL)
        service.run("PRAGMA journal_mode = wal")
        ask_to_look(setting.place.directory.parent, "memory")
        eventually(lambda: state_of(setting, "memory") is CaptureState.RUNNING)


def test_a_configuration_that_is_away_for_a_moment_is_an_error_that_capture_knows(tmp_path: Path) -> None:
    """The agent goes on with what it captures: anything else would end it, and with it every pin."""
    wanted: Callable[[], Sequence[WantedCapture]] = _Wanted(tmp_path)
    with pytest.raises(ConfigError, match=r"backup\.conf"):
        wanted()


def put_directory(name: Path) -> None:
    """Put a directory where a file is that the agent may write again in any instant."""
    for _ in range(1000):
        name.unlink(missing_ok=True)
        with suppress(FileExistsError):
            name.mkdir()
            return
    raise AssertionError(name)


def test_a_state_directory_that_cannot_be_written_ends_no_capture(
    setting: Setting, service: Service, eventually: Eventually
) -> None:
    """A full disk: the pins hold what comes, and when there is room again nothing is missing."""
    names = [setting.place.directory / one for one in (f"memory/{STANDING}", f"memory/{STATUS}", HEARTBEAT)]
    with running(setting, a_database("memory", setting.path)):
        eventually(lambda: state_of(setting, "memory") is CaptureState.RUNNING)
        found = read_status(setting.place.directory.parent, "memory")
        assert found is not None
        for name in names:
            put_directory(name)
        service.run(*(f"INSERT INTO t(x) VALUES ({n})" for n in range(5)))
        until = time.monotonic() + 6 * setting.place.capture.interval_seconds
        while time.monotonic() < until:
            assert held.pins(setting.path) <= 2 and len(held.opened(setting.path)) <= EACH
            time.sleep(0.05)
        for name in names:
            name.rmdir()
        service.run("INSERT INTO t(x) VALUES (6)")
        eventually(lambda: commit_of(setting, "memory") == found.commit + 6)
    closed = read_status(setting.place.directory.parent, "memory")
    assert closed is not None and (closed.timeline, closed.n_holes) == (found.timeline, 0)


def test_one_whose_directory_cannot_even_be_looked_at_waits_and_the_others_are_captured(
    setting: Setting, service: Service, eventually: Eventually, tmp_path: Path
) -> None:
    """Any error of the system: here the name is too long, elsewhere a disk fails or a directory is closed to this user."""
    wanted = (a_database("odd", tmp_path / ("x" * 300) / "odd.db"), a_database("memory", setting.path))
    with running(setting, *wanted):
        eventually(lambda: state_of(setting, "memory") is CaptureState.RUNNING)
        before = commit_of(setting, "memory")
        service.run("INSERT INTO t(x) VALUES (1)")
        eventually(lambda: commit_of(setting, "memory") == before + 1)


def test_a_process_that_holds_pins_and_dies_again_and_again_is_replaced_by_one(
    setting: Setting, service: Service, eventually: Eventually
) -> None:
    setting.pins.close()  # the agent has its own
    with running(setting, a_database("memory", setting.path)):
        eventually(lambda: state_of(setting, "memory") is CaptureState.RUNNING and len(held.holders()) == 1)
        for n in range(3):
            for process in held.holders():
                process.kill()
            before = commit_of(setting, "memory")
            service.run(f"INSERT INTO t(x) VALUES ({n})")
            eventually(lambda before=before: commit_of(setting, "memory") > before)  # type: ignore[misc]
            eventually(lambda: held.pins(setting.path) == 1)
    assert held.holders() == []


def test_a_database_beyond_what_the_open_files_carry_is_refused_by_name_until_there_is_room(
    setting: Setting, service: Service, eventually: Eventually, tmp_path: Path
) -> None:
    make(tmp_path / "other.db")
    wanted = [a_database("memory", setting.path), a_database("zebra", tmp_path / "other.db")]
    with running_what(setting, lambda: wanted, n_files=SPARE + EACH):
        eventually(lambda: state_of(setting, "memory") is CaptureState.RUNNING)
        eventually(lambda: state_of(setting, "zebra") is CaptureState.WAITING)
        refused = read_status(setting.place.directory.parent, "zebra")
        assert refused is not None and refused.n_pins == 0
        assert "carry the capture of 1 databases: raise LimitNOFILE" in refused.detail
        del wanted[0]
        eventually(lambda: state_of(setting, "zebra") is CaptureState.RUNNING)
        assert state_of(setting, "memory") is CaptureState.STOPPED


def test_a_database_that_is_refused_keeps_no_restore_waiting(setting: Setting, eventually: Eventually, tmp_path: Path) -> None:
    make(tmp_path / "other.db")
    wanted = [a_database("memory", setting.path), a_database("zebra", tmp_path / "other.db")]
    state_dir = setting.place.directory.parent
    with running_what(setting, lambda: wanted, n_files=SPARE + EACH):
        eventually(lambda: state_of(setting, "zebra") is CaptureState.WAITING)
        with capture_released(state_dir, "zebra", host="h1", pause=lambda: time.sleep(0.05)):
            pass
        time.sleep(2 * setting.place.capture.interval_seconds)
        eventually(lambda: state_of(setting, "zebra") is CaptureState.WAITING)
