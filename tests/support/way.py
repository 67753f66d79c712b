"""Run one action here and print which modules it enters: python -m tests.support.way CONFIG_DIR ACTION [ID TARGET].

A module is entered when one of its functions runs between the first step of the action and its result, in any thread.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Generator
from inspect import CO_OPTIMIZED
from pathlib import Path
from types import FrameType
from typing import Any

from continuum_tasks.backup.create import create_backup
from continuum_tasks.config import load_config
from continuum_tasks.model import BackupId, Strategy
from continuum_tasks.restore.restore import RestoreRequest, restore_backup
from continuum_tasks.runtime import Runtime, finish, open_runtime
from continuum_tasks.tasks.executor import backup_request


def action(runtime: Runtime, verb: str, arguments: list[str]) -> Generator[Any, None, Any]:
    repository, site, fan = runtime.repository(), runtime.site, runtime.fan()
    if verb == "restore":
        wanted = RestoreRequest(backup_id=BackupId(arguments[0]), target=Path(arguments[1]), overwrite=False, verify=False)
        return restore_backup(wanted, repository=repository, site=site, fan=fan, check_lease=lambda: None)
    request = backup_request(runtime, database="", strategy=Strategy(verb))
    return create_backup(request, repository=repository, site=site, fan=fan, check_lease=lambda: None)


def entering(entered: set[str]) -> Callable[[FrameType, str, Any], None]:
    """Return a profiler that notes the modules of the product; the body of a module or class that is imported is no entry."""

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and frame.f_code.co_flags & CO_OPTIMIZED:
            name = frame.f_globals.get("__name__", "")
            if name.startswith("continuum_tasks."):
                entered.add(name.removeprefix("continuum_tasks."))

    return note


def main(directory: str, verb: str, *arguments: str) -> None:
    entered = set[str]()
    with open_runtime(load_config(Path(directory))) as runtime:
        steps = action(runtime, verb, list(arguments))
        threading.setprofile(entering(entered))
        sys.setprofile(entering(entered))
        try:
            done = finish(steps)
        finally:
            sys.setprofile(None)
            threading.setprofile(None)
    json.dump({"id": done.backup.id, "modules": sorted(entered)}, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
