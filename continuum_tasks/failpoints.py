"""Named points where a test may kill, stall or fail this process; unarmed they cost one dict lookup.

The shells arm them from `CONTINUUM_FAILPOINTS="name=kill,other=raise,third=sleep:2"`. `list_failpoints` names the
durable steps of create and restore in order, so a test can walk all of them.
"""

from __future__ import annotations

import os
import signal
import time

from continuum_tasks.errors import ConfigError, StorageUnreachable

CREATE = (
    "create.locked",
    "create.staged",
    "create.digested",
    "create.chunk_put",
    "create.chunks_put",
    "create.before_manifest",
    "create.after_manifest",
    "create.catalogued",
)
RESTORE = (
    "restore.begun",
    "restore.temp_created",
    "restore.chunk_written",
    "restore.chunks_written",
    "restore.proven",
    "install.intent_written",
    "install.old_folded",
    "install.old_quarantined",
    "install.sidecars_gone",
    "install.renamed",
    "install.directory_synced",
    "install.checked",
)
EXPIRE = (
    "expire.locked",
    "expire.planned",
    "expire.before_backup",
    "expire.manifest_deleted",
    "expire.backup_deleted",
    "expire.swept",
)
SYNTHESIZE = (
    "synthesize.begun",
    "synthesize.assembled",
    "synthesize.chunks_put",
    "synthesize.proven",
    "synthesize.before_manifest",
    "synthesize.after_manifest",
    "synthesize.old_deleted",
)
ONLINE = ("online.locked", "online.written", "online.replaced_kept", "online.committed")
SEGMENTS = ("expire.segment_deleted",)
COMPACT = (
    "compact.locked",
    "compact.merged_put",
    "compact.read_back",
    "compact.part_deleted",
)
METADATA = ("metadata.migrated", "metadata.versioned")

_armed: dict[str, str] = {}


def arm(text: str) -> None:
    """Arm points from `name=action[,name=action]`; actions: kill, raise, sleep:SECONDS. Raises ConfigError on others."""
    for part in filter(None, text.split(",")):
        name, _, action = part.partition("=")
        known = name in CREATE + RESTORE + EXPIRE + SYNTHESIZE + ONLINE + SEGMENTS + COMPACT + METADATA
        if not known or not (action in ("kill", "raise") or action.startswith("sleep:")):
            raise ConfigError(f"failpoint {part!r} is not known", hint="use name=kill, name=raise or name=sleep:SECONDS")
        _armed[name] = action


def reach(name: str) -> None:
    """Do what was armed for this point: nothing unless a test asked for it."""
    action = _armed.get(name)
    if action is None:
        return
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if action == "raise":
        raise StorageUnreachable(f"failpoint {name}", hint="armed by CONTINUUM_FAILPOINTS")
    time.sleep(float(action.removeprefix("sleep:")))
