"""Where an action runs: this host, its catalog, directories and settings, its clock and its randomness; all arguments."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from continuum_tasks.clock import Clock
from continuum_tasks.config import BackupSettings
from continuum_tasks.host.catalog import Catalog
from continuum_tasks.host.metrics import Metrics
from continuum_tasks.repository.lock import Contender
from continuum_tasks.sqlite.staging import private_directory


@dataclass(frozen=True, slots=True, kw_only=True)
class HostContext:
    """This host as an action sees it. `pause` sleeps before another try, given the try's number.

    `accepted`: `accept_file_system` of each declared database, by its path.
    """

    host: str
    state_dir: Path
    temp_dir: Path
    settings: BackupSettings
    catalog: Catalog
    metrics: Metrics
    clock: Clock
    random_bytes: Callable[[int], bytes]
    pause: Callable[[int], None]
    accepted: Mapping[Path, tuple[str, ...]] = field(default_factory=dict)

    def accepts(self, path: Path) -> tuple[str, ...]:
        """Return the types of file systems that the operator accepted for the database at that path."""
        real = os.path.realpath(path)
        return next((types for known, types in self.accepted.items() if os.path.realpath(known) == real), ())

    def contender(self) -> Contender:
        """Return this run as a contender for locks; one owner name per host and state directory."""
        place = hashlib.sha256(str(self.state_dir).encode()).hexdigest()[:8]
        return Contender(
            owner=f"{self.host}.{place}", nonce=self.random_bytes(6).hex(), directory=self.state_dir / "locks", pause=self.pause
        )

    def scratch(self) -> AbstractContextManager[Path]:
        """Make a private directory (0700) in the temporary directory, gone when its context ends or, later, its process."""
        return private_directory(self.temp_dir, now=self.clock.now())

    @property
    def n_threads(self) -> int:
        """How many threads an action may keep busy here; more than a few only wait for memory bandwidth."""
        return min(self.settings.max_concurrent_uploads, 4)
