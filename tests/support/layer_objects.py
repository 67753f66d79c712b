"""Objects for the tests: honest ones from the writer, and forged ones that carry valid seals around hostile counts."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import TypeVar

from continuum_tasks.layer.format import (
    BlockEntry,
    ChunkIndex,
    ObjectContext,
    ObjectHeader,
    Trailer,
    digests_of,
    encode_header,
    encode_layer_index,
    encode_layer_trailer,
)
from continuum_tasks.layer.reader import OpenedChunk, open_chunk
from continuum_tasks.layer.seal import INDEX_NONCE, NO_COMMITMENT, Sealer, block_nonce
from continuum_tasks.layer.writer import ChunkOptions, SealedChunk, write_chunk
from continuum_tasks.model import Cipher, Codec

KEY = bytes(range(32))
OTHER_KEY = bytes(range(1, 33))
SALT = bytes(range(100, 132))
CONTEXT = ObjectContext(repository_id="repo-1", backup_id="backup-full-20260101-000000", kind="chunk", index=0)
NAME = "chunks/0007"
T = TypeVar("T")


def key_for(cipher: Cipher) -> bytes | None:
    return KEY if cipher is Cipher.AES_256_GCM else None


def options(
    codec: Codec = Codec.ZSTD, cipher: Cipher = Cipher.AES_256_GCM, *, page_size: int = 4096, level: int = 1
) -> ChunkOptions:
    return ChunkOptions(page_size=page_size, codec=codec, level=level, cipher=cipher, data_key=key_for(cipher), salt=SALT)


def text_page(page_size: int, seed: int) -> bytes:
    words = (b"memory", b"entity", b"decided", b"that", b"the", b"concept", b"link", b"%d" % seed)
    return b" ".join(Random(seed).choices(words, k=page_size))[:page_size]


def noise_page(page_size: int, seed: int) -> bytes:
    return Random(seed).randbytes(page_size)


def text(page_size: int, n_pages: int, seed: int = 1) -> bytes:
    return b"".join(text_page(page_size, seed + n) for n in range(n_pages))


def seal(runs: Iterable[tuple[int, bytes]], how: ChunkOptions, context: ObjectContext = CONTEXT) -> SealedChunk:
    return write_chunk(((first, memoryview(pages)) for first, pages in runs), context=context, options=how)


def reopen(data: bytes | bytearray, cipher: Cipher = Cipher.AES_256_GCM, context: ObjectContext = CONTEXT) -> OpenedChunk:
    return open_chunk(data, context=context, data_key=key_for(cipher), name=NAME)


def read_all(data: bytes | bytearray, cipher: Cipher = Cipher.AES_256_GCM) -> dict[int, bytes]:
    """Open an object and read every block, as anything that trusts it must."""
    return {pgno: bytes(page) for pgno, page in reopen(data, cipher).pages()}


def _same(value: T) -> T:
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgery:
    """An object made by hand with cipher none: `packed` are blocks as stored, `changed_*` lie about them."""

    pgnos: Sequence[int] = (1, 2, 3)
    page_size: int = 512
    pages: Sequence[Sequence[bytes]] = ()
    codec: Codec = Codec.NONE
    packed: Sequence[tuple[Codec, bytes]] = ()
    header: Callable[[bytes], bytes] = _same
    index: Callable[[bytes], bytes] = _same
    entry: Callable[[BlockEntry], BlockEntry] = _same
    trailer: Callable[[Trailer], Trailer] = _same
    commitment: bytes = NO_COMMITMENT

    def make(self) -> bytes:
        pages = self.pages or [[noise_page(self.page_size, pgno) for pgno in self.pgnos]]
        packed = self.packed or [(Codec.NONE, b"".join(block)) for block in pages]
        header = ObjectHeader(
            codec=self.codec, cipher=Cipher.NONE, page_size=self.page_size, salt=SALT, commitment=self.commitment
        )
        sealer = Sealer(header, CONTEXT, None)
        out = bytearray(self.header(encode_header(header)))
        entries = []
        for number, ((codec, data), block) in enumerate(zip(packed, pages, strict=True)):
            entry = BlockEntry(offset=len(out), stored_bytes=len(data) + 16, n_pages=len(block), codec=codec)
            entries.append(self.entry(entry))
            out += sealed(sealer, data, nonce=block_nonce(number))
        digests = digests_of(b"".join(page for block in pages for page in block), self.page_size)
        index = ChunkIndex(page_size=self.page_size, blocks=tuple(entries), pgnos=array("I", self.pgnos), digests=digests)
        raw, n_runs = encode_layer_index(index)
        raw = self.index(raw)
        trailer = Trailer(
            index_offset=len(out),
            index_stored_bytes=len(raw) + 16,
            n_blocks=len(entries),
            n_runs=n_runs,
            n_pages=len(self.pgnos),
            index_codec=Codec.NONE,
        )
        end = encode_layer_trailer(self.trailer(trailer))
        return bytes(out) + sealed(sealer, raw, nonce=INDEX_NONCE, also=end) + end


def sealed(sealer: Sealer, data: bytes, *, nonce: bytes, also: bytes = b"") -> bytes:
    out = bytearray(len(data) + 16)
    sealer.seal_into(memoryview(out), data, nonce=nonce, also=also)
    return bytes(out)


def lie(**fields: object) -> Callable[[Trailer], Trailer]:
    return lambda trailer: replace(trailer, **fields)
