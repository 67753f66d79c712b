"""Seal one chunk: read pages of a staged copy, compress, encrypt, store. One unit of the fan-out of a backup."""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from continuum_tasks import failpoints
from continuum_tasks.layer.format import DIGEST_BYTES, ObjectContext, lock_page
from continuum_tasks.layer.writer import ChunkOptions, SealedChunk, write_chunk
from continuum_tasks.model import Cipher, Codec, PhaseCost, StoredObject, WrappedKey
from continuum_tasks.repository.repository import Repository, chunk_key, key_context
from continuum_tasks.sqlite.pages import PageSlice, read_runs


@dataclass(frozen=True, slots=True, kw_only=True)
class SealUnit:
    """Which pages of which staged copy become which object.

    `pgnos_path` names a file of page numbers, positions `start` to `stop` of it; empty means pages `start` + 1 to `stop`.
    `digests_path` names a file that gets the digests of those pages, 16 bytes at (pgno - 1) * 16; empty means none does.
    """

    staged_path: str
    page_size: int
    pgnos_path: str
    digests_path: str
    start: int
    stop: int
    storage: str
    database: str
    base_id: str
    backup_id: str
    repository_id: str
    index: int
    codec: Codec
    level: int
    cipher: Cipher
    wrapped_key: WrappedKey | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredChunk:
    """A chunk that is stored: what the manifest says about it, and what each phase of it took."""

    stored: StoredObject
    costs: tuple[PhaseCost, ...]


def seal_chunk(
    unit: SealUnit, repository: Repository, *, random_bytes: Callable[[int], bytes], monotonic: Callable[[], float]
) -> StoredChunk:
    """Seal and store the chunk. Doing it again makes another object, harmlessly."""
    data_key = repository.unwrap(unit.wrapped_key, context=key_context(unit.repository_id, unit.base_id))
    options = ChunkOptions(
        page_size=unit.page_size,
        codec=unit.codec,
        level=unit.level,
        cipher=unit.cipher,
        data_key=data_key,
        salt=random_bytes(32),
    )
    context = ObjectContext(repository_id=unit.repository_id, backup_id=unit.backup_id, kind="chunk", index=unit.index)
    runs = read_runs(Path(unit.staged_path), page_size=unit.page_size, pages=_pages(unit))
    sealed = write_chunk(runs, context=context, options=options, clock=monotonic)
    if unit.digests_path:
        _write_digests(unit, sealed.digests)
    key = chunk_key((unit.database, unit.base_id, unit.backup_id), unit.index, random_bytes(4).hex())
    begun = monotonic()
    repository.storage.put(key, sealed.data)
    upload_seconds = monotonic() - begun
    failpoints.reach("create.chunk_put")
    stored = StoredObject(
        key=key,
        size_bytes=len(sealed.data),
        sha256=sealed.sha256,
        n_pages=sealed.n_pages,
        index_offset=sealed.index_offset,
        index_bytes=sealed.index_bytes,
    )
    return StoredChunk(stored=stored, costs=_costs(sealed, upload_seconds))


def _costs(sealed: SealedChunk, upload_seconds: float) -> tuple[PhaseCost, ...]:
    n_bytes = len(sealed.data)
    return (
        PhaseCost(phase="hash", seconds=sealed.costs.hash_seconds, n_bytes=sealed.raw_bytes),
        PhaseCost(phase="compress", seconds=sealed.costs.compress_seconds, n_bytes=sealed.raw_bytes),
        PhaseCost(phase="seal", seconds=sealed.costs.seal_seconds, n_bytes=n_bytes),
        PhaseCost(phase="upload", seconds=upload_seconds, n_bytes=n_bytes),
    )


def _write_digests(unit: SealUnit, digests: bytes) -> None:
    lock = lock_page(unit.page_size)
    cut = min(max(lock - unit.start - 1, 0) * DIGEST_BYTES, len(digests))
    with Path(unit.digests_path).open("r+b") as file:
        os.pwrite(file.fileno(), digests[:cut], unit.start * DIGEST_BYTES)
        os.pwrite(file.fileno(), digests[cut:], max(lock, unit.start) * DIGEST_BYTES)


def _pages(unit: SealUnit) -> PageSlice:
    if not unit.pgnos_path:
        return range(unit.start + 1, unit.stop + 1)
    pgnos = array("I")
    with Path(unit.pgnos_path).open("rb") as file:
        file.seek(unit.start * pgnos.itemsize)
        pgnos.fromfile(file, unit.stop - unit.start)
    return pgnos
