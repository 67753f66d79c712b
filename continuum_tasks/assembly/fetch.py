"""Fetch one chunk: read an object, open it, write the pages it still owns. One unit of the fan-out of a restore.

Newer layers own the pages they hold (`owners`, one 32-bit ordinal per page, 0 = the full); so every page of the target
is written exactly once, and of an old chunk only the blocks that are still needed are read.
"""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from continuum_tasks import failpoints
from continuum_tasks.errors import NoSpace, ObjectDamaged, TargetError
from continuum_tasks.layer.format import DIGEST_BYTES, HEADER_BYTES, ObjectContext, runs_of
from continuum_tasks.layer.reader import OpenedChunk, open_index, owned
from continuum_tasks.model import StoredObject, WrappedKey
from continuum_tasks.repository.repository import Repository, key_context

OWNERS = "owners"
EXPECTED = "expected"
GROUP_BYTES = 8 * 1024 * 1024
GAP_BYTES = 1024 * 1024  # two wanted blocks closer than this come in one read: a request costs more than the bytes between


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchUnit:
    """Which object gives which pages of which target. `target_path` empty = check every page of it, write none.

    `work_path` is the directory with the `owners` and `expected` files; `n_pages` is the page count of the final state.
    """

    storage: str
    stored: StoredObject
    repository_id: str
    base_id: str
    backup_id: str
    index: int
    ordinal: int
    wrapped_key: WrappedKey | None
    work_path: str
    target_path: str
    page_size: int
    n_pages: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """What a unit did: bytes read from the storage, pages written (or checked)."""

    read_bytes: int
    n_pages: int


def fetch_chunk(unit: FetchUnit, repository: Repository) -> Fetched:
    """Fetch a chunk into the target. Raises ObjectMissing, ObjectDamaged, KeyMissing or KeyWrong, naming the object."""
    source = _Source(repository, unit)
    opened = _open(unit, repository, source)
    owners = mapped(Path(unit.work_path) / OWNERS)
    n_pages = _write(opened, source, unit, owners=owners) if unit.target_path else _check(opened, source)
    _expect(opened, unit, owners=owners)
    return Fetched(read_bytes=source.read_bytes, n_pages=n_pages)


def _open(unit: FetchUnit, repository: Repository, source: _Source) -> OpenedChunk:
    data_key = repository.unwrap(unit.wrapped_key, context=key_context(unit.repository_id, unit.base_id))
    opened = open_index(
        source.read(0, HEADER_BYTES),
        source.read(unit.stored.index_offset, unit.stored.index_bytes),
        context=ObjectContext(repository_id=unit.repository_id, backup_id=unit.backup_id, kind="chunk", index=unit.index),
        data_key=data_key,
        name=unit.stored.key,
        size_bytes=unit.stored.size_bytes,
    )
    if opened.index.page_size != unit.page_size or len(opened.index.pgnos) != unit.stored.n_pages:
        raise ObjectDamaged(
            f"object {unit.stored.key}: its index is not the one its manifest names", hint="objects were swapped"
        )
    return opened


class _Source:
    """Ranges of one object: of the full's chunks and of small objects all is read at once, of others what is wanted."""

    def __init__(self, repository: Repository, unit: FetchUnit) -> None:
        self._storage = repository.storage
        self._stored = unit.stored
        self.read_bytes = 0
        wants_all = unit.ordinal == 0 or not unit.target_path or unit.stored.size_bytes <= GAP_BYTES
        self._whole = memoryview(self._read(0, None)) if wants_all else None
        if self._whole is not None and len(self._whole) != unit.stored.size_bytes:
            raise ObjectDamaged(
                f"object {unit.stored.key}: {len(self._whole)} bytes where {unit.stored.size_bytes} were stored",
                hint="it was truncated or replaced; restore another backup",
            )

    def read(self, offset: int, length: int) -> memoryview:
        if self._whole is not None:
            return self._whole[offset : offset + length]
        return memoryview(self._read(offset, length))

    def _read(self, offset: int, length: int | None) -> bytes:
        data = self._storage.get(self._stored.key, offset=offset, length=length)
        self.read_bytes += len(data)
        return data


def _check(opened: OpenedChunk, source: _Source) -> int:
    for number, block in enumerate(opened.index.blocks):
        opened.open_block(number, source.read(block.offset, block.stored_bytes))
    return len(opened.index.pgnos)


def _write(opened: OpenedChunk, source: _Source, unit: FetchUnit, *, owners: memoryview) -> int:
    with opened_for_writing(unit.target_path) as descriptor:
        n_bytes = 0
        for group in _grouped(_wanted(opened, unit, owners=owners), opened):
            first, last = opened.index.blocks[group[0]], opened.index.blocks[group[-1]]
            stored = source.read(first.offset, last.offset + last.stored_bytes - first.offset)
            for number in group:
                start = opened.index.blocks[number].offset - first.offset
                pages = opened.open_block(number, stored[start : start + opened.index.blocks[number].stored_bytes])
                runs = owned(opened.block_runs(number, pages), owners, ordinal=unit.ordinal, page_size=unit.page_size)
                n_bytes += sum(write_at(descriptor, run, (at - 1) * unit.page_size, unit.target_path) for at, run in runs)
        failpoints.reach("restore.chunk_written")
    return n_bytes // unit.page_size


def _wanted(opened: OpenedChunk, unit: FetchUnit, *, owners: memoryview) -> Iterator[int]:
    """Yield the numbers of the blocks that hold a page this object still owns."""
    for number in range(len(opened.index.blocks)):
        for first, n_pages in runs_of(opened.block_pgnos(number)):
            if unit.ordinal in owners[first - 1 : first - 1 + n_pages].tolist():
                yield number
                break


def _grouped(wanted: Iterator[int], opened: OpenedChunk) -> Iterator[list[int]]:
    """Group blocks that one read should bring: near each other, GROUP_BYTES at most."""
    blocks = opened.index.blocks
    group: list[int] = []
    for number in wanted:
        end = blocks[number].offset + blocks[number].stored_bytes
        if group and (
            blocks[number].offset - blocks[group[-1]].offset - blocks[group[-1]].stored_bytes > GAP_BYTES
            or end - blocks[group[0]].offset > GROUP_BYTES
        ):
            yield group
            group = []
        group.append(number)
    if group:
        yield group


def _expect(opened: OpenedChunk, unit: FetchUnit, *, owners: memoryview) -> None:
    """Write the digests of the pages this object owns to the `expected` file, at (pgno - 1) * 16."""
    path = str(Path(unit.work_path) / EXPECTED)
    with opened_for_writing(path) as descriptor:
        for first, run in owned(_digest_runs(opened), owners, ordinal=unit.ordinal, page_size=DIGEST_BYTES):
            write_at(descriptor, run, (first - 1) * DIGEST_BYTES, path)


def _digest_runs(opened: OpenedChunk) -> Iterator[tuple[int, memoryview]]:
    at, digests = 0, memoryview(opened.index.digests)
    for first, n_pages in runs_of(opened.index.pgnos):
        yield first, digests[at : at + n_pages * DIGEST_BYTES]
        at += n_pages * DIGEST_BYTES


def mapped(path: Path, *, writable: bool = False) -> memoryview:
    """Map a file of 32-bit numbers; closing is left to the garbage collector, an error's traceback may hold a slice."""
    access = mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ
    with path.open("r+b" if writable else "rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=access)).cast("I")


@contextmanager
def opened_for_writing(path: str) -> Iterator[int]:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def write_at(descriptor: int, data: memoryview, offset: int, path: str) -> int:
    """Write all of `data`; returns its length. Raises NoSpace."""
    done = 0
    while done < len(data):
        try:
            done += os.pwrite(descriptor, data[done:], offset + done)
        except OSError as err:
            if err.errno in (errno.ENOSPC, errno.EDQUOT):
                raise NoSpace(
                    f"{path}: no space left at byte {offset + done}", hint="free space there and start again"
                ) from err
            raise TargetError(f"{path}: cannot be written: {err.strerror}", hint="check the disk") from err
    return len(data)
