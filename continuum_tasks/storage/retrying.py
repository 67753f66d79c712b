"""Any storage, its transient failures tried again: exponential backoff, full jitter, cap and deadline."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from continuum_tasks.errors import ObjectExists, StorageUnreachable
from continuum_tasks.storage.protocol import Buffer, Capabilities, ObjectInfo, Storage, view

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """Before try n+1 wait a random time up to min(cap, base * 2**(n-1)) seconds; no try starts past the deadline."""

    attempts: int = 6
    base_seconds: float = 0.2
    cap_seconds: float = 10.0
    deadline_seconds: float = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Clockwork:
    """What waiting needs: `random` gives 0 to 1, `monotonic` seconds."""

    sleep: Callable[[float], None] = time.sleep
    random: Callable[[], float] = random.random
    monotonic: Callable[[], float] = time.monotonic


class Retrying:
    """Passes every call on; StorageUnreachable is tried again as the policy says, everything else is raised at once.

    A create-only put that failed half way may have succeeded: when the next try finds the key taken, the object is read,
    and counts as written when it holds the same bytes. So what a create-only object says must tell its writer apart.
    """

    def __init__(self, storage: Storage, policy: RetryPolicy, *, clockwork: Clockwork | None = None) -> None:
        self._storage = storage
        self._policy = policy
        self._clockwork = clockwork or Clockwork()

    def __repr__(self) -> str:
        return f"Retrying({self._storage!r})"

    def put(self, key: str, data: Buffer, *, only_new: bool = False) -> None:
        """See `Storage.put`."""
        tries = 0

        def put() -> None:
            nonlocal tries
            tries += 1
            try:
                self._storage.put(key, data, only_new=only_new)
            except ObjectExists:
                if tries == 1 or self._storage.get(key) != view(data):
                    raise

        self._try(put)

    def get(self, key: str, *, offset: int = 0, length: int | None = None) -> bytes:
        """See `Storage.get`."""
        return self._try(lambda: self._storage.get(key, offset=offset, length=length))

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """See `Storage.list`; complete before the first is handed out."""
        return iter(self._try(lambda: tuple(self._storage.list(prefix))))

    def delete(self, key: str) -> None:
        """See `Storage.delete`."""
        self._try(lambda: self._storage.delete(key))

    def stat(self, key: str) -> ObjectInfo:
        """See `Storage.stat`."""
        return self._try(lambda: self._storage.stat(key))

    def capabilities(self) -> Capabilities:
        """See `Storage.capabilities`."""
        return self._try(self._storage.capabilities)

    def _try(self, call: Callable[[], T]) -> T:
        begun_at = self._clockwork.monotonic()
        for attempt in range(1, self._policy.attempts):
            try:
                return call()
            except StorageUnreachable as err:
                wait = self._clockwork.random() * min(self._policy.cap_seconds, self._policy.base_seconds * 2 ** (attempt - 1))
                spent = self._clockwork.monotonic() - begun_at
                if spent + wait > self._policy.deadline_seconds:
                    raise StorageUnreachable(f"{err.message} (try {attempt}, {spent:.0f} s)", hint=err.hint) from err
            self._clockwork.sleep(wait)
        try:
            return call()
        except StorageUnreachable as err:
            spent = self._clockwork.monotonic() - begun_at
            raise StorageUnreachable(f"{err.message} (try {self._policy.attempts}, {spent:.0f} s)", hint=err.hint) from err
