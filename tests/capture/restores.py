"""Run `continuum backup restore --commit` again and again in one process: it reads `TIMELINE COMMIT TARGET` lines.

Each is answered by the exit code: a process per restore would spend most of its time on imports.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

from continuum_tasks.cli.main import run_command

if __name__ == "__main__":
    for line in sys.stdin:
        timeline, number, target = line.split()
        with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
            code = run_command(["backup", "restore", "--commit", number, "--timeline", timeline, "--target", target, "--local"])
        print(code, flush=True)
