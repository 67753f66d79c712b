"""A capturing process under test: started, killed at random some time after it was ready, started again."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from random import Random

from tests.support.processes import until

_LIVES_SECONDS = (1.5, 3.5)


class Agent:
    """`start` makes the process, `is_ready` tells whether it captures (and is false again after a start)."""

    def __init__(self, start: Callable[[], subprocess.Popen[bytes]], is_ready: Callable[[], bool], *, seed: int = 1) -> None:
        self._start, self._is_ready = start, is_ready
        self._rng = Random(seed)
        self._kill_at: float | None = None
        self.n_kills = 0
        self.process = start()

    def wait_ready(self) -> None:
        assert until(lambda: self._is_ready() or self.process.poll() is not None)
        assert self.process.poll() is None, "it ended by itself"

    def endanger(self, elapsed: float) -> None:
        """Kill it when its time has come and start another; for `crew.run`."""
        if self._kill_at is None and self._is_ready():
            self._kill_at = elapsed + self._rng.uniform(*_LIVES_SECONDS)
        if self._kill_at is not None and elapsed > self._kill_at:
            self.kill()
            self.n_kills += 1
            self.restart()

    def restart(self) -> None:
        self.process, self._kill_at = self._start(), None

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def terminate(self) -> None:
        """Tell it to end in good order."""
        self.process.terminate()
        assert self.process.wait(timeout=60) == 0
