"""Pages in, one sealed chunk object out."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from continuum_tasks.layer.draft import ChunkOptions, Costs, ObjectDraft, no_clock
from continuum_tasks.layer.format import (
    BLOCK_BYTES,
    MAX_CHUNK_BYTES,
    MAX_PGNO,
    ChunkIndex,
    ObjectContext,
    Trailer,
    digests_of,
    encode_layer_index,
    encode_layer_trailer,
    lock_page,
)
from continuum_tasks.model import Codec

__all__ = ["ChunkOptions", "SealedChunk", "write_chunk"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedChunk:
    """A whole object as it is stored. `index_bytes` reaches from `index_offset` to the end; `digests` in pgno order."""

    data: bytearray
    sha256: str
    index_offset: int
    index_bytes: int
    n_pages: int
    digests: bytes
    raw_bytes: int
    costs: Costs


def write_chunk(
    runs: Iterable[tuple[int, memoryview]],
    *,
    context: ObjectContext,
    options: ChunkOptions,
    clock: Callable[[], float] = no_clock,
) -> SealedChunk:
    """Seal pages given as (first pgno, their bytes one after the other), pgnos ascending.

    A run's memory is read only until the next run is drawn, so one buffer can carry them all: beside it this takes the
    object's stored size and one block. `clock` gives monotonic seconds for the costs; it is asked four times per block.
    Raises RuntimeError for runs out of order, with part of a page or the lock page.
    """
    draft = _Draft(context, options, clock)
    for first, pages in runs:
        draft.add(first, pages)
    return draft.finish()


class _Draft:
    """An object half written."""

    def __init__(self, context: ObjectContext, options: ChunkOptions, clock: Callable[[], float]) -> None:
        self._page_size = options.page_size
        self._clock = clock
        self._out = ObjectDraft(context, options, clock=clock)
        self._pgnos = array("I")
        self._digests: list[bytes] = []
        self._pending = bytearray()

    def add(self, first: int, pages: memoryview) -> None:
        page_size = self._page_size
        n_pages, rest = divmod(len(pages), page_size)
        if rest or not n_pages:
            raise RuntimeError(f"run at page {first}: {len(pages)} bytes are not whole pages of {page_size}")
        last = self._pgnos[-1] if self._pgnos else 0
        if not last < first <= first + n_pages - 1 <= MAX_PGNO or first <= lock_page(page_size) < first + n_pages:
            raise RuntimeError(f"run of {n_pages} at page {first} after page {last}: out of order, or holds the lock page")
        if (len(self._pgnos) + n_pages) * page_size > MAX_CHUNK_BYTES:
            raise RuntimeError(f"run at page {first}: a chunk takes at most {MAX_CHUNK_BYTES} bytes of pages")
        self._pgnos.extend(range(first, first + n_pages))
        begun = self._clock()
        self._digests.append(digests_of(pages, page_size))
        self._out.costs.hash_seconds += self._clock() - begun
        self._cut(pages)

    def _cut(self, pages: memoryview) -> None:
        """Seal full blocks straight from the run; only what is left over is copied, to lie before the next run."""
        at = 0
        if self._pending:
            at = min(BLOCK_BYTES - len(self._pending), len(pages))
            self._pending += pages[:at]
            if len(self._pending) == BLOCK_BYTES:
                self._seal_pending()
        while len(pages) - at >= BLOCK_BYTES:
            self._out.seal_block(pages[at : at + BLOCK_BYTES])
            at += BLOCK_BYTES
        self._pending += pages[at:]

    def _seal_pending(self) -> None:
        with memoryview(self._pending) as block:
            self._out.seal_block(block)
        self._pending.clear()

    def finish(self) -> SealedChunk:
        if self._pending:
            self._seal_pending()
        if not self._out.blocks:
            raise RuntimeError("a chunk has at least one page")
        digests = b"".join(self._digests)
        index_offset = len(self._out.data)
        index_bytes = self._seal_index(
            ChunkIndex(page_size=self._page_size, blocks=tuple(self._out.blocks), pgnos=self._pgnos, digests=digests)
        )
        return SealedChunk(
            data=self._out.data,
            sha256=self._out.sha256,
            index_offset=index_offset,
            index_bytes=index_bytes,
            n_pages=len(self._pgnos),
            digests=digests,
            raw_bytes=len(self._pgnos) * self._page_size,
            costs=self._out.costs,
        )

    def _seal_index(self, index: ChunkIndex) -> int:
        raw, n_runs = encode_layer_index(index)

        def trailer(offset: int, stored_bytes: int, codec: Codec) -> bytes:
            return encode_layer_trailer(
                Trailer(
                    index_offset=offset,
                    index_stored_bytes=stored_bytes,
                    n_blocks=len(index.blocks),
                    n_runs=n_runs,
                    n_pages=len(index.pgnos),
                    index_codec=codec,
                )
            )

        return self._out.seal_index(raw, trailer)


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """Positions `start` (inclusive) to `stop` (exclusive) in an ordered list of pages."""

    start: int
    stop: int


def split(n_pages: int, *, page_size: int, chunk_bytes: int) -> tuple[Slice, ...]:
    """Cut `n_pages` into slices of at most `chunk_bytes` raw bytes (at least one page each), none for no pages."""
    step = max(1, chunk_bytes // page_size)
    return tuple(Slice(start=start, stop=min(start + step, n_pages)) for start in range(0, n_pages, step))
