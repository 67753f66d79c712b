"""The composition root: from a configuration to opened storages, catalog, jobs and actions' surroundings."""

from __future__ import annotations

import random
import secrets
import tempfile
import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from continuum_tasks.assembly import fetch, seal
from continuum_tasks.assembly.fan_out import Fan, InThreads, UnitKind
from continuum_tasks.clock import Clock
from continuum_tasks.config import Config, StorageType
from continuum_tasks.errors import ConfigError, NewerFormat, NoSpace, StorageError, UsageError
from continuum_tasks.host import reindex
from continuum_tasks.host.catalog import Catalog, open_catalog
from continuum_tasks.host.job_kinds import FETCH_CHUNK, SEAL_CHUNK
from continuum_tasks.host.jobs import Jobs, open_jobs
from continuum_tasks.host.metadata import METADATA
from continuum_tasks.host.metrics import Metrics, open_metrics
from continuum_tasks.host.site import HostContext
from continuum_tasks.keyring import Keyring, open_keyring
from continuum_tasks.model import Cipher
from continuum_tasks.repository.repository import Repository
from continuum_tasks.storage.open import open_storage


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """Everything one process needs to act; storages are opened when first asked for.

    `state_trouble` says why the state directory is not used and nothing of this process is remembered; empty = it is.
    """

    config: Config
    site: HostContext
    jobs: Jobs
    keyring: Keyring
    state_trouble: str = ""
    _repositories: dict[str, Repository] = field(default_factory=dict)

    @property
    def catalog(self) -> Catalog:
        return self.site.catalog

    def repository(self, name: str = "") -> Repository:
        """Return the repository in a declared storage (empty = the default one). Raises UsageError, ConfigError."""
        settings = self.config.storage(name)
        if settings.name not in self._repositories:
            self._repositories[settings.name] = Repository(
                open_storage(settings),
                settings.name,
                keyring=self.keyring,
                accept_unsigned=self.config.backup.encryption is Cipher.NONE,
            )
        return self._repositories[settings.name]

    def in_region(self, region: str, *, storage: str = "") -> Runtime:
        """Return this runtime with an S3 storage (empty = the only one) in another region; an empty one changes nothing.

        Its fan-outs run in this process: other processes know nothing of the change. Raises UsageError.
        """
        if not region:
            return self
        s3 = [s for s in self.config.storages if s.type is StorageType.S3 and storage in ("", s.name)]
        if len(s3) != 1:
            self.config.storage(storage)
            raise UsageError(
                f"--region {region}: {f'storage {storage} is not S3' if storage else f'{len(s3)} storages are S3'}",
                hint="name one S3 storage with --storage",
            )
        storages = tuple(replace(s, region=region) if s is s3[0] else s for s in self.config.storages)
        return replace(self, config=replace(self.config, storages=storages), _repositories={})

    def works(self) -> dict[str, UnitKind]:
        """Return how each kind of unit of a fan-out is run in this process."""
        return {
            SEAL_CHUNK.word: UnitKind(run=self._seal, unit=seal.SealUnit, result=seal.StoredChunk),
            FETCH_CHUNK.word: UnitKind(run=self._fetch, unit=fetch.FetchUnit, result=fetch.Fetched),
        }

    def fan(self) -> Fan:
        """Return a fan-out in threads of this process."""
        return InThreads(works=self.works(), n_threads=self.site.n_threads)

    def index(self, storage: str) -> None:
        """Read a storage the catalog has never seen, as after `metadata.db` was lost. Raises StorageError."""
        if not self.catalog.is_indexed(storage):
            reindex.reindex_storage(self.repository(storage), site=self.site)

    def index_all(self) -> list[StorageError]:
        """Read every storage the catalog has never seen; returns the errors of those that cannot be read."""
        unread: list[StorageError] = []
        for settings in self.config.storages:
            try:
                self.index(settings.name)
            except StorageError as err:
                unread.append(err)
        return unread

    def _seal(self, unit: seal.SealUnit) -> seal.StoredChunk:
        site = self.site
        return seal.seal_chunk(
            unit, self.repository(unit.storage), random_bytes=site.random_bytes, monotonic=site.clock.monotonic
        )

    def _fetch(self, unit: fetch.FetchUnit) -> fetch.Fetched:
        return fetch.fetch_chunk(unit, self.repository(unit.storage))


@contextmanager
def open_runtime(config: Config) -> Iterator[Runtime]:
    """Open what actions need, and close it at the end. Raises ConfigError, KeyringError."""
    with ExitStack() as stack:
        records, trouble = _records(config, stack)
        site = HostContext(
            host=config.host,
            state_dir=config.state_dir,
            temp_dir=config.temp_dir,
            settings=config.backup,
            catalog=records.catalog,
            metrics=records.metrics,
            clock=system_clock(),
            random_bytes=secrets.token_bytes,
            pause=_pause,
            accepted={one.path: one.accept_file_system for one in config.databases},
        )
        keyring = open_keyring(config.keys_dir)
        yield Runtime(config=config, site=site, jobs=records.jobs, keyring=keyring, state_trouble=trouble)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Records:
    """What one `metadata.db` holds."""

    catalog: Catalog
    jobs: Jobs
    metrics: Metrics


def _records(config: Config, stack: ExitStack) -> tuple[_Records, str]:
    """Open `metadata.db`: in a directory that is thrown away when the file there cannot be used, or has no room.

    An emergency restore may depend on nothing but the storage and the key.
    """
    try:
        return _opened(config.state_dir / METADATA, stack), ""
    except (ConfigError, NoSpace, NewerFormat) as err:
        private = stack.enter_context(tempfile.TemporaryDirectory(prefix="continuum-state-"))
        trouble = f"{err.message} ({err.hint})" if isinstance(err, NewerFormat) else err.message
        return _opened(Path(private) / METADATA, stack), trouble


def _opened(path: Path, stack: ExitStack) -> _Records:
    catalog = stack.enter_context(closing(open_catalog(path)))  # first: it moves a damaged file aside
    jobs = stack.enter_context(closing(open_jobs(path)))
    metrics = stack.enter_context(closing(open_metrics(path)))
    return _Records(catalog=catalog, jobs=jobs, metrics=metrics)


def system_clock() -> Clock:
    """Return the system's clock: aware UTC, and monotonic seconds."""
    return Clock(now=partial(datetime.now, UTC), monotonic=time.monotonic)


def finish(action: Generator[Any, None, Any]) -> Any:
    """Run an action to its end without showing progress, and return its result."""
    while True:
        try:
            next(action)
        except StopIteration as stop:
            return stop.value


def _pause(attempt: int) -> None:
    time.sleep(random.uniform(0.05, 0.2) * 2**attempt)  # noqa: S311 - spreads contenders, guards nothing
