"""Processes for tests: where they run, with what environment, and how long one waits for them."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import psutil

from continuum_tasks.config import Config

ROOT = Path(__file__).resolve().parent.parent.parent


def until(claim: Callable[[], bool], *, seconds: float = 180.0) -> bool:
    """Wait for something to become true; False when it did not in time: the limit is for what never comes."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if claim():
            return True
        time.sleep(0.05)
    return claim()


def environment(config: Config, **more: str) -> dict[str, str]:
    search = os.environ.get("PYTHONPATH")
    path = f"{ROOT}:{search}" if search else str(ROOT)
    return {**os.environ, "CONTINUUM_CONFIG_DIR": str(config.directory), "PYTHONPATH": path, **more}


def such(processes: Iterable[psutil.Process], wanted: Callable[[psutil.Process], bool]) -> list[psutil.Process]:
    """Return those that live and are `wanted`; one that goes while it is asked does not live."""
    found = []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE and wanted(process):
                found.append(process)
    return found
