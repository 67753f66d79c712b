"""One action in a process of its own, with failpoints armed: python -m tests.support.act CONFIG_DIR backup STRATEGY ..."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from continuum_tasks import failpoints
from continuum_tasks.config import load_config
from continuum_tasks.errors import ContinuumError
from tests.support.sandbox import Sandbox, back_up, restore_to


def main(directory: str, verb: str, *arguments: str) -> int:
    failpoints.arm(os.environ.get("CONTINUUM_FAILPOINTS", ""))
    config = load_config(Path(directory))
    store = config.storage("").path
    assert store is not None
    sandbox = Sandbox(config=config, store=store)
    try:
        if verb == "backup":
            result = {"id": str(back_up(sandbox, arguments[0]).id)}
        else:
            result = {"target": restore_to(sandbox, arguments[0], Path(arguments[1]), overwrite=True).target}
    except ContinuumError as err:
        sys.stdout.write(json.dumps({"error": type(err).__name__, "message": err.message}))
        return err.exit_code
    sys.stdout.write(json.dumps({"result": result}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
