"""Bring deleted rows back into the live database: python examples/bring_back_rows.py CONFIG_DIR DATABASE_FILE TABLE WHERE"""

from __future__ import annotations

import sys
from pathlib import Path

from continuum_tasks.api import RowQuery, RowTarget, newest_state, open_installation, write_rows

config_dir, database, table, where = sys.argv[1:]
with open_installation(config_dir) as installation:
    rows = RowQuery(table=table, where=where)
    done = write_rows(installation, newest_state(installation), rows, RowTarget(path=Path(database)))
    assert done.brought is not None
    print(f"{done.brought.n_inserted} of {done.n_rows} rows inserted; writers waited {done.brought.locked_seconds:.3f} s")
