"""Copy a database as it was at a known position, while others go on committing.

A timeline, and what follows a hole, begins with a state; to restore the commits right after it, a copy of exactly that state is
needed. A process of its own begins a read transaction; when the index header is the same before and after that, the
transaction sees just what the header says. Then it copies, as long as it takes, through SQLite's backup API.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from continuum_tasks.capture.pins.client import WAL, ending_with
from continuum_tasks.launch import own_command
from continuum_tasks.wal.format import IndexHeader

N_TRIES = 500  # each takes well under a millisecond, and so many of a saturated writer's commits


class Copier:
    """One copy of one database, made by a process that ends with it. `path` is the copy once `is_done`."""

    def __init__(self, source: Path, path: Path) -> None:
        self.path = path
        self._source = source
        self._process: subprocess.Popen[str] | None = subprocess.Popen(  # noqa: S603 (our own command line)
            own_command("continuum_tasks.capture.pins.process"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=ending_with(),
        )

    def hold(self, read_index: Callable[[], IndexHeader]) -> IndexHeader | None:
        """Begin a read transaction at a known position and return that; None when commits come too fast, or it died."""
        before = read_index()
        for number in range(N_TRIES):
            answer = self._ask({"do": "pin", "path": str(self._source), "id": number})
            after = read_index()
            if answer.get("mode") == WAL and before == after:
                return after
            self._ask({"do": "drop", "id": number})
            before = after
        return None

    def begin(self) -> None:
        """Begin to copy what is held."""
        self.path.unlink(missing_ok=True)
        os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        self._send({"do": "copy", "to": str(self.path)})

    def ended(self) -> str | None:
        """Return None while it copies, then the error there was, or an empty text."""
        process = self._process
        if process is None or process.stdout is None:
            return "it was given up"
        answered = select.poll()  # `select` knows no descriptor above 1023
        answered.register(process.stdout, select.POLLIN)
        if not answered.poll(0):
            return None
        line = process.stdout.readline()
        self._end()
        return str(_answer(line).get("error", ""))

    def let_go(self) -> None:
        """Hold nothing any more."""
        self._end()

    def close(self) -> None:
        """Give up: nothing is held any more. What was copied so far stays for its owner to remove."""
        self._end()

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with suppress(BrokenPipeError):  # what was not sent any more
                        pipe.close()

    def _send(self, request: dict[str, object]) -> None:
        assert self._process is not None and self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()

    def _ask(self, request: dict[str, object]) -> dict[str, object]:
        try:
            self._send(request)
        except BrokenPipeError:
            return _answer("")
        assert self._process is not None and self._process.stdout is not None
        return _answer(self._process.stdout.readline())


def _answer(line: str) -> dict[str, object]:
    answer: dict[str, object] = json.loads(line) if line.endswith("\n") else {"error": "its process died"}
    return answer
