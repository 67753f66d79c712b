"""A storage in this process's memory, for tests; as strict as the real ones."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime

from continuum_tasks.errors import ObjectExists, ObjectMissing
from continuum_tasks.storage.protocol import (
    Buffer,
    Capabilities,
    ObjectInfo,
    check_key,
    check_prefix,
    check_range,
    short_object,
)


class MemoryStorage:
    """Objects in a dict. Stamps `modified_at` by the host's clock, as a server would."""

    def __init__(self, *, name: str = "memory") -> None:
        self._name = name
        self._objects: dict[str, tuple[bytes, datetime]] = {}
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"MemoryStorage({self._name!r})"

    def put(self, key: str, data: Buffer, *, only_new: bool = False) -> None:
        """See `Storage.put`; `data` is copied."""
        copied = bytes(data)
        with self._lock:
            if only_new and check_key(key) in self._objects:
                raise ObjectExists(f"{self._at(key)}: it exists already")
            self._objects[check_key(key)] = (copied, datetime.now(UTC))

    def get(self, key: str, *, offset: int = 0, length: int | None = None) -> bytes:
        """See `Storage.get`."""
        check_range(offset, length)
        data, _ = self._find(key)
        end = len(data) if length is None else offset + length
        if max(offset, end) > len(data):
            raise short_object(self._at(key), offset=offset, length=length, found=len(data))
        return data[offset:end]

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """See `Storage.list`."""
        check_prefix(prefix)
        with self._lock:
            found = sorted((key, value) for key, value in self._objects.items() if key.startswith(prefix))
        return (ObjectInfo(key=key, size_bytes=len(data), modified_at=at) for key, (data, at) in found)

    def delete(self, key: str) -> None:
        """See `Storage.delete`."""
        with self._lock:
            self._objects.pop(check_key(key), None)

    def stat(self, key: str) -> ObjectInfo:
        """See `Storage.stat`."""
        data, at = self._find(key)
        return ObjectInfo(key=key, size_bytes=len(data), modified_at=at)

    def capabilities(self) -> Capabilities:
        """See `Storage.capabilities`."""
        return Capabilities(conditional_put=True, versioning=False, object_lock=False, free_bytes=None)

    def _at(self, key: str) -> str:
        return f"storage {self._name}: object {key}"

    def _find(self, key: str) -> tuple[bytes, datetime]:
        with self._lock:
            found = self._objects.get(check_key(key))
        if found is None:
            raise ObjectMissing(f"{self._at(key)}: not there", hint="it was deleted or never written")
        return found
