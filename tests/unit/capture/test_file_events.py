"""What the kernel says of changes reaches who waits for it."""

from __future__ import annotations

import time
from pathlib import Path

from continuum_tasks.capture.file_events import Events


def comes(events: Events, path: Path) -> bool:
    """Write to a file until its event comes, or for some seconds."""
    for number in range(20):
        path.write_text(str(number))
        if path in events.wait(0.3):
            return True
    return False


def test_a_directory_that_was_put_in_the_place_of_another_is_watched(tmp_path: Path) -> None:
    """As when a disk is mounted again: without events each commit would wait for the look that comes every ten seconds."""
    events, directory = Events(), tmp_path / "data"
    directory.mkdir()
    try:
        events.watch([directory])
        assert comes(events, directory / "a")
        directory.rename(tmp_path / "old")
        directory.mkdir()
        events.watch([directory])
        time.sleep(0.3)
        events.wait(0.3)
        assert comes(events, directory / "b")
    finally:
        events.close()


def test_what_is_no_directory_is_left_out(tmp_path: Path) -> None:
    events = Events()
    (tmp_path / "file").write_text("")
    events.watch([tmp_path / "file", tmp_path / "nothing", tmp_path / ("x" * 300)])
    assert events.wait(0.1) == frozenset()
    events.close()
