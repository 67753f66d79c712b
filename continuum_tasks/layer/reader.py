"""Open a chunk object and give back its pages, or name what is wrong with it."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import accumulate, groupby

from continuum_tasks.errors import KeyWrong, ObjectDamaged, newer_format
from continuum_tasks.layer.codec import decompress
from continuum_tasks.layer.format import (
    DIGEST_BYTES,
    HEADER_BYTES,
    TRAILER_BYTES,
    VERSION,
    ChunkIndex,
    NewerVersion,
    ObjectContext,
    ObjectHeader,
    Trailer,
    decode_layer_index,
    decode_layer_trailer,
    decode_object_header,
    digests_of,
    encode_layer_trailer,
    runs_of,
    validate_layer_frame,
)
from continuum_tasks.layer.seal import INDEX_NONCE, NO_COMMITMENT, Sealer, block_nonce, commits_to
from continuum_tasks.model import Cipher

_FOREIGN = "somebody put another object in its place: restore from another backup or another storage"
_DAMAGED = "verify the backup; restore from another one or from another storage"


def open_chunk(
    data: bytes | bytearray | memoryview, *, context: ObjectContext, data_key: bytes | None, name: str
) -> OpenedChunk:
    """Open a whole object in memory. `data_key` None says that the backup is not encrypted; `name` is for errors.

    Raises KeyWrong when another data key sealed it, ObjectDamaged (also while reading blocks) for everything else.
    """
    view = memoryview(data)
    with naming(name):
        header = decode_object_header(view)
        trailer = decode_layer_trailer(view)
        validate_layer_frame(header, trailer, size_bytes=len(view))
    head, tail = view[:HEADER_BYTES], view[trailer.index_offset :]
    opened = open_index(head, tail, context=context, data_key=data_key, name=name, size_bytes=len(view))
    opened.data = view
    return opened


def open_index(  # noqa: PLR0913 - two range reads of one object, and the four things known about it beforehand
    header: bytes | memoryview,
    tail: bytes | memoryview,
    *,
    context: ObjectContext,
    data_key: bytes | None,
    name: str,
    size_bytes: int,
) -> OpenedChunk:
    """Open an object from its first 96 bytes and those from its index to its end; blocks are then given one by one.

    Raises as `open_chunk`; `size_bytes` is what the whole object must have.
    """
    with naming(name):
        head = decode_object_header(header)
        trailer = decode_layer_trailer(tail)
        validate_layer_frame(head, trailer, size_bytes=size_bytes)
        if len(tail) != (expected := trailer.index_stored_bytes + TRAILER_BYTES):
            raise ValueError(f"{len(tail)} bytes from the index to the end where there should be {expected}")
    check_object_key(head, data_key, name)
    sealer = Sealer(head, context, data_key)
    with naming(name):
        index = _open_index(memoryview(tail), sealer, head, trailer)
    return OpenedChunk(index, sealer, name=name)


def _open_index(tail: memoryview, sealer: Sealer, header: ObjectHeader, trailer: Trailer) -> ChunkIndex:
    packed = sealer.open(tail[:-TRAILER_BYTES], nonce=INDEX_NONCE, also=encode_layer_trailer(trailer))
    raw = decompress(trailer.index_codec, packed, raw_bytes=trailer.index_raw_bytes)
    return decode_layer_index(raw, header, trailer)


def check_object_key(header: ObjectHeader, data_key: bytes | None, name: str, *, owner: str = "backup") -> None:
    """Raise KeyWrong for another key, ObjectDamaged where only one of the object and its `owner` is encrypted."""
    if header.cipher is Cipher.NONE:
        if data_key is not None:
            raise ObjectDamaged(f"object {name}: is not encrypted, its {owner} is", hint=_FOREIGN)
        if header.commitment != NO_COMMITMENT:
            raise ObjectDamaged(f"object {name}: is not encrypted and yet commits to a key", hint=_DAMAGED)
    elif data_key is None:
        raise ObjectDamaged(f"object {name}: is encrypted, its {owner} is not", hint=_FOREIGN)
    elif not commits_to(header, data_key):
        raise KeyWrong(f"object {name}: was sealed with another data key", hint=f"use the key this {owner} was made with")


@contextmanager
def naming(name: str, *, hint: str = _DAMAGED) -> Iterator[None]:
    """Turn a ValueError into ObjectDamaged that names the object, one about a newer version into NewerFormat."""
    try:
        yield
    except NewerVersion as err:
        raise newer_format(f"object {name}", err.found, VERSION) from err
    except ValueError as err:
        raise ObjectDamaged(f"object {name}: {err}", hint=hint) from err


class OpenedChunk:
    """An object whose index is read and proven. `data` is the whole object, or None after `open_index`."""

    __slots__ = ("_sealer", "_starts", "data", "index", "name")

    def __init__(self, index: ChunkIndex, sealer: Sealer, *, name: str) -> None:
        self.index = index
        self.name = name
        self.data: memoryview | None = None
        self._sealer = sealer
        self._starts = tuple(accumulate((block.n_pages for block in index.blocks), initial=0))

    def open_block(self, number: int, stored_bytes: bytes | memoryview) -> bytes:
        """Return the pages of block `number` from its bytes as stored. Safe in several threads."""
        entry, page_size = self.index.blocks[number], self.index.page_size
        with naming(f"{self.name}, block {number}"):
            if len(stored_bytes) != entry.stored_bytes:
                raise ValueError(f"{len(stored_bytes)} bytes where there should be {entry.stored_bytes}")
            packed = self._sealer.open(memoryview(stored_bytes), nonce=block_nonce(number))
            pages = decompress(entry.codec, packed, raw_bytes=entry.n_pages * page_size)
            if digests_of(pages, page_size) != self._digests(number):
                raise ValueError(f"page {self._first_bad(number, pages)} does not match its digest")
        return pages

    def block(self, number: int) -> bytes:
        """Return the pages of block `number` of an object that is in memory."""
        if self.data is None:
            raise RuntimeError("only the index was opened: give the block's bytes to open_block")
        entry = self.index.blocks[number]
        return self.open_block(number, self.data[entry.offset : entry.offset + entry.stored_bytes])

    def block_pgnos(self, number: int) -> array[int]:
        """Return the pgnos of block `number` in the order of its pages."""
        return self.index.pgnos[self._starts[number] : self._starts[number + 1]]

    def block_runs(self, number: int, pages: bytes) -> Iterator[tuple[int, memoryview]]:
        """Yield the opened `pages` of block `number` as (first pgno, bytes of consecutive pages)."""
        at, view = 0, memoryview(pages)
        for first, n_pages in runs_of(self.block_pgnos(number)):
            end = at + n_pages * self.index.page_size
            yield first, view[at:end]
            at = end

    def runs(self) -> Iterator[tuple[int, memoryview]]:
        """Yield all pages as (first pgno, bytes of consecutive pages), block by block."""
        for number in range(len(self.index.blocks)):
            yield from self.block_runs(number, self.block(number))

    def pages(self) -> Iterator[tuple[int, memoryview]]:
        """Yield every page as (pgno, its bytes), in the order stored."""
        page_size = self.index.page_size
        for first, run in self.runs():
            for at in range(0, len(run), page_size):
                yield first + at // page_size, run[at : at + page_size]

    def _digests(self, number: int) -> bytes:
        return self.index.digests[self._starts[number] * DIGEST_BYTES : self._starts[number + 1] * DIGEST_BYTES]

    def _first_bad(self, number: int, pages: bytes) -> int:
        found, expected = digests_of(pages, self.index.page_size), self._digests(number)
        return next(
            pgno
            for at, pgno in zip(range(0, len(found), DIGEST_BYTES), self.block_pgnos(number), strict=True)
            if found[at : at + DIGEST_BYTES] != expected[at : at + DIGEST_BYTES]
        )


def claim_pages(owners: memoryview, pgnos: array[int], ordinal: int) -> None:
    """Let layer `ordinal` own the pages it has. Called for every delta, oldest first; the base is 0 and owns the rest.

    `owners` has one unsigned 32-bit number for each page of the final state: `owners[pgno - 1]`. Pages beyond it have
    been cut off since and are passed over.
    """
    n_pages = len(owners)
    for pgno in pgnos:
        if pgno <= n_pages:
            owners[pgno - 1] = ordinal


def owned(
    runs: Iterable[tuple[int, memoryview]], owners: memoryview, *, ordinal: int, page_size: int
) -> Iterator[tuple[int, memoryview]]:
    """Yield of each (first pgno, pages) what layer `ordinal` owns, as runs again."""
    for first, pages in runs:
        at = 0
        for owner, group in groupby(owners[first - 1 : first - 1 + len(pages) // page_size]):
            end = at + sum(page_size for _ in group)
            if owner == ordinal:
                yield first + at // page_size, pages[at:end]
            at = end
