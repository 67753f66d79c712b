"""The bytes of a chunk object around its sealed parts, and every rule about them.

docs/LAYER_FORMAT.md is the specification; names and numbering of the rules are its. Everything here raises ValueError.
"""

from __future__ import annotations

import hashlib
import struct
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise

from xxhash import xxh3_128_digest

from continuum_tasks.model import Cipher, Codec

VERSION = 1
BLOCK_BYTES = 256 * 1024  # 64 KiB compresses 3 % worse, 1 MiB no better
MAX_CHUNK_BYTES = 1 << 30
MAX_PGNO = 0xFFFFFFFE
LOCK_OFFSET = 0x40000000
SALT_BYTES = 32
TAG_BYTES = 16

MAGIC = b"\x89CTML\r\n\x1a"
CODECS = (Codec.NONE, Codec.ZSTD, Codec.LZ4, Codec.GZIP)
"""A codec's place here is its number in a file."""
_END = b"CTMLEND"
_CIPHERS = (Cipher.NONE, Cipher.AES_256_GCM)
_HEADER = struct.Struct(">8sBBBB4x32s32s")
_TRAILER = struct.Struct(">QIIIIB7s")
_BLOCK = struct.Struct(">IHBx")
_RUN = struct.Struct(">II")
HEADER_BYTES = _HEADER.size + 16
TRAILER_BYTES = _TRAILER.size


class NewerVersion(ValueError):
    """An object whose header is whole and says a version that is not known here."""

    def __init__(self, found: int) -> None:
        super().__init__(f"version {found}, {VERSION} is the newest that is read")
        self.found = found


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectContext:
    """What an object is bound to, beside its own bytes: the same bytes under another context do not open."""

    repository_id: str
    backup_id: str
    kind: str
    index: int

    def encode(self) -> bytes:
        """Return the context as bytes no other context has: every text has its length in front."""
        texts = (text.encode() for text in (self.repository_id, self.backup_id, self.kind))
        return b"".join(len(text).to_bytes(2, "big") + text for text in texts) + self.index.to_bytes(8, "big")


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectHeader:
    """The first 96 bytes of an object; `magic` says what kind it is of: one with another shares the rest of the header."""

    codec: Codec
    cipher: Cipher
    page_size: int
    salt: bytes
    commitment: bytes
    magic: bytes = MAGIC


@dataclass(frozen=True, slots=True, kw_only=True)
class Trailer:
    index_offset: int
    index_stored_bytes: int
    n_blocks: int
    n_runs: int
    n_pages: int
    index_codec: Codec

    @property
    def index_raw_bytes(self) -> int:
        return _BLOCK.size * self.n_blocks + _RUN.size * self.n_runs + DIGEST_BYTES * self.n_pages


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockEntry:
    """Where a block lies in the object, tag included, and what it holds."""

    offset: int
    stored_bytes: int
    n_pages: int
    codec: Codec


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkIndex:
    """Which page is where: `pgnos` and `digests` (16 bytes each) are in the order of the pages in the blocks."""

    page_size: int
    blocks: tuple[BlockEntry, ...]
    pgnos: array[int]
    digests: bytes


def lock_page(page_size: int) -> int:
    """Return the pgno of the page that holds byte 0x40000000: SQLite never uses it, we never store it."""
    return LOCK_OFFSET // page_size + 1


def encode_header(header: ObjectHeader) -> bytes:
    codes = CODECS.index(header.codec), _CIPHERS.index(header.cipher), header.page_size.bit_length() - 1
    start = _HEADER.pack(header.magic, VERSION, *codes, header.salt, header.commitment)
    return start + xxh3_128_digest(start)


def decode_object_header(data: bytes | memoryview, *, magic: bytes = MAGIC) -> ObjectHeader:
    """Read the first 96 bytes of an object that begins with this magic. Raises NewerVersion, ValueError."""
    if len(data) < HEADER_BYTES:
        raise ValueError(f"cut short: {len(data)} bytes where a header has {HEADER_BYTES}")
    start = bytes(data[: _HEADER.size])
    found, version, codec, cipher, page_bits, salt, commitment = _HEADER.unpack(start)
    if found != magic:
        raise ValueError("another kind of object: the first 8 bytes are not its mark")
    if xxh3_128_digest(start) != data[_HEADER.size : HEADER_BYTES]:
        raise ValueError("the header does not match its check")
    if version > VERSION:  # after the check: a flipped bit is damage
        raise NewerVersion(version)
    if version < 1:
        raise ValueError("version 0 was never written")
    if codec >= len(CODECS) or cipher >= len(_CIPHERS) or not 9 <= page_bits <= 16 or any(start[12:16]):
        raise ValueError(f"header has codec {codec}, cipher {cipher}, page size 2**{page_bits} or reserved bytes out of range")
    return ObjectHeader(
        codec=CODECS[codec],
        cipher=_CIPHERS[cipher],
        page_size=1 << page_bits,
        salt=salt,
        commitment=commitment,
        magic=magic,
    )


def encode_layer_trailer(trailer: Trailer) -> bytes:
    counts = trailer.n_blocks, trailer.n_runs, trailer.n_pages
    return _TRAILER.pack(trailer.index_offset, trailer.index_stored_bytes, *counts, CODECS.index(trailer.index_codec), _END)


def decode_layer_trailer(data: bytes | memoryview) -> Trailer:
    """Read the last 32 bytes of an object."""
    if len(data) < TRAILER_BYTES:
        raise ValueError(f"cut short: {len(data)} bytes where a trailer has {TRAILER_BYTES}")
    offset, stored_bytes, n_blocks, n_runs, n_pages, codec, end = _TRAILER.unpack(data[-TRAILER_BYTES:])
    if end != _END:
        raise ValueError("no end mark: cut short, or something was added")
    if codec >= len(CODECS):
        raise ValueError(f"index codec {codec} is not known")
    return Trailer(
        index_offset=offset,
        index_stored_bytes=stored_bytes,
        n_blocks=n_blocks,
        n_runs=n_runs,
        n_pages=n_pages,
        index_codec=CODECS[codec],
    )


def runs_of(pgnos: array[int]) -> list[tuple[int, int]]:
    """Return (first pgno, n_pages) for every stretch of consecutive page numbers, in the order given."""
    starts = [0, *(at for at, (one, two) in enumerate(pairwise(pgnos), 1) if two != one + 1)]
    return [(pgnos[start], end - start) for start, end in pairwise([*starts, len(pgnos)])]


def encode_blocks(blocks: Sequence[BlockEntry]) -> bytes:
    """Return the table of blocks, 8 bytes each."""
    return b"".join([_BLOCK.pack(block.stored_bytes, block.n_pages, CODECS.index(block.codec)) for block in blocks])


def encode_layer_index(index: ChunkIndex) -> tuple[bytes, int]:
    """Return the index as bytes, neither compressed nor sealed, and its number of runs."""
    runs = runs_of(index.pgnos)
    return b"".join(
        [encode_blocks(index.blocks), struct.pack(f">{2 * len(runs)}I", *chain.from_iterable(runs)), index.digests]
    ), len(runs)


def decode_layer_index(data: bytes | memoryview, header: ObjectHeader, trailer: Trailer) -> ChunkIndex:
    """Read an opened index of `trailer.index_raw_bytes` bytes and check it: what is returned obeys every rule."""
    view = memoryview(data)
    runs_at = _BLOCK.size * trailer.n_blocks
    digests_at = runs_at + _RUN.size * trailer.n_runs
    index = ChunkIndex(
        page_size=header.page_size,
        blocks=decode_blocks(view[:runs_at]),
        pgnos=_decode_runs(view[runs_at:digests_at], trailer.n_pages, lock_page(header.page_size)),
        digests=bytes(view[digests_at:]),
    )
    validate_index(index, header, trailer)
    return index


def decode_blocks(data: memoryview) -> tuple[BlockEntry, ...]:
    """Read a table of blocks that lie one after the other behind the header."""
    blocks: list[BlockEntry] = []
    offset = HEADER_BYTES
    for at in range(0, len(data), _BLOCK.size):
        stored_bytes, n_pages, codec = _BLOCK.unpack_from(data, at)
        if codec >= len(CODECS) or data[at + _BLOCK.size - 1]:
            raise ValueError(f"block {len(blocks)} has codec {codec} or a reserved byte out of range")
        blocks.append(BlockEntry(offset=offset, stored_bytes=stored_bytes, n_pages=n_pages, codec=CODECS[codec]))
        offset += stored_bytes
    return tuple(blocks)


def _decode_runs(data: memoryview, n_pages: int, locked: int) -> array[int]:
    """Rules 6 to 8 about runs, checked before their pages are counted out: a run may claim four thousand million."""
    runs = list(_RUN.iter_unpack(data))
    if sum(length for _, length in runs) != n_pages:
        raise ValueError(f"the runs do not hold {n_pages} pages")
    for first, length in runs:
        if not 1 <= first <= first + length - 1 <= MAX_PGNO or first <= locked < first + length:
            raise ValueError(f"run of {length} pages from page {first} is out of range or holds the lock page")
    if any(first + length == following for (first, length), (following, _) in pairwise(runs)):
        raise ValueError("two runs are one")
    if any(first + length > following for (first, length), (following, _) in pairwise(sorted(runs))):
        raise ValueError("a page is there twice")
    pgnos = array("I")
    for first, length in runs:
        pgnos.extend(range(first, first + length))
    return pgnos


def validate_layer_frame(header: ObjectHeader, trailer: Trailer, *, size_bytes: int) -> None:
    """Check rules 1 to 4, which bound the memory that opening the index can take."""
    n_blocks, n_pages, raw_bytes = trailer.n_blocks, trailer.n_pages, trailer.n_pages * header.page_size
    rules = (
        (trailer.index_offset + trailer.index_stored_bytes + TRAILER_BYTES == size_bytes, "index does not end at the trailer"),
        (trailer.index_offset >= HEADER_BYTES + (TAG_BYTES + 1) * n_blocks, "more blocks than there is room for"),
        (1 <= n_blocks <= n_pages, "number of blocks out of range"),
        (1 <= trailer.n_runs <= n_pages, "number of runs out of range"),
        (raw_bytes <= MAX_CHUNK_BYTES, "more pages than an object may have"),
        (raw_bytes <= n_blocks * BLOCK_BYTES, "more pages than its blocks can hold"),
        (fits(trailer.index_codec, header, trailer.index_stored_bytes, trailer.index_raw_bytes), "index codec or length"),
    )
    check_rules(rules, f"object of {size_bytes} bytes with {n_blocks} blocks and {n_pages} pages")


def validate_index(index: ChunkIndex, header: ObjectHeader, trailer: Trailer) -> None:
    """Check rules 5 and 6 (7 to 9 are checked while decoding)."""
    validate_blocks(index.blocks, header, block_bytes=BLOCK_BYTES)
    total = (
        (sum(block.stored_bytes for block in index.blocks) == trailer.index_offset - HEADER_BYTES, "do not fill the object"),
        (sum(block.n_pages for block in index.blocks) == trailer.n_pages, f"do not hold {trailer.n_pages} pages"),
    )
    check_rules(total, "the blocks")


def validate_blocks(blocks: Sequence[BlockEntry], header: ObjectHeader, *, block_bytes: int) -> None:
    """Check rule 5, with blocks of at most `block_bytes` bytes of pages."""
    for number, block in enumerate(blocks):
        raw_bytes = block.n_pages * header.page_size
        rules = (
            (1 <= raw_bytes <= block_bytes, "number of pages out of range"),
            (fits(block.codec, header, block.stored_bytes, raw_bytes), "codec or length out of range"),
        )
        check_rules(rules, f"block {number}")


def fits(codec: Codec, header: ObjectHeader, stored_bytes: int, raw_bytes: int) -> bool:
    """Tell whether a sealed part of this codec and length can hold so many bytes (rules 4 and 5)."""
    if codec is Codec.NONE:
        return stored_bytes - TAG_BYTES == raw_bytes
    return codec is header.codec and 1 <= stored_bytes - TAG_BYTES < raw_bytes


def check_rules(rules: tuple[tuple[bool, str], ...], where: str) -> None:
    """Raise ValueError naming the first rule that does not hold."""
    for holds, what in rules:
        if not holds:
            raise ValueError(f"{where}: {what}")


DIGEST_BYTES = 16


ZERO_DIGEST = bytes(DIGEST_BYTES)


def page_digest(page: memoryview | bytes) -> bytes:
    """Return the 16 bytes of xxh3_128, big-endian. Not cryptographic: see the threat notes in docs/LAYER_FORMAT.md."""
    return xxh3_128_digest(page)


def digests_of(pages: memoryview | bytes, page_size: int) -> bytes:
    """Return the digests of whole pages that lie one after the other, 16 bytes each."""
    view = memoryview(pages)
    return b"".join([xxh3_128_digest(view[at : at + page_size]) for at in range(0, len(view), page_size)])


def digest_root(digests: Iterable[bytes | memoryview]) -> str:
    """Return the hex SHA-256 over all page digests in pgno order, given in pieces of any size."""
    total = hashlib.sha256()
    for piece in digests:
        total.update(piece)
    return total.hexdigest()
