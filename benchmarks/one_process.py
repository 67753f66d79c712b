"""python -m benchmarks.one_process CONFIG init DATABASE STORAGE | full | incremental | restore TARGET

Does one thing as the command line does it without a broker, and prints the seconds of each phase as one line of JSON.
"""

from __future__ import annotations

import json
import secrets
import sys
import time
from collections.abc import Generator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from continuum_tasks.backup import create
from continuum_tasks.config import load_config
from continuum_tasks.model import Progress, Strategy
from continuum_tasks.restore import restore
from continuum_tasks.runtime import Runtime, open_runtime
from continuum_tasks.setup import init
from continuum_tasks.tasks.executor import backup_request


def main() -> int:
    """Do what the words say."""
    config_dir, verb, *paths = sys.argv[1:]
    if verb == "init":
        request = init.InitRequest(config_dir=Path(config_dir), database=Path(paths[0]), storage=paths[1])
        init.initialise(request, now=datetime.now(UTC), random_bytes=secrets.token_bytes)
        print("{}")
        return 0
    with open_runtime(load_config(Path(config_dir))) as runtime:
        action = _restore(runtime, Path(paths[0])) if verb == "restore" else _backup(runtime, verb)
        print(json.dumps(_phases(action)))
    return 0


def _backup(runtime: Runtime, strategy: str) -> Generator[Progress, None, Any]:
    request = backup_request(runtime, database="", strategy=Strategy(strategy))
    repository = runtime.repository(request.database.storage)
    return create.create_backup(request, repository=repository, site=runtime.site, fan=runtime.fan(), check_lease=lambda: None)


def _restore(runtime: Runtime, target: Path) -> Generator[Progress, None, Any]:
    newest = max(runtime.catalog.backups(), key=lambda backup: backup.created_at)
    request = restore.RestoreRequest(backup_id=newest.id, target=target, overwrite=False, verify=False)
    return restore.restore_backup(
        request, repository=runtime.repository(), site=runtime.site, fan=runtime.fan(), check_lease=lambda: None
    )


def _phases(action: Generator[Progress, None, Any]) -> dict[str, float]:
    seconds: dict[str, float] = {}
    phase, since = "begin", time.monotonic()
    for progress in action:
        now = time.monotonic()
        seconds[phase] = seconds.get(phase, 0.0) + now - since
        phase, since = progress.phase, now
    seconds[phase] = seconds.get(phase, 0.0) + time.monotonic() - since
    return {name: round(value, 3) for name, value in seconds.items()}


if __name__ == "__main__":
    sys.exit(main())
