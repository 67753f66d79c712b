"""The seam every storage implements, the names objects may have, and what a storage can do.

A storage is dumb bytes by name. Every method raises `StorageError` or a child of it; only `ObjectDamaged` (a short or
changed object) comes from elsewhere in the tree.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeAlias

from continuum_tasks.errors import ObjectDamaged, StorageError

Buffer: TypeAlias = bytes | bytearray | memoryview

MAX_KEY_CHARS = 512
_KEY = re.compile(r"[a-zA-Z0-9._-]{1,255}(?:/[a-zA-Z0-9._-]{1,255})*")  # file systems end a name at 255 bytes
_DOTS = re.compile(r"(?:^|/)\.{1,2}(?:/|$)")


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectInfo:
    """One stored object; `modified_at` is aware UTC by the storage's own clock."""

    key: str
    size_bytes: int
    modified_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What was found by trying. `conditional_put`: create-only writes are atomic; `free_bytes` is None where no limit shows."""

    conditional_put: bool
    versioning: bool
    object_lock: bool
    free_bytes: int | None


class Storage(Protocol):
    """Bytes by name. Safe to share between threads; a forked child may go on using it."""

    def put(self, key: str, data: Buffer, *, only_new: bool = False) -> None:
        """Store `data` whole, durable on return, never visible in part.

        `only_new` raises ObjectExists when the key is taken; of many racing writers exactly one wins where
        `capabilities().conditional_put` is true.
        """
        ...

    def get(self, key: str, *, offset: int = 0, length: int | None = None) -> bytes:
        """Return the object, or exactly `length` bytes from `offset`. Raises ObjectMissing; ObjectDamaged if it is shorter."""
        ...

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Return the objects whose key starts with `prefix` (any string of key characters), sorted by key."""
        ...

    def delete(self, key: str) -> None:
        """Remove the object, durable on return; no error when it is not there."""
        ...

    def stat(self, key: str) -> ObjectInfo:
        """Return size and time of the object. Raises ObjectMissing."""
        ...

    def capabilities(self) -> Capabilities:
        """Return what this storage can do, found by trying once. May write and delete one small object."""
        ...


def is_key(text: str) -> bool:
    """Tell whether `text` may name an object: parts of [a-zA-Z0-9._-] between slashes, none `.` or `..`, at most 512 in all."""
    return len(text) <= MAX_KEY_CHARS and bool(_KEY.fullmatch(text)) and not _DOTS.search(text)


def check_key(key: str) -> str:
    """Return `key` unchanged. Raises StorageError when it may not name an object."""
    if not is_key(key):
        raise StorageError(
            f"key {key[:80]!r} may not name an object", hint="use letters, digits, '.', '_', '-' and '/', no '..'"
        )
    return key


def check_prefix(prefix: str) -> str:
    """Return `prefix` unchanged. Raises StorageError when no key can start with it."""
    if prefix and not is_key(prefix.removesuffix("/")):
        raise StorageError(
            f"prefix {prefix[:80]!r} cannot begin a key", hint="use letters, digits, '.', '_', '-' and '/', no '..'"
        )
    return prefix


def check_range(offset: int, length: int | None) -> None:
    """Raises RuntimeError for a range no object can have."""
    if offset < 0 or (length is not None and length < 0):
        raise RuntimeError(f"range {offset}+{length} is negative")


def short_object(where: str, *, offset: int, length: int | None, found: int) -> ObjectDamaged:
    """Build the error for an object that ends before the bytes asked for."""
    wanted = "the rest" if length is None else f"{length} bytes"
    return ObjectDamaged(
        f"{where}: {wanted} from {offset} asked, {found} bytes there",
        hint="the object is truncated; restore from another backup",
    )


def view(data: Buffer) -> memoryview:
    """Return the bytes of `data` as a flat byte view, without copying."""
    return memoryview(data).cast("B")
