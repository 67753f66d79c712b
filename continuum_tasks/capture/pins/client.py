"""Ask the process that holds pins (`pinner`) for them, and notice when it is gone."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from continuum_tasks.errors import SourceBusy, SourceRefused
from continuum_tasks.launch import own_command

WAL = "wal"
_PR_SET_PDEATHSIG = 1


class PinsLost(Exception):
    """The process that held the pins died: nothing is pinned any more."""


class Pins:
    """The pins of one process. Use it from one thread. Raises PinsLost when the process is gone; `start` makes a new one.

    A database has one pin, and two inside `renewed`: whatever fails there, one of the two is dropped as it is left.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._last_id = 0
        self._held: dict[Path, tuple[int, ...]] = {}  # oldest first

    def start(self) -> None:
        """Start the process, without any pin. Raises OSError when the system has no room for one: then none runs."""
        self.close()
        self._process = subprocess.Popen(  # noqa: S603 (our own program)
            own_command("continuum_tasks.capture.pins.process"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=ending_with(),
        )

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    def count(self, path: Path) -> int:
        """Return how many pins a database has."""
        return len(self._held.get(path, ()))

    def hold(self, path: Path) -> str:
        """Pin the database as it is now, and no other state of it; returns its journal mode, and only `wal` is pinned.

        Raises SourceBusy when SQLite cannot read it now, SourceRefused when pages of its log are not as in the file.
        """
        self.drop_all(path)
        return self._pin(path)

    @contextmanager
    def renewed(self, path: Path) -> Iterator[None]:
        """Pin the database as it is now, and drop the older pin once the block is done; where it fails, the new one.

        Raises SourceBusy when SQLite cannot read it now, SourceRefused as `hold` does; the older pin stays.
        """
        older = self._held.get(path, ())
        self._pin(path)
        fresh = self._held.get(path, ())[len(older) :]
        is_done = False
        try:
            yield
            is_done = True
        finally:
            self._drop(path, older if is_done and fresh else fresh)

    def drop_all(self, path: Path) -> None:
        """Drop every pin of a database."""
        self._drop(path, self._held.get(path, ()))

    def advance(self, path: Path) -> bool:
        """Have frames copied back and the only pin of a database replaced by a new one; True when all were copied back.

        All that the pin sees must have been read.
        """
        (old,) = self._held[path]
        self._last_id += 1
        answer = self._ask({"do": "advance", "path": str(path), "from": old, "id": self._last_id})
        if answer.get("pinned"):
            self._held[path] = (self._last_id,)
        return bool(answer.get("whole"))

    @contextmanager
    def still(self, path: Path) -> Iterator[bool]:
        """Keep everybody from committing to a database meanwhile, True when that worked; it is meant to last milliseconds."""
        answer = self._ask({"do": "still", "path": str(path)})
        try:
            yield "error" not in answer
        finally:
            self._ask({"do": "go"})

    def close(self) -> None:
        """End the process, and with it every pin."""
        self._held = {}
        if self._process is not None:
            assert self._process.stdin is not None and self._process.stdout is not None
            self._process.kill()
            self._process.wait()
            with suppress(BrokenPipeError):  # what was not sent any more
                self._process.stdin.close()
            self._process.stdout.close()
            self._process = None

    def _pin(self, path: Path) -> str:
        self._last_id += 1
        answer = self._ask({"do": "pin", "path": str(path), "id": self._last_id})
        if "error" in answer:
            raise SourceBusy(f"{path}: cannot be pinned ({answer['error']})", hint="capture tries again by itself")
        if "refused" in answer:
            raise SourceRefused(str(answer["refused"]), hint="switch its capture off and have it backed up often instead")
        mode = str(answer["mode"])
        if mode == WAL:
            self._held[path] = (*self._held.get(path, ()), self._last_id)
        return mode

    def _drop(self, path: Path, pins: tuple[int, ...]) -> None:
        for one in pins:
            self._ask({"do": "drop", "id": one})
        self._held[path] = tuple(one for one in self._held.get(path, ()) if one not in pins)

    def _ask(self, request: dict[str, object]) -> dict[str, object]:
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            raise PinsLost("no process holds pins")
        try:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
        except OSError as err:
            raise PinsLost(f"the process that held pins ended with {process.poll()}") from err
        line = process.stdout.readline()
        if not line.endswith("\n"):
            raise PinsLost(f"the process that held pins ended with {process.poll()}")
        answer: dict[str, object] = json.loads(line)
        return answer


def ending_with() -> Callable[[], None]:
    """Return what makes a child end with its parent, however that ends."""
    prctl, parent = ctypes.CDLL(None).prctl, os.getpid()

    def begin() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    return begin
