"""Every error this product raises on purpose, in one tree.

ContinuumError                1   anything below; `hint` says what to do
├── UsageError                2   the command line is not valid
├── ConfigError               3   a .conf file, an environment variable or a setting is wrong
├── SourceError               4   the source database cannot be backed up as requested
│   ├── SourceMissing             there is no file at that path
│   ├── SourceRefused             0 bytes, not SQLite, encrypted, hard-linked, mounted by itself, on a network file system ...
│   └── SourceBusy                another connection uses it for longer than we may wait (transient)
├── KeyringError              5   a key is missing, wrong or damaged
│   ├── KeyMissing                the key this backup was made with is not in the keyring
│   └── KeyWrong                  a key of that name is there, but it is another key
├── StorageError              6   a storage refused or failed
│   ├── StorageUnreachable        network, timeout, throttling: trying again may help (transient)
│   ├── StorageDenied             credentials or permissions
│   ├── StorageFull               no space or quota left
│   ├── ObjectMissing             a named object is not there
│   └── ObjectExists              a create-only write found the object there already
├── IntegrityError            7   bytes are not what was written
│   ├── ObjectDamaged             a stored object is damaged, swapped, truncated or foreign; names the object
│   ├── ProofFailed               a restored or staged file does not match its digests
│   └── NewerFormat               a newer version of this program wrote it: nothing is known about it, neither good nor bad
├── BackupNotFound            8   no such backup, or none that is usable for this request
├── TargetError               9   the restore target cannot be written as requested
│   ├── TargetExists              a file is there and --overwrite was not given
│   ├── TargetBusy                some process uses the target
│   └── NoSpace                   too little free space at the target or in the temporary directory
├── LockError                10   another run is in progress, or it is not the time for it
│   ├── DatabaseLocked            another run works on this database now (transient)
│   ├── StaleClaim                this run lost its lease to a newer one and must not commit
│   ├── Fenced                    another host captures this timeline: what it stored is not overwritten
│   └── Declined                  one was made just now, or anomalies forbid it; --force was not given
└── BrokerError              11   the broker, a worker or a job failed
    ├── BrokerUnreachable         no connection to the broker
    ├── BrokerUnsafe              the broker may evict messages (maxmemory-policy is not noeviction)
    ├── NoWorker                  no worker serves the queue and --no-local was given
    └── JobFailed                 a job ended in an error that this process has no class for

Misuse of an API by our own code raises RuntimeError, never one of these.
"""

from __future__ import annotations

from typing import ClassVar


class ContinuumError(Exception):
    """A named failure: `message` with coordinates first, `hint` with the remedy."""

    exit_code: ClassVar[int] = 1
    transient: ClassVar[bool] = False

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self).__name__, self.message, self.hint))


class UsageError(ContinuumError):
    exit_code = 2


class ConfigError(ContinuumError):
    exit_code = 3


class SourceError(ContinuumError):
    exit_code = 4


class SourceMissing(SourceError):
    pass


class SourceRefused(SourceError):
    pass


class SourceBusy(SourceError):
    transient = True


class KeyringError(ContinuumError):
    exit_code = 5


class KeyMissing(KeyringError):
    pass


class KeyWrong(KeyringError):
    pass


class StorageError(ContinuumError):
    exit_code = 6


class StorageUnreachable(StorageError):
    transient = True


class StorageDenied(StorageError):
    pass


class StorageFull(StorageError):
    pass


class ObjectMissing(StorageError):
    pass


class ObjectExists(StorageError):
    pass


class IntegrityError(ContinuumError):
    exit_code = 7


class ObjectDamaged(IntegrityError):
    pass


class ProofFailed(IntegrityError):
    pass


class NewerFormat(IntegrityError):
    pass


class BackupNotFound(ContinuumError):
    exit_code = 8


class TargetError(ContinuumError):
    exit_code = 9


class TargetExists(TargetError):
    pass


class TargetBusy(TargetError):
    pass


class NoSpace(TargetError):
    pass


class LockError(ContinuumError):
    exit_code = 10


class DatabaseLocked(LockError):
    transient = True


class StaleClaim(LockError):
    pass


class Fenced(LockError):
    pass


class Declined(LockError):
    pass


class BrokerError(ContinuumError):
    exit_code = 11


class BrokerUnreachable(BrokerError):
    pass


class BrokerUnsafe(BrokerError):
    pass


class NoWorker(BrokerError):
    pass


class JobFailed(BrokerError):
    pass


def newer_format(where: str, found: object, known: int, *, hint: str = "upgrade continuum on this host") -> NewerFormat:
    """Describe what a newer version wrote; `where` names the object or file, `known` is the newest format read by this one."""
    return NewerFormat(f"{where}: written by a newer version ({found}); this version reads up to {known}", hint=hint)


def error_classes() -> dict[str, type[ContinuumError]]:
    """Return every class of the tree by its name."""
    found: dict[str, type[ContinuumError]] = {}
    waiting: list[type[ContinuumError]] = [ContinuumError]
    while waiting:
        cls = waiting.pop()
        found[cls.__name__] = cls
        waiting.extend(cls.__subclasses__())
    return found


def _rebuild(name: str, message: str, hint: str) -> ContinuumError:
    return error_classes().get(name, JobFailed)(message, hint=hint)


def error_from(name: str, message: str, hint: str) -> ContinuumError:
    """Rebuild an error another process stored by class name; an unknown name becomes `JobFailed`."""
    return _rebuild(name, message, hint)
