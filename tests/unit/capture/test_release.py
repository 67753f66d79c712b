"""Asking a capture to let go of its database."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from continuum_tasks.capture.state.requests import capture_released
from continuum_tasks.capture.state.status import CaptureState
from continuum_tasks.errors import TargetBusy
from tests.support.statuses import status, tell

NOW = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
BEGINS = status(NOW, state=CaptureState.WAITING, n_pins=0)


def test_a_capture_that_is_about_to_begin_is_awaited_as_well(tmp_path: Path) -> None:
    """It holds nothing now; without having read the request it would hold the file in the middle of a restore."""
    tell(tmp_path, BEGINS, heard_at=NOW)
    steps = iter([replace(BEGINS, state=CaptureState.RUNNING, n_pins=1), replace(BEGINS, state=CaptureState.RELEASED)])
    looks: list[CaptureState] = []

    def pause() -> None:
        found = next(steps)
        looks.append(found.state)
        tell(tmp_path, found, heard_at=NOW)

    with capture_released(tmp_path, "memory", host="h1", pause=pause):
        assert looks == [CaptureState.RUNNING, CaptureState.RELEASED]


def test_a_capture_that_does_not_answer_holds_the_restore_up_only_while_it_has_pins(tmp_path: Path) -> None:
    tell(tmp_path, BEGINS, heard_at=NOW)
    with capture_released(tmp_path, "memory", host="h1", pause=lambda: None):
        pass
    tell(tmp_path, replace(BEGINS, state=CaptureState.RUNNING, n_pins=1), heard_at=NOW)
    with (
        pytest.raises(TargetBusy, match="does not release"),
        capture_released(tmp_path, "memory", host="h1", pause=lambda: None),
    ):
        pass


def test_a_capture_whose_process_is_gone_is_not_awaited(tmp_path: Path) -> None:
    code = "from continuum_tasks.process import worker_id; print(worker_id('h1'))"
    gone = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    tell(tmp_path, replace(BEGINS, state=CaptureState.RUNNING, n_pins=1, worker=gone), heard_at=NOW)
    with capture_released(tmp_path, "memory", host="h1", pause=lambda: pytest.fail("it is not there any more")):
        pass
