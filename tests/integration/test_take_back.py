"""A backup that fails leaves nothing behind that fills the storage, and never touches what may be another run's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from continuum_tasks.assembly.fan_out import Fan
from continuum_tasks.backup import create
from continuum_tasks.errors import StorageFull
from continuum_tasks.model import Strategy
from continuum_tasks.runtime import finish
from continuum_tasks.tasks.executor import backup_request
from tests.integration import beside as b
from tests.integration.beside import Shape, beside
from tests.support.sandbox import Sandbox, back_up, listed, make, objects


class Filling:
    """A fan-out whose storage is full after two chunks; `first` is done then."""

    def __init__(self, fan: Fan, *, first: Any = None) -> None:
        self._fan = fan
        self._first = first

    def run(self, kind: str, units: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        yield from self._fan.run(kind, units[:2])
        if self._first is not None:
            self._first()
        raise StorageFull("storage local: no space left on device")


@pytest.fixture
def sandbox(tmp_path: Path) -> Sandbox:
    made = make(tmp_path / "c")
    beside(b.create, made.database, Shape(journal="wal", page_size=4096), seed=1)
    beside(b.script, made.database, "CREATE TABLE more(x)", "INSERT INTO more VALUES (randomblob(400000))")
    return made


def chunks_stored(sandbox: Sandbox) -> set[str]:
    return set(objects(sandbox, "layers/"))


def fail(sandbox: Sandbox, strategy: str, *, first: Any = None) -> None:
    with sandbox.runtime() as runtime:
        request = backup_request(runtime, database="", strategy=Strategy(strategy))
        fan, repository = Filling(runtime.fan(), first=first), runtime.repository(request.database.storage)
        with pytest.raises(StorageFull):
            finish(create.create_backup(request, repository=repository, site=runtime.site, fan=fan, check_lease=lambda: None))


@pytest.mark.parametrize("strategy", ["full", "incremental"])
def test_a_backup_that_does_not_fit_gives_back_the_room_it_took(sandbox: Sandbox, strategy: str) -> None:
    """It is tried again every few minutes: what each try left would keep even a small increment out for a day."""
    back_up(sandbox)
    before = chunks_stored(sandbox)
    beside(b.script, sandbox.database, "INSERT INTO more VALUES (randomblob(400000))")

    fail(sandbox, strategy)

    assert chunks_stored(sandbox) == before
    assert len(listed(sandbox)) == 1
    assert back_up(sandbox, strategy).id in {found.id for found in listed(sandbox)}


def test_a_backup_that_is_stopped_gives_back_the_room_it_took(sandbox: Sandbox) -> None:
    """Ctrl-C closes the action in the middle."""
    with sandbox.runtime() as runtime:
        request = backup_request(runtime, database="", strategy=Strategy.FULL)
        repository, site = runtime.repository(request.database.storage), runtime.site
        with closing(
            create.create_backup(request, repository=repository, site=site, fan=runtime.fan(), check_lease=lambda: None)
        ) as run:
            while next(run).n_bytes == 0:
                pass
            assert chunks_stored(sandbox)
    assert chunks_stored(sandbox) == set()


def test_a_run_that_lost_its_lock_deletes_nothing(sandbox: Sandbox) -> None:
    fail(sandbox, "full", first=lambda: [path.unlink() for path in objects(sandbox, "locks/main/").values()])
    assert len(chunks_stored(sandbox)) == 2
