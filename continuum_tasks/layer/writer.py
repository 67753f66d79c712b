"""layer/writer.py: pages in, one sealed chunk object out."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from continuum_tasks.layer.codec import check_level, compress
from continuum_tasks.layer.digest import digests_of
from continuum_tasks.layer.format import (
    BLOCK_BYTES,
    MAX_CHUNK_BYTES,
    MAX_PGNO,
    SALT_BYTES,
    TAG_BYTES,
    TRAILER_BYTES,
    BlockEntry,
    ChunkIndex,
    Header,
    ObjectContext,
    Trailer,
    encode_header,
    encode_index,
    encode_trailer,
    lock_page,
)
from continuum_tasks.layer.seal import INDEX_NONCE, KEY_BYTES, NO_COMMITMENT, Sealer, block_nonce, key_commitment
from continuum_tasks.model import Cipher, Codec


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkOptions:
    """How to write a chunk. `salt`: 32 bytes fresh from the system's random source for every call, retries included."""

    page_size: int
    codec: Codec
    level: int
    cipher: Cipher
    data_key: bytes | None
    salt: bytes

    def __post_init__(self) -> None:
        if self.page_size not in (1 << bits for bits in range(9, 17)):
            raise RuntimeError(f"page size {self.page_size} is not one of SQLite's")
        if len(self.salt) != SALT_BYTES:
            raise RuntimeError(f"a salt has {SALT_BYTES} bytes")
        n_key_bytes = KEY_BYTES if self.cipher is Cipher.AES_256_GCM else 0
        if len(self.data_key or b"") != n_key_bytes:
            raise RuntimeError(f"cipher {self.cipher} takes a data key of {n_key_bytes} bytes")
        check_level(self.codec, self.level)


@dataclass(slots=True, kw_only=True)
class Costs:
    """Seconds that writing a chunk spent on page digests, on the codec, and on cipher and SHA-256; 0 without a clock."""

    hash_seconds: float = 0.0
    compress_seconds: float = 0.0
    seal_seconds: float = 0.0


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


def _no_clock() -> float:
    return 0.0


def write_chunk(
    runs: Iterable[tuple[int, memoryview]],
    *,
    context: ObjectContext,
    options: ChunkOptions,
    clock: Callable[[], float] = _no_clock,
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
        self._options = options
        self._clock = clock
        self._costs = Costs()
        self._header = Header(
            codec=options.codec,
            cipher=options.cipher,
            page_size=options.page_size,
            salt=options.salt,
            commitment=key_commitment(options.data_key, options.salt) if options.data_key else NO_COMMITMENT,
        )
        self._sealer = Sealer(self._header, context, options.data_key)
        self._out = bytearray(encode_header(self._header))
        self._sha256 = hashlib.sha256(self._out)
        self._blocks: list[BlockEntry] = []
        self._pgnos = array("I")
        self._digests: list[bytes] = []
        self._pending = bytearray()

    def add(self, first: int, pages: memoryview) -> None:
        page_size = self._options.page_size
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
        self._costs.hash_seconds += self._clock() - begun
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
            self._seal_block(pages[at : at + BLOCK_BYTES])
            at += BLOCK_BYTES
        self._pending += pages[at:]

    def _seal_pending(self) -> None:
        with memoryview(self._pending) as block:
            self._seal_block(block)
        self._pending.clear()

    def _seal_block(self, raw: memoryview) -> None:
        codec, packed = self._compress(raw)
        block = BlockEntry(
            offset=len(self._out),
            stored_bytes=len(packed) + TAG_BYTES,
            n_pages=len(raw) // self._options.page_size,
            codec=codec,
        )
        self._seal(packed, nonce=block_nonce(len(self._blocks)))
        self._blocks.append(block)

    def _compress(self, raw: bytes | memoryview) -> tuple[Codec, bytes | bytearray | memoryview]:
        begun = self._clock()
        packed = compress(self._options.codec, self._options.level, raw)
        self._costs.compress_seconds += self._clock() - begun
        return (self._options.codec, packed) if len(packed) < len(raw) else (Codec.NONE, raw)

    def _seal(self, packed: bytes | bytearray | memoryview, *, nonce: bytes, also: bytes = b"") -> None:
        begun = self._clock()
        start = len(self._out)
        self._out += bytes(len(packed) + TAG_BYTES)
        with memoryview(self._out) as whole, whole[start:] as part:
            self._sealer.seal_into(part, packed, nonce=nonce, also=also)
            self._sha256.update(part)
        self._costs.seal_seconds += self._clock() - begun

    def finish(self) -> SealedChunk:
        if self._pending:
            self._seal_pending()
        if not self._blocks:
            raise RuntimeError("a chunk has at least one page")
        digests = b"".join(self._digests)
        index_offset = len(self._out)
        self._seal_index(
            ChunkIndex(page_size=self._options.page_size, blocks=tuple(self._blocks), pgnos=self._pgnos, digests=digests)
        )
        return SealedChunk(
            data=self._out,
            sha256=self._sha256.hexdigest(),
            index_offset=index_offset,
            index_bytes=len(self._out) - index_offset,
            n_pages=len(self._pgnos),
            digests=digests,
            raw_bytes=len(self._pgnos) * self._options.page_size,
            costs=self._costs,
        )

    def _seal_index(self, index: ChunkIndex) -> None:
        raw, n_runs = encode_index(index)
        codec, packed = self._compress(raw)
        trailer = encode_trailer(
            Trailer(
                index_offset=len(self._out),
                index_stored_bytes=len(packed) + TAG_BYTES,
                n_blocks=len(index.blocks),
                n_runs=n_runs,
                n_pages=len(index.pgnos),
                index_codec=codec,
            )
        )
        assert len(trailer) == TRAILER_BYTES
        self._seal(packed, nonce=INDEX_NONCE, also=trailer)
        self._out += trailer
        self._sha256.update(trailer)
