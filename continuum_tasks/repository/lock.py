"""One run per database at a time: across the processes of a host by `flock`, across hosts by lease objects.

A lease is an object of the holder's own. Whoever wants one writes it, then lists: any other live lease means "back off".
Two that come at once both back off and try again after a random pause, so nothing but a listing that shows every
finished write is asked of the storage. Ages are compared between the objects' own times, never with a host's clock.
A lease of this owner that is still there although we hold the `flock` belonged to a process that died: it is removed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from continuum_tasks.errors import ConfigError, DatabaseLocked, ObjectMissing, StaleClaim, StorageError
from continuum_tasks.storage.protocol import ObjectInfo, Storage

LEASE_SECONDS = 300
N_TRIES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """Who asks: an owner name (one per host and state directory), a nonce for this run, the directory of the host's
    lock files, and how to pause before another try (given its number).
    """

    owner: str
    nonce: str
    directory: Path
    pause: Callable[[int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A lock that is held; ask `check` right before the commit point."""

    storage: Storage
    key: str

    def check(self) -> None:
        """Raise StaleClaim when somebody took the lease away because it had expired."""
        try:
            self.storage.stat(self.key)
        except ObjectMissing as err:
            raise StaleClaim(
                f"lock {self.key}: taken over by another run", hint="this run was stalled for too long; start it again"
            ) from err


@contextlib.contextmanager
def hold_lock(database: str, storage: Storage, contender: Contender) -> Iterator[Held]:
    """Hold the lock of a database in one storage. Raises DatabaseLocked when another run has it."""
    with host_lock(database, contender), _lease(database, storage, contender) as held, _renewed(held):
        yield held


@contextlib.contextmanager
def host_lock(name: str, contender: Contender) -> Iterator[None]:
    """Hold a name on this host alone, until the context or the process ends. Raises DatabaseLocked naming the process."""
    path = contender.directory / f"{name}.lock"
    try:
        contender.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as err:
        raise ConfigError(f"{path}: cannot be made ({err.strerror})", hint="check state_dir and its owner") from err
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as err:
            holder = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip()
            raise _locked(name, f"process {holder or '?'} of this host") from err
        with contextlib.suppress(OSError):  # a full disk: the flock is the lock, the number only tells others who has it
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _lease(database: str, storage: Storage, contender: Contender) -> Iterator[Held]:
    prefix = f"locks/{database}/"
    held = Held(storage=storage, key=f"{prefix}{contender.owner}-{contender.nonce}.lease")
    for attempt in range(1, N_TRIES + 1):
        storage.put(held.key, contender.owner.encode())
        rival = _rival(held, prefix, contender.owner)
        if rival is None:
            break
        storage.delete(held.key)
        if attempt == N_TRIES:
            raise _locked(database, f"lease {rival}")
        contender.pause(attempt)
    try:
        yield held
    finally:
        with contextlib.suppress(StorageError):  # how the run ended is what counts; a lease that stays expires
            storage.delete(held.key)


def _rival(held: Held, prefix: str, owner: str) -> str | None:
    leases = {info.key: info for info in held.storage.list(prefix)}
    own = leases.pop(held.key, None)
    if own is None:
        return f"{held.key}, which the storage does not list"
    for key, info in leases.items():
        if _is_dead(info, own, owner=owner, prefix=prefix):
            held.storage.delete(key)
        else:
            return key
    return None


def _is_dead(info: ObjectInfo, own: ObjectInfo, *, owner: str, prefix: str) -> bool:
    same_owner = info.key.removeprefix(prefix).rpartition("-")[0] == owner
    return same_owner or (own.modified_at - info.modified_at).total_seconds() > LEASE_SECONDS


@contextlib.contextmanager
def _renewed(held: Held) -> Iterator[None]:
    stop = threading.Event()
    thread = threading.Thread(target=_renew, args=(held, stop), name="lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _renew(held: Held, stop: threading.Event) -> None:
    while not stop.wait(LEASE_SECONDS / 5):
        # Whether the lease still holds is decided once, by `check`, at the commit point.
        with contextlib.suppress(StorageError, StaleClaim):
            held.check()
            held.storage.put(held.key, b"")


def _locked(name: str, by: str) -> DatabaseLocked:
    return DatabaseLocked(
        f"{name}: another run is in progress ({by})",
        hint="wait for it: `continuum backup list` shows it when it is done",
    )
