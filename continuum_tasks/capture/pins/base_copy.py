"""A copy of the state that a timeline, or what follows a hole, begins with; a backup is made of it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from continuum_tasks.capture.pins.copier import Copier
from continuum_tasks.capture.state.environment import make_private_directory, write_file
from continuum_tasks.errors import ContinuumError
from continuum_tasks.model import TimelineId
from continuum_tasks.repository.documents import from_json, to_json
from continuum_tasks.sqlite.staging import check_space
from continuum_tasks.wal.format import IndexHeader

_NOTE = "base.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """A private copy of the state after commit `commit` of a timeline, `n_pages` pages, exact to the byte."""

    timeline: TimelineId
    commit: int
    path: str
    page_size: int
    n_pages: int
    observed_us: int


class BaseCopy:
    """The making of such a copy beside a capture; where it cannot be made, a backup reads the database instead."""

    def __init__(self, directory: Path, temp_dir: Path, *, random_bytes: Callable[[int], bytes]) -> None:
        self._directory = directory
        self._temp_dir = temp_dir
        self._name = f"capture-{hashlib.sha256(str(directory).encode()).hexdigest()[:12]}"
        self._random_bytes = random_bytes
        self._path = temp_dir / self._name
        self._copier: Copier | None = None
        self._base: Base | None = None
        self._first_page = b""

    @property
    def path(self) -> Path:
        """Return where the copy is made."""
        return self._path

    @property
    def busy(self) -> bool:
        return self._base is not None

    def hold(self, source: Path, read_index: Callable[[], IndexHeader]) -> IndexHeader | None:
        """Hold the state to be copied at a known position; None when that cannot be had."""
        self.close()
        # Under a name of its own: a backup may still be reading the one before, and must not go on in this one.
        self._path = self._temp_dir / f"{self._name}-{self._random_bytes(4).hex()}.db"
        try:
            make_private_directory(self._path.parent)
            check_space(self._path.parent, source.stat().st_size, name=str(source))
            self._copier = Copier(source, self._path)
        except (ContinuumError, OSError):
            return None
        found: IndexHeader | None = None
        try:
            found = self._copier.hold(read_index)
        finally:
            if found is None:
                self.close()
        return found

    def begin(self, base: Base, first_page: bytes) -> None:
        """Copy what is held. `first_page` replaces page 1, into which SQLite writes counters of its own.

        Where that cannot begin (no room, its process died), nothing is held any more and no copy is made.
        """
        if self._copier is None:
            return
        try:
            self._copier.begin()
        except OSError:
            self.close()
        else:
            self._base, self._first_page = base, first_page

    def step(self) -> str | None:
        """Finish the copy when it is done; returns why it failed, once, else None."""
        if self._copier is None or self._base is None:
            return None
        ended = self._copier.ended()
        if ended is None:
            return None
        base, self._base, self._copier = self._base, None, None
        problem = ended or self._wrong_size(base)
        if problem:
            self._path.unlink(missing_ok=True)
            return problem
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.pwrite(descriptor, self._first_page, 0)
        finally:
            os.close(descriptor)
        write_file(self._directory / _NOTE, json.dumps(to_json(base)).encode(), durable=False)
        return None

    def close(self) -> None:
        """Give up what is being made, and remove what was.

        What cannot be removed, on a disk that became read-only, say, keeps nobody waiting: the next call removes it.
        """
        if self._copier is not None:
            self._copier.close()
        self._copier = self._base = None
        with suppress(OSError):
            (self._directory / _NOTE).unlink(missing_ok=True)
        with suppress(OSError):
            for path in self._temp_dir.glob(f"{self._name}*"):  # also what a process that was killed has left
                path.unlink(missing_ok=True)

    def _wrong_size(self, base: Base) -> str:
        found, wanted = self._path.stat().st_size, base.n_pages * base.page_size
        return "" if found == wanted else f"the copy has {found} bytes where {wanted} were held"


def read_base(directory: Path) -> Base | None:
    """Return the copy that waits for a backup in the capture directory of a database, None when there is none."""
    try:
        found: Base = from_json(Base, json.loads((directory / _NOTE).read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return None
    return found if Path(found.path).is_file() else None
