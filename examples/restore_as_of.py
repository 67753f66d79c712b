"""Restore the state of a time to a new file: python examples/restore_as_of.py CONFIG_DIR 2026-11-27T14:30:00+00:00 TARGET"""

from __future__ import annotations

import sys
from datetime import datetime

from continuum_tasks.api import open_installation, preview_of_restore, restore_state, state_at

config_dir, when, target = sys.argv[1:]
with open_installation(config_dir) as installation:
    state = state_at(installation, datetime.fromisoformat(when))
    plan = preview_of_restore(installation, state, target)
    if plan.refused:
        sys.exit("; ".join(plan.refused))
    done = restore_state(installation, state, target)
    print(f"{done.target}: {done.size_bytes} bytes of {done.backup.id} in {done.seconds:.1f} s, every page proven")
