from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from continuum_tasks.capture.follow_ups import JobEnd
from continuum_tasks.capture.pins.client import Pins
from continuum_tasks.capture.reader.follower import CommitFollower
from continuum_tasks.capture.state.environment import CaptureContext
from continuum_tasks.clock import Clock
from continuum_tasks.config import BackupSettings, CaptureSettings
from continuum_tasks.host.job_kinds import JobArguments
from continuum_tasks.keyring import generate_key, open_keyring
from continuum_tasks.process import worker_id
from continuum_tasks.repository.repository import Repository
from continuum_tasks.storage.memory import MemoryStorage
from tests.support.service import Service, make, serving

BEGUN_AT = datetime(2026, 11, 1, 12, tzinfo=UTC)


@dataclass(slots=True)
class Time:
    """A clock that goes on by itself and can be set."""

    offset: timedelta = timedelta()

    def now(self) -> datetime:
        return datetime.now(UTC) + self.offset


@dataclass(slots=True)
class Setting:
    """A database, its service, and all that a capture of it needs."""

    path: Path
    storage: MemoryStorage
    place: CaptureContext
    time: Time
    pins: Pins
    followers: list[CommitFollower] = field(default_factory=list)

    def follower(self, **capture: int) -> CommitFollower:
        """Return a capture of the database; what was captured before is found on the disk."""
        place = replace(self.place, capture=replace(self.place.capture, **capture))
        self.followers.append(CommitFollower("memory", "here", self.path, pins=self.pins, place=place))
        return self.followers[-1]


@dataclass(slots=True)
class Listed:
    """A runner that does nothing: it lists what it was to do, and a job ends when a test says how."""

    started: list[tuple[JobArguments, bool]] = field(default_factory=list)
    busy: bool = False
    end: JobEnd | None = None

    def start(self, work: JobArguments, *, force: bool) -> None:
        self.started.append((work, force))
        self.busy = True

    def ended(self) -> JobEnd | None:
        end, self.end = self.end, None
        self.busy = self.busy and end is None
        return end

    def close(self) -> None:
        self.busy = False


@pytest.fixture
def setting(tmp_path: Path) -> Iterator[Setting]:
    path, storage, clock = tmp_path / "memory.db", MemoryStorage(), Time()
    make(path)
    generate_key(tmp_path / "keys", "k", random_bytes=secrets.token_bytes, now=BEGUN_AT)
    repository = Repository(storage, "here", keyring=open_keyring(tmp_path / "keys"), accept_unsigned=False)
    place = CaptureContext(
        host="h1",
        worker=worker_id("h1"),
        directory=tmp_path / "state" / "capture",
        temp_dir=tmp_path / "temp",
        backup=BackupSettings(encryption_key_id="k"),
        capture=CaptureSettings(),
        clock=Clock(now=clock.now, monotonic=time.monotonic),
        random_bytes=secrets.token_bytes,
        pause=lambda: time.sleep(0.001),
        repository=lambda _: repository,
    )
    pins = Pins()
    pins.start()
    setting = Setting(path=path, storage=storage, place=place, time=clock, pins=pins)
    try:
        yield setting
    finally:
        pins.close()
        for follower in setting.followers:
            follower.base.close()


@pytest.fixture
def service(setting: Setting) -> Iterator[Service]:
    with serving(setting.path) as service:
        yield service


@pytest.fixture
def eventually() -> Callable[[Callable[[], bool]], None]:
    def wait(holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 30
        while not holds():
            assert time.monotonic() < deadline, "it never came to be"
            time.sleep(0.02)

    return wait
