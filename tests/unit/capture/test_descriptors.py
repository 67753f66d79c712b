"""Whatever fails, and however often: a database has two pins at most, and once it is repaired all goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from continuum_tasks.capture.descriptors import EACH
from continuum_tasks.capture.plan.continuity import Continuity
from continuum_tasks.capture.reader.follower import Lost
from continuum_tasks.capture.state.environment import write_file
from continuum_tasks.capture.state.progress import STANDING
from continuum_tasks.errors import ConfigError, ContinuumError
from tests.support.service import Service
from tests.unit.capture import held
from tests.unit.capture.conftest import Setting
from tests.unit.capture.following import Away, begun, commits, insert

N_ROUNDS = 8
Problem = Callable[[Setting], AbstractContextManager[None]]


@contextmanager
def away(path: Path) -> Iterator[None]:
    """Have something else bear the name."""
    kept = path.with_name(f"{path.name}.kept")
    path.rename(kept)
    try:
        yield
    finally:
        kept.rename(path)


@contextmanager
def unwritable(path: Path) -> Iterator[None]:
    """Have a directory bear the name of a file that is written: so it cannot be, not by root either."""
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir()
    try:
        yield
    finally:
        path.rmdir()


@contextmanager
def storage_away(setting: Setting) -> Iterator[None]:
    repository = setting.place.repository("here")
    storage, repository.storage = repository.storage, Away()
    repository.storage.away = True
    try:
        yield
    finally:
        repository.storage = storage


def state_unwritable(setting: Setting) -> AbstractContextManager[None]:
    return unwritable(setting.place.directory / "memory" / STANDING)


def part_unremovable(setting: Setting) -> AbstractContextManager[None]:
    return unwritable(setting.place.directory / "memory" / f".{STANDING}.part")


def index_away(setting: Setting) -> AbstractContextManager[None]:
    return away(setting.path.with_name("memory.db-shm"))


def database_away(setting: Setting) -> AbstractContextManager[None]:
    return away(setting.path)


@contextmanager
def no_room(setting: Setting) -> Iterator[None]:
    """More waits in the spool than it may hold."""
    (spool,) = (setting.place.directory / "memory" / "spool").iterdir()
    with (spool / "9999999999.segment").open("wb") as file:
        file.truncate(setting.place.capture.spool_limit_bytes + 1)
    try:
        yield
    finally:
        (spool / "9999999999.segment").unlink()


ROTATIONS: list[Problem] = [state_unwritable, part_unremovable, index_away, database_away, no_room]
BEGINNINGS: list[Problem] = [state_unwritable, part_unremovable, storage_away, database_away]


@pytest.mark.parametrize("problem", ROTATIONS)
def test_a_rotation_that_fails_leaves_one_pin_and_goes_on_once_it_is_repaired(
    setting: Setting, service: Service, problem: Problem
) -> None:
    insert(service, 1)
    follower = begun(setting)
    with problem(setting):
        for _ in range(N_ROUNDS):
            insert(service, 1)
            with pytest.raises((ContinuumError, OSError, Lost)):
                follower.rotate()
            assert held.pins(setting.path) == 1
    insert(service, 1)
    follower.rotate()
    assert held.pins(setting.path) == setting.pins.count(setting.path) == 1
    assert len(held.opened(setting.path)) <= EACH
    assert [commit.number for commit in commits(follower, setting)] == list(range(1, N_ROUNDS + 3))


@pytest.mark.parametrize("problem", BEGINNINGS)
def test_a_beginning_that_fails_holds_nothing_and_begins_once_it_is_repaired(
    setting: Setting, service: Service, problem: Problem
) -> None:
    """Nor does the process that was to copy the state."""
    insert(service, 1)
    follower = setting.follower()
    with problem(setting):
        for _ in range(N_ROUNDS):
            with pytest.raises((ContinuumError, OSError)):
                follower.begin(watched_until_us=0)
            assert held.opened(setting.path) == [] and len(held.holders()) == 1
    assert follower.begin(watched_until_us=0) is not None
    assert [commit.number for commit in commits(follower, setting)] == [1]


def test_a_state_that_cannot_be_copied_ends_no_capture(setting: Setting, service: Service) -> None:
    """A backup then reads the database instead."""
    insert(service, 1)
    setting.place.temp_dir.write_bytes(b"no directory")
    follower = setting.follower()
    assert follower.begin(watched_until_us=0) is not None
    assert follower.holds and not follower.base.busy and held.pins(setting.path) == 1


def test_a_state_that_was_copied_is_held_no_longer(setting: Setting, service: Service) -> None:
    """Even where nobody comes to see: its capture may be waiting for something else."""
    insert(service, 1)
    follower = setting.follower()
    follower.begin(watched_until_us=0)
    follower.let_go()
    deadline = time.monotonic() + 60
    while held.pins(setting.path):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_hole_that_could_not_be_written_down_is_declared_by_the_next_try(setting: Setting, service: Service) -> None:
    """The first try took the file's stamp; were that kept, the second would take the file for the one it had followed."""
    follower = begun(setting)  # of a database that has no log yet
    follower.let_go()
    insert(service, 3)
    service.close()  # all is copied back and the log is gone: nobody saw it
    insert(service, 1)
    with state_unwritable(setting), pytest.raises(ConfigError):
        follower.begin(watched_until_us=0)
    judgement = follower.begin(watched_until_us=0)
    assert judgement is not None and judgement.verdict is Continuity.HOLE
    assert follower.n_holes == 1


def test_descriptors_of_a_database_that_is_held_for_long_are_no_more_than_are_counted_for_it(
    setting: Setting, service: Service
) -> None:
    follower = begun(setting)
    for _ in range(N_ROUNDS):
        insert(service, 1)
        follower.rotate()
        with setting.pins.still(setting.path):
            assert held.pins(setting.path) == 2
            setting.pins.advance(setting.path)
        assert held.pins(setting.path) == 1 and len(held.opened(setting.path)) <= EACH


def test_a_file_that_cannot_be_written_nor_removed_is_an_error_that_capture_knows(tmp_path: Path) -> None:
    with unwritable(tmp_path / ".status.json.part"), pytest.raises(ConfigError, match=r"status\.json"):
        write_file(tmp_path / "status.json", b"{}", durable=False)
