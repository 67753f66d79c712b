"""Every rule a manifest must keep before anything believes it, whoever signed it. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from continuum_tasks.errors import ObjectDamaged
from continuum_tasks.model import DATABASE_NAME, Backup, Cipher, Manifest, SourceFacts, StoredObject

MIN_PAGE_BYTES, MAX_PAGE_BYTES = 512, 65536
MAX_PAGES = 2**32 - 1
MAX_OWNER_ID = 2**32 - 2  # the next one, -1, tells chown to change nothing
MODE_BITS = 0o775  # what a restore may give back: no special bits, and nothing that anybody may write

_CHUNK_NAME = re.compile(r"[0-9]{6,10}-[0-9a-f]{2,64}\.chunk")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def manifest_key(database: str, backup_id: str) -> str:
    return f"manifests/{database}/{backup_id}.json"


def layer_prefix(backup: Backup) -> str:
    """Return what the key of every object of this backup begins with."""
    return f"layers/{backup.database}/{backup.base_id}/{backup.id}/"


def check_manifest(manifest: Manifest, key: str) -> None:
    """Raise ObjectDamaged, naming the object `key`, unless the manifest keeps every rule."""
    if key != manifest_key(manifest.backup.database, manifest.backup.id):
        raise ObjectDamaged(f"object {key}: holds the manifest of {manifest.backup.id}", hint="objects were swapped or renamed")
    for holds, what in _rules(manifest):
        if not holds:
            raise ObjectDamaged(
                f"object {key}: {what}", hint="it was forged, or a newer version wrote it: restore another backup"
            )


def _rules(manifest: Manifest) -> Iterator[tuple[bool, str]]:
    backup, wrapped = manifest.backup, manifest.wrapped_key
    yield (
        (wrapped is None) == (backup.cipher is Cipher.NONE) and backup.key_id == ("" if wrapped is None else wrapped.key_id),
        f"says {backup.cipher} but its key says otherwise",
    )
    yield from _backup_rules(backup)
    yield from _source_rules(manifest.source)
    keys = [stored.key for stored in manifest.objects]
    yield len(set(keys)) == len(keys), "names an object twice"
    prefix = layer_prefix(backup)
    for stored in manifest.objects:
        yield from _object_rules(stored, prefix)


def _backup_rules(backup: Backup) -> Iterator[tuple[bool, str]]:
    size, n_pages = backup.page_size, backup.n_pages
    yield DATABASE_NAME.fullmatch(backup.database) is not None, "its database has a name that is not allowed"
    yield MIN_PAGE_BYTES <= size <= MAX_PAGE_BYTES and size & (size - 1) == 0, f"page size {size} is not one of SQLite's"
    yield 1 <= n_pages <= MAX_PAGES, f"{n_pages} pages are not a number that a database can have"
    yield (
        backup.original_size_bytes == n_pages * size,
        f"{backup.original_size_bytes} bytes are not {n_pages} pages of {size} bytes",
    )
    yield backup.layer_size_bytes >= 0 and backup.stored_size_bytes >= 0, "a size is below zero"
    yield _SHA256.fullmatch(backup.root) is not None, "its root is not a SHA-256"


def _source_rules(source: SourceFacts) -> Iterator[tuple[bool, str]]:
    yield 0 <= source.mode <= 0o777 and not source.mode & ~MODE_BITS, f"mode {source.mode:o} is not one that a restore sets"
    yield 0 <= source.uid <= MAX_OWNER_ID and 0 <= source.gid <= MAX_OWNER_ID, f"owner {source.uid}:{source.gid} is none"


def _object_rules(stored: StoredObject, prefix: str) -> Iterator[tuple[bool, str]]:
    name = stored.key.removeprefix(prefix)
    yield (
        stored.key == prefix + name and bool(_CHUNK_NAME.fullmatch(name)),
        f"{stored.key[:512]!r} is not an object of this backup",
    )
    yield stored.size_bytes > 0 and stored.n_pages > 0, f"{stored.key} has no bytes or no pages"
    index_at, index_bytes = stored.index_offset, stored.index_bytes
    yield (
        0 < index_at < stored.size_bytes and index_at + index_bytes == stored.size_bytes,
        f"{stored.key} has its index from byte {index_at}, {index_bytes} bytes of {stored.size_bytes}",
    )
    yield _SHA256.fullmatch(stored.sha256) is not None, f"{stored.key} has no SHA-256"
