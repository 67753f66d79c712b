"""Storages that fail, stall or corrupt on demand, wrapped around a real one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from continuum_tasks.errors import ContinuumError
from continuum_tasks.storage.protocol import Buffer, Capabilities, ObjectInfo, Storage

T = TypeVar("T")


class Failing:
    """Raises the next of `before` instead of a call, or of `after` once the call was carried out; None lets it pass."""

    def __init__(
        self,
        storage: Storage,
        *,
        before: Sequence[ContinuumError | None] = (),
        after: Sequence[ContinuumError | None] = (),
    ) -> None:
        self._storage = storage
        self._before = list(before)
        self._after = list(after)
        self.calls: list[str] = []

    def put(self, key: str, data: Buffer, *, only_new: bool = False) -> None:
        self._run("put", lambda: self._storage.put(key, data, only_new=only_new))

    def get(self, key: str, *, offset: int = 0, length: int | None = None) -> bytes:
        return self._run("get", lambda: self._storage.get(key, offset=offset, length=length))

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Fails while being walked, as a listing of several pages may."""
        yield from self._storage.list(prefix)
        self._run("list", lambda: None)

    def delete(self, key: str) -> None:
        self._run("delete", lambda: self._storage.delete(key))

    def stat(self, key: str) -> ObjectInfo:
        return self._run("stat", lambda: self._storage.stat(key))

    def capabilities(self) -> Capabilities:
        return self._run("capabilities", self._storage.capabilities)

    def _run(self, name: str, call: Callable[[], T]) -> T:
        self.calls.append(name)
        if self._before and (err := self._before.pop(0)):
            raise err
        result = call()
        if self._after and (err := self._after.pop(0)):
            raise err
        return result


class Slow(Failing):
    """Takes `seconds` longer for each call."""

    def __init__(self, storage: Storage, *, seconds: float) -> None:
        super().__init__(storage)
        self._seconds = seconds

    def _run(self, name: str, call: Callable[[], T]) -> T:
        time.sleep(self._seconds)
        return super()._run(name, call)


class Corrupting(Failing):
    """Flips one bit in the middle of everything that is read."""

    def get(self, key: str, *, offset: int = 0, length: int | None = None) -> bytes:
        data = bytearray(super().get(key, offset=offset, length=length))
        data[len(data) // 2] ^= 1
        return bytes(data)
