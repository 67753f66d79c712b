"""What a capture tells others of this host in files: how it stands, until when it watched, and its holes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from continuum_tasks.capture import holes
from continuum_tasks.capture.files import make_directory
from continuum_tasks.capture.place import CAPTURE, microseconds
from continuum_tasks.capture.status import State, read_status
from continuum_tasks.plan.holes import Hole
from tests.unit.capture.statuses import WORKER, status, tell

AT = datetime(2026, 11, 23, 12, tzinfo=UTC)


@pytest.mark.parametrize(("seconds", "until"), [(5, 5), (20, 20), (21, 0), (-10, 0)])
def test_a_heartbeat_counts_only_while_the_database_itself_is_looked_at(tmp_path: Path, seconds: int, until: int) -> None:
    """A look that fails, as with a full disk, leaves the process alive: what it has not read must not count as watched."""
    tell(tmp_path, status(AT), heard_at=AT + timedelta(seconds=seconds))

    found = read_status(tmp_path, "memory")

    assert found is not None
    assert found.watched_until_us == microseconds(AT + timedelta(seconds=until))


def test_a_capture_whose_process_is_gone_is_stopped_and_watched_no_longer_than_it_said(tmp_path: Path) -> None:
    tell(tmp_path, status(AT, worker=f"{WORKER}0"), heard_at=AT + timedelta(seconds=5))

    found = read_status(tmp_path, "memory")

    assert found is not None
    assert (found.state, found.watched_until_us) == (State.STOPPED, microseconds(AT))


def test_holes_are_kept_in_order_and_not_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holes, "N_KEPT", 3)
    directory = make_directory(tmp_path / CAPTURE / "memory")
    assert holes.read_holes(tmp_path, "memory") == ()
    for n in range(5):
        holes.note(directory, Hole(timeline="t", commit=n, from_us=n, to_us=n + 1, reason="why"))

    assert [hole.commit for hole in holes.read_holes(tmp_path, "memory")] == [2, 3, 4]
    (directory / holes.HOLES).write_text("[{}")
    assert holes.read_holes(tmp_path, "memory") == ()
