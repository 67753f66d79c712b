"""capture/events.py: learn from the kernel which files changed, without looking at any of them."""

from __future__ import annotations

import queue
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
        self._directories: frozenset[Path] = frozenset()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def watch(self, directories: Iterable[Path]) -> None:
        """Watch exactly these directories from now on; those that are not there are left out."""
        wanted = frozenset(directory for directory in directories if _is_there(directory))
        if wanted == self._directories and self._thread is not None and self._thread.is_alive():
            return
        self.close()
        self._directories, self._stop = wanted, threading.Event()
        if wanted:
            self._thread = threading.Thread(target=self._follow, args=(wanted, self._stop), name="events", daemon=True)
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

    def wake(self) -> None:
        """Let `wait` return at once."""
        self._found.put(frozenset())

    def close(self) -> None:
        """Stop watching."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self._directories = frozenset()

    def _follow(self, directories: frozenset[Path], stop: threading.Event) -> None:
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


def _is_there(directory: Path) -> bool:
    try:
        return directory.is_dir()
    except OSError:  # on a disk that fails, or not to be seen by this user
        return False
