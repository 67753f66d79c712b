"""Learn from the kernel which files changed, without looking at any of them."""

from __future__ import annotations

import queue
import stat
import threading
from collections.abc import Iterable
from pathlib import Path

import watchfiles

_STEP_MILLISECONDS = 50  # between two looks at what the kernel said: how late an event may come, and how often we wake up
_GATHER_MILLISECONDS = 100


class Events:
    """Changes in directories, as a queue of paths. One kernel watch serves any number of directories."""

    def __init__(self) -> None:
        self._found: queue.SimpleQueue[frozenset[Path]] = queue.SimpleQueue()
        self._directories: dict[Path, tuple[int, int]] = {}
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def watch(self, directories: Iterable[Path]) -> None:
        """Watch exactly these directories from now on; those that are not there are left out.

        One that has been put in the place of another is watched anew: the kernel goes on with the old one.
        """
        found = {directory: _identity(directory) for directory in directories}
        wanted = {directory: identity for directory, identity in found.items() if identity is not None}
        if wanted == self._directories and self._thread is not None and self._thread.is_alive():
            return
        self.close()
        self._directories, self._stop = wanted, threading.Event()
        if wanted:
            self._thread = threading.Thread(target=self._follow, args=(tuple(wanted), self._stop), name="events", daemon=True)
            self._thread.start()

    def wait(self, seconds: float) -> frozenset[Path]:
        """Return the paths that changed, waiting so long for the first; empty when none did."""
        try:
            found = self._found.get(timeout=max(0.0, seconds))
        except queue.Empty:
            return frozenset()
        while True:
            try:
                found |= self._found.get_nowait()
            except queue.Empty:
                return found

    def close(self) -> None:
        """Stop watching."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self._directories = {}

    def _follow(self, directories: tuple[Path, ...], stop: threading.Event) -> None:
        changes = watchfiles.watch(
            *directories,
            watch_filter=None,
            debounce=_GATHER_MILLISECONDS,
            step=_STEP_MILLISECONDS,
            stop_event=stop,
            rust_timeout=1000,
            yield_on_timeout=False,
            raise_interrupt=False,
            recursive=False,
            ignore_permission_denied=True,
        )
        for some in changes:
            self._found.put(frozenset(Path(path) for _, path in some))


def _identity(directory: Path) -> tuple[int, int] | None:
    """Return device and inode, None where no directory can be looked at: not there, on a disk that fails, closed to us."""
    try:
        status = directory.stat()
    except OSError:
        return None
    return (status.st_dev, status.st_ino) if stat.S_ISDIR(status.st_mode) else None
