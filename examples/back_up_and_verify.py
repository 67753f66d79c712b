"""Back up, prove the backup by a test restore, and show how far it is: python examples/back_up_and_verify.py [CONFIG_DIR]"""

from __future__ import annotations

import sys

from continuum_tasks.api import make_backup, open_installation, verify_stored
from continuum_tasks.errors import ContinuumError
from continuum_tasks.model import Progress


def show(progress: Progress) -> None:
    print(f"  {progress.phase}: {progress.n_bytes} of {progress.total_bytes} bytes", file=sys.stderr)


try:
    with open_installation(sys.argv[1] if len(sys.argv) > 1 else None, on_progress=show) as installation:
        made = make_backup(installation)
        verdict = verify_stored(installation, made)
        print(f"{made.id}: {verdict.level} passed in {verdict.duration_seconds:.1f} s, {len(verdict.row_counts)} tables")
except ContinuumError as err:
    sys.exit(f"{err.message}\n{err.hint}")
