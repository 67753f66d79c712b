"""Have the capture of a database let go of its file while something is put in its place; before that, refuse what can be.

Each time a capture lets go there may be a hole: what is refused must not cost one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from continuum_tasks.capture.reader.wal_files import CaptureFiles
from continuum_tasks.capture.state import restored
from continuum_tasks.capture.state.environment import CAPTURE
from continuum_tasks.capture.state.requests import REQUESTS, capture_released
from continuum_tasks.capture.state.status import read_heartbeat, read_status
from continuum_tasks.errors import ContinuumError, JobFailed
from continuum_tasks.host.site import HostContext
from continuum_tasks.process import parent_of, pid_of, seen_from_this_process
from continuum_tasks.restore.install.install import Recovered, recover
from continuum_tasks.restore.install.target import check_target, prove_unused, refuse_holders, refuse_shared
from continuum_tasks.sqlite.holders import Holder, holders
from continuum_tasks.sqlite.raw import record_path


@contextmanager
def capture_paused(target: Path, *, site: HostContext) -> Iterator[None]:
    """Keep captures off `target` meanwhile; afterwards its capture begins a new timeline. Raises TargetBusy.

    A file that nothing captures, as one that is not there, needs nobody to let go. It is a courtesy, and no proof: whoever
    has the file open all the same, ours or not, makes the restore be refused, or is kept out by the guard (ADR 8).
    """
    database = _captured_as(target, site=site)
    if database is None:
        yield
        return
    with capture_released(site.state_dir, database, host=site.host, pause=lambda: site.pause(0)):
        yield


def settle_install(target: Path, *, site: HostContext) -> Recovered | None:
    """Finish or undo a killed install of this target, its capture off it meanwhile; None where there is none."""
    if not os.path.lexists(record_path(target)):
        return None
    with capture_paused(target, site=site):
        return recover(target)


def refuse_early(target: Path, *, overwrite: bool, need_bytes: int, site: HostContext) -> None:
    """Refuse a target as `refuse_shared` and `check_target` do, or in use by others than its capture; changes nothing.

    A database that is captured is proven unused only by the install: until then its capture goes on.
    """
    refuse_shared(target, accepted=site.accepts(target))
    path = check_target(target, overwrite=overwrite, need_bytes=need_bytes).path
    if _captured_as(path, site=site) is None:
        prove_unused(path)
    else:
        refuse_holders(path, other_users(path, site=site))


def other_users(path: Path, *, site: HostContext) -> tuple[Holder, ...]:
    """Return who has a file open, without its capture, which lets go when it is to be replaced.

    A capture in another container cannot be told from others by its number: then nobody is named.
    """
    found = holders(path.stat())
    heartbeat = read_heartbeat(site.state_dir) if _captured_as(path, site=site) is not None else None
    if heartbeat is None:
        return found
    if not seen_from_this_process(heartbeat.worker):
        return ()
    capture = pid_of(heartbeat.worker)
    return tuple(one for one in found if capture not in (one.pid, parent_of(one.pid)))


@contextmanager
def on_new_timeline(target: Path, *, site: HostContext) -> Iterator[None]:
    """As `capture_paused`, for what writes another state into the same file: its capture, also a later one, is told.

    An error raised inside means that nothing was written, but JobFailed: then that is not known. Raises TargetBusy.
    """
    database = _captured_as(target, site=site)
    if database is None:
        yield
        return
    directory = site.state_dir / CAPTURE / database
    with capture_released(site.state_dir, database, host=site.host, pause=lambda: site.pause(0)):
        restored.note(directory)
        try:
            yield
        except JobFailed:
            raise
        except ContinuumError:
            restored.forget(directory)
            raise


def _captured_as(target: Path, *, site: HostContext) -> str | None:
    """Return the name of the database whose capture holds this very file."""
    identity = CaptureFiles(path=target).identity()
    directory = site.state_dir / CAPTURE
    if not identity or not directory.is_dir():
        return None
    names = [entry.name for entry in directory.iterdir() if entry.is_dir() and entry.name != REQUESTS]
    for name in names:
        status = read_status(site.state_dir, name)
        if status is not None and status.source == identity:
            return name
    return None
