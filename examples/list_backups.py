"""List what can be restored: python examples/list_backups.py [CONFIG_DIR]"""

from __future__ import annotations

import sys

from continuum_tasks.api import open_installation, stored_backups

with open_installation(sys.argv[1] if len(sys.argv) > 1 else None) as installation:
    for backup in stored_backups(installation):
        verified = "verified" if backup.verified else "not verified"
        print(f"{backup.id}  {backup.created_at:%Y-%m-%d %H:%M:%S}  {backup.stored_size_bytes:>12} bytes  {verified}")
