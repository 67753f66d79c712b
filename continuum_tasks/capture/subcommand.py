"""Have another process run a command of ours, without waiting for it.

The process that captures opens no database, so the backup that must follow a hole is made by `continuum backup create`, which
hands it to a worker or, when none can be reached, makes it itself.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from continuum_tasks.capture.pins.client import ending_with
from continuum_tasks.capture.state.environment import make_private_directory

PAUSE_SECONDS = 15.0  # between two tries of a command that failed
TIMEOUT_SECONDS = 6 * 3600.0


class Subcommand:
    """One command at a time for one database; its output is kept in `directory` until the next."""

    def __init__(self, directory: Path, environment: dict[str, str], *, monotonic: Callable[[], float]) -> None:
        self._log = make_private_directory(directory) / "errand.log"
        self._environment = environment
        self._monotonic = monotonic
        self._process: subprocess.Popen[bytes] | None = None
        self._begun = 0.0
        self._not_before = 0.0

    @property
    def busy(self) -> bool:
        """True while a command runs, or for a while after one failed."""
        return self._process is not None or self._monotonic() < self._not_before

    def send(self, words: Sequence[str]) -> None:
        """Run `continuum WORDS...` in the background."""
        with self._log.open("wb") as log:
            self._log.chmod(0o600)
            self._process = subprocess.Popen(  # noqa: S603 (our own command line)
                (sys.executable, "-m", "continuum_tasks.cli", *words),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment,
                start_new_session=True,
                preexec_fn=ending_with(),
            )
        self._begun = self._monotonic()

    def returned(self) -> tuple[int, str] | None:
        """Return the exit code and what was printed once the command has ended, and only once; None until then."""
        if self._process is None:
            return None
        code = self._process.poll()
        if code is None and self._monotonic() - self._begun > TIMEOUT_SECONDS:
            self._process.kill()
            code = self._process.wait()
        if code is None:
            return None
        self._process = None
        if code:
            self.pause()
        return code, self._log.read_text(encoding="utf-8", errors="replace")

    def pause(self) -> None:
        """Be busy for a while: what was done did not help."""
        self._not_before = self._monotonic() + PAUSE_SECONDS

    def close(self) -> None:
        """End what still runs."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._process = None
