"""Have the capture of a database let go of its file while something is put in its place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from continuum_tasks.actions.site import Site
from continuum_tasks.capture import restored
from continuum_tasks.capture.place import CAPTURE
from continuum_tasks.capture.release import REQUESTS, released
from continuum_tasks.capture.status import read_status
from continuum_tasks.capture.walfile import Source
from continuum_tasks.errors import ContinuumError, JobFailed


@contextmanager
def uncaptured(target: Path, *, site: Site) -> Iterator[None]:
    """Keep captures off `target` meanwhile; afterwards its capture begins a new timeline. Raises TargetBusy.

    A file that nothing captures, as one that is not there, needs nobody to let go.
    """
    database = _captured_as(target, site=site)
    if database is None:
        yield
        return
    with released(site.state_dir, database, host=site.host, pause=lambda: site.pause(0)):
        yield


@contextmanager
def on_new_timeline(target: Path, *, site: Site) -> Iterator[None]:
    """As `uncaptured`, for what writes another state into the same file: its capture, also a later one, is told.

    An error raised inside means that nothing was written, but JobFailed: then that is not known. Raises TargetBusy.
    """
    database = _captured_as(target, site=site)
    if database is None:
        yield
        return
    directory = site.state_dir / CAPTURE / database
    with released(site.state_dir, database, host=site.host, pause=lambda: site.pause(0)):
        restored.note(directory)
        try:
            yield
        except JobFailed:
            raise
        except ContinuumError:
            restored.forget(directory)
            raise


def _captured_as(target: Path, *, site: Site) -> str | None:
    """Return the name of the database whose capture holds this very file."""
    identity = Source(path=target).identity()
    directory = site.state_dir / CAPTURE
    if not identity or not directory.is_dir():
        return None
    names = [entry.name for entry in directory.iterdir() if entry.is_dir() and entry.name != REQUESTS]
    for name in names:
        status = read_status(site.state_dir, name)
        if status is not None and status.source == identity:
            return name
    return None
