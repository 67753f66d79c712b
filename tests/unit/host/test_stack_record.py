"""The record of the stack: true for as long as the process lives, however it ends."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from continuum_tasks.errors import LockError
from continuum_tasks.host.stack_record import hold_stack_record, mark_ready, running_stack, stop_stack
from continuum_tasks.process import worker_id

HOLD = """
import signal, sys, time
from pathlib import Path
from continuum_tasks.host.stack_record import hold_stack_record, mark_ready
if sys.argv[2] == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
with hold_stack_record(Path(sys.argv[1]), host="h1") as record:
    mark_ready(record)
    print("held", flush=True)
    time.sleep(600)
"""


@contextmanager
def holder(state_dir: Path, how: str) -> Iterator[subprocess.Popen[str]]:
    words = [sys.executable, "-c", HOLD, str(state_dir), how]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def test_a_stack_is_found_by_its_process_starting_and_then_ready(tmp_path: Path) -> None:
    assert running_stack(tmp_path) is None
    with hold_stack_record(tmp_path, host="a host/with a slash") as record:
        found = running_stack(tmp_path)
        assert found is not None and (found.worker, found.ready) == (worker_id("a host/with a slash"), False)
        mark_ready(record)
        assert running_stack(tmp_path) == replace(found, ready=True)
    assert running_stack(tmp_path) is None


def test_a_killed_one_is_gone_at_once(tmp_path: Path) -> None:
    with holder(tmp_path, "listens") as process:
        found = running_stack(tmp_path)
        assert found is not None and (found.pid, found.ready) == (process.pid, True)
        process.kill()
        process.wait()
        assert running_stack(tmp_path) is None
        assert stop_stack(found, timeout_seconds=0), "already ended"


def test_one_that_listens_ends_and_one_that_does_not_is_reported(tmp_path: Path) -> None:
    with holder(tmp_path, "listens"):
        found = running_stack(tmp_path)
        assert found is not None and stop_stack(found, timeout_seconds=60)
    with holder(tmp_path, "deaf") as process:
        found = running_stack(tmp_path)
        assert found is not None and not stop_stack(found, timeout_seconds=0.2)
        assert process.poll() is None


def test_one_of_another_container_is_not_signalled(tmp_path: Path) -> None:
    with holder(tmp_path, "listens") as process:
        found = running_stack(tmp_path)
        assert found is not None
        host, boot, _, pid, started = found.worker.rsplit("/", 4)
        with pytest.raises(LockError, match="another container"):
            stop_stack(replace(found, worker=f"{host}/{boot}/1/{pid}/{started}"), timeout_seconds=0)
        assert process.poll() is None
