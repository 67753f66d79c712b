"""The proof of a capture: what a live database held is compared, and a state that is not whole makes no backup fail."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from continuum_tasks.capture.compare_live import prove_capture
from continuum_tasks.capture.follow_ups import JobEnd
from continuum_tasks.capture.proof import DIGESTS, PROOF, LiveState
from continuum_tasks.errors import BackupNotFound
from continuum_tasks.host.job_kinds import PROVE_CAPTURE, ProveCapture
from continuum_tasks.host.jobs import JobState
from continuum_tasks.layer.format import DIGEST_BYTES, digests_of
from continuum_tasks.model import TimelineId
from continuum_tasks.repository.documents import to_json
from continuum_tasks.runtime import Runtime
from tests.support.capturing import PATIENT, a_host, capturing, settled, status
from tests.support.processes import environment, until
from tests.support.sandbox import Sandbox, back_up
from workers.capture import runner_of
from workers.follow_ups import ChildRunner

WORK = ProveCapture(database="main", storage="local")


@pytest.fixture
def captured(tmp_path: Path) -> Sandbox:
    """A database of which an increment was made of captured commits, and whose last state waits to be compared."""
    sandbox = a_host(tmp_path / "h1")
    with capturing(sandbox.config):
        assert until(lambda: settled(sandbox), seconds=PATIENT), status(sandbox)
        with closing(sqlite3.connect(sandbox.database, isolation_level=None)) as service:
            _insert(sandbox, service)
            back_up(sandbox, "incremental")
            _insert(sandbox, service)
    with closing(sqlite3.connect(sandbox.database)) as service:
        service.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    found = status(sandbox)
    assert found is not None
    data, page_size = sandbox.database.read_bytes(), 4096
    _put(
        sandbox,
        digests_of(data, page_size),
        LiveState(
            timeline=TimelineId(found.timeline),
            commit=found.commit,
            page_size=page_size,
            n_pages=len(data) // page_size,
            proven_commit=0,
        ),
    )
    return sandbox


def _insert(sandbox: Sandbox, service: sqlite3.Connection) -> None:
    before = status(sandbox)
    assert before is not None
    service.execute("INSERT INTO notes (text) VALUES (hex(randomblob(9000)))")
    assert until(lambda: _commit(sandbox) == before.commit + 1 and settled(sandbox), seconds=PATIENT), status(sandbox)


def _commit(sandbox: Sandbox) -> int:
    found = status(sandbox)
    return 0 if found is None else found.commit


def _directory(sandbox: Sandbox) -> Path:
    return sandbox.config.state_dir / "capture" / "main"


def _put(sandbox: Sandbox, digests: bytes, state: LiveState) -> None:
    """As capture does: a new file each time."""
    directory = _directory(sandbox)
    for name in (PROOF, DIGESTS):
        (directory / name).unlink(missing_ok=True)
    (directory / DIGESTS).write_bytes(digests)
    (directory / PROOF).write_text(json.dumps(to_json(state)))


def _state(sandbox: Sandbox) -> LiveState:
    said = json.loads((_directory(sandbox) / PROOF).read_text())
    return LiveState(**said)


@pytest.fixture
def runtime(captured: Sandbox) -> Iterator[Runtime]:
    with captured.runtime() as opened:
        yield opened


def _done_by_child(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> JobEnd:
    for name, value in environment(runtime.config).items():
        monkeypatch.setenv(name, value)
    runner = runner_of(runtime, "main")
    try:
        runner.start(WORK, force=False)
        ends: list[JobEnd] = []
        assert until(lambda: _ended(runner, ends), seconds=PATIENT)
    finally:
        runner.close()
    return ends[0]


def _ended(runner: ChildRunner, ends: list[JobEnd]) -> bool:
    end = runner.ended()
    ends.extend([] if end is None else [end])
    return bool(ends)


def _usable(runtime: Runtime) -> list[bool]:
    return [backup.failed_at is None for backup in runtime.catalog.backups(database="main", storage="local")]


def test_a_job_row_has_the_live_database_compared_and_only_a_difference_makes_increments_fail(
    captured: Sandbox, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _done_by_child(runtime, monkeypatch) == JobEnd(is_same=True)
    (job,) = runtime.jobs.ended(PROVE_CAPTURE.word, database="main", limit=10)
    assert job.state is JobState.DONE and all(_usable(runtime))
    found = bytearray((_directory(captured) / DIGESTS).read_bytes())
    found[DIGEST_BYTES] ^= 1
    _put(captured, bytes(found), _state(captured))
    assert _done_by_child(runtime, monkeypatch) == JobEnd(is_same=False)
    assert sorted(_usable(runtime)) == [False, True]


@pytest.mark.parametrize("kept", [None, 0, DIGEST_BYTES, -1], ids=["gone", "empty", "one page", "cut short"])
def test_digests_that_are_not_whole_are_no_difference(
    captured: Sandbox, runtime: Runtime, monkeypatch: pytest.MonkeyPatch, kept: int | None
) -> None:
    path = _directory(captured) / DIGESTS
    if kept is None:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:kept])
    end = _done_by_child(runtime, monkeypatch)
    assert end.is_same is None and "the state changed meanwhile" in end.error
    assert all(_usable(runtime))


def _is_gone(sandbox: Sandbox) -> None:
    for name in (PROOF, DIGESTS):
        (_directory(sandbox) / name).unlink()


def _is_read_anew(sandbox: Sandbox) -> None:
    """The new one is not whole yet, so no note names it."""
    size = (_directory(sandbox) / DIGESTS).stat().st_size
    _is_gone(sandbox)
    (_directory(sandbox) / DIGESTS).write_bytes(b"\1" * size)


def _is_another(sandbox: Sandbox) -> None:
    state, size = _state(sandbox), (_directory(sandbox) / DIGESTS).stat().st_size
    _put(sandbox, b"\1" * size, replace(state, commit=state.commit + 1))


@pytest.mark.parametrize("changes", [_is_gone, _is_read_anew, _is_another])
def test_a_state_that_changes_while_it_is_compared_makes_no_backup_fail(
    captured: Sandbox, runtime: Runtime, changes: Callable[[Sandbox], None]
) -> None:
    wrong = b"\2" * (_directory(captured) / DIGESTS).stat().st_size  # what is compared differs, whenever it was opened
    _put(captured, wrong, _state(captured))
    steps = prove_capture(runtime.config.database("main"), repository=runtime.repository("local"), site=runtime.site)
    next(steps)
    changes(captured)
    with pytest.raises(BackupNotFound, match="the state changed meanwhile"):
        list(steps)
    assert all(_usable(runtime))
