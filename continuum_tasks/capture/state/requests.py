"""Ask the capture of a database to look now, or to let go of it for a while.

A request is a file in a directory that the capturing process watches. One that asks to let go names the process that asked:
when that is gone, it counts no more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from continuum_tasks.capture.state.environment import CAPTURE, make_private_directory, write_file
from continuum_tasks.capture.state.status import CaptureState, CaptureStatus, read_status
from continuum_tasks.errors import TargetBusy
from continuum_tasks.process import holder_died, worker_id

REQUESTS = "_requests"  # no database is called so
_LET_GO = (CaptureState.RELEASED, CaptureState.STOPPED, CaptureState.FENCED)
PATIENCE = 200  # looks at whether it was done; with pauses of 50 ms that is ten seconds


def requests(state_dir: Path) -> Path:
    """Return the directory of the requests of one host."""
    return make_private_directory(state_dir / CAPTURE / REQUESTS)


def ask_to_look(state_dir: Path, database: str) -> None:
    """Ask the capture to look at the database now."""
    write_file(requests(state_dir) / f"{database}.look", b"", durable=False)


def is_asked_to_let_go(directory: Path, database: str) -> bool:
    """Tell whether a living process asks for it; `directory` is the one of the requests. A dead one's request is removed."""
    path = directory / f"{database}.release"
    try:
        worker = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return False
    if worker and holder_died(worker):
        path.unlink(missing_ok=True)
        return False
    return True


@contextmanager
def capture_released(state_dir: Path, database: str, *, host: str, pause: Callable[[], None]) -> Iterator[None]:
    """Have the capture of a database hold nothing of it meanwhile; nothing is to be done where none runs.

    Afterwards it begins again, on a new timeline when the file is another one. Raises TargetBusy when it does not let go.
    """
    status = read_status(state_dir, database)
    if status is None or status.state is CaptureState.STOPPED:
        yield
        return
    path = requests(state_dir) / f"{database}.release"
    write_file(path, worker_id(host).encode(), durable=False)
    try:
        _await_release(state_dir, database, pause)
        yield
    finally:
        path.unlink(missing_ok=True)
        ask_to_look(state_dir, database)


def _await_release(state_dir: Path, database: str, pause: Callable[[], None]) -> None:
    found: CaptureStatus | None = None
    for _ in range(PATIENCE):
        found = read_status(state_dir, database)
        # One that holds nothing yet may be about to: what counts is that it has read the request, or can read none.
        if found is None or found.state in _LET_GO or holder_died(found.worker):
            return
        pause()
    if found is not None and found.n_pins:
        raise TargetBusy(
            f"database {database}: its capture does not release it ({found.detail})",
            hint="stop it: `continuum backup capture stop`, or end `continuum up`",
        )
