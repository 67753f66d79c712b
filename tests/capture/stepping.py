"""`workers.capture` with a wall clock that a test can move, by the seconds in the file `clock-offset` beside backup.conf."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from continuum_tasks.capture.agent import Agent
from continuum_tasks.capture.descriptors import Capacity
from continuum_tasks.capture.supervisor import WantedCapture
from continuum_tasks.clock import Clock
from continuum_tasks.config import load_config
from continuum_tasks.runtime import open_runtime
from workers.capture import place_of, runner_of


def run(directory: Path) -> None:
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())

    def now() -> datetime:
        return datetime.now(UTC) + timedelta(seconds=float((directory / "clock-offset").read_text()))

    with open_runtime(load_config(directory)) as runtime:
        database = runtime.config.database("")
        wanted: Sequence[WantedCapture] = [
            WantedCapture(database=database.name, storage=database.storage, path=database.path.resolve())
        ]
        place = replace(place_of(runtime), clock=Clock(now=now, monotonic=time.monotonic))
        runner_for = partial(runner_of, runtime)
        Agent(lambda: wanted, place=place, runner_for=runner_for, capacity=Capacity(n_files=1024)).run(stop.is_set)


if __name__ == "__main__":
    run(Path(os.environ["CONTINUUM_CONFIG_DIR"]))
