"""A reader written from docs/LAYER_FORMAT.md alone: it imports nothing of the product, so both cannot share a mistake."""

from __future__ import annotations

import hashlib
import hmac
import struct
import zlib

import lz4.block
import xxhash
import zstandard
from cryptography.hazmat.primitives.ciphers.aead import AESGCM


def hkdf(ikm: bytes, salt: bytes, info: bytes) -> bytes:
    """RFC 5869 with SHA-256; 32 bytes are its first step."""
    prk = hmac.new(salt, ikm, hashlib.sha256).digest()
    return hmac.new(prk, info + b"\x01", hashlib.sha256).digest()


def expand(codec: int, data: bytes, size: int) -> bytes:
    if codec == 1:
        return zstandard.decompress(data)
    if codec == 2:
        return lz4.block.decompress(data, uncompressed_size=size)
    return zlib.decompress(data, 31) if codec == 3 else data


def read(data: bytes, *, repository_id: str, backup_id: str, kind: str, index: int, data_key: bytes | None) -> dict[int, bytes]:
    """Return the pages of an object by pgno, checking all that section 4 to 6 give to check."""
    magic, version, _codec, cipher, bits = struct.unpack(">8s4B", data[:12])
    assert magic == bytes.fromhex("8943544D4C0D0A1A") and version == 1 and data[12:16] == bytes(4)
    salt, commitment = data[16:48], data[48:80]
    assert data[80:96] == xxhash.xxh3_128(data[:80]).digest()
    index_offset, index_bytes, n_blocks, n_runs, n_pages, index_codec, end = struct.unpack(">Q4IB7s", data[-32:])
    assert end == b"CTMLEND" and index_offset + index_bytes + 32 == len(data)

    texts = [text.encode() for text in (repository_id, backup_id, kind)]
    context = b"".join(struct.pack(">H", len(text)) + text for text in texts) + struct.pack(">Q", index)
    if cipher == 1:
        assert commitment == hkdf(data_key, salt, b"continuum layer v1 key commitment")
        aead = AESGCM(hkdf(data_key, salt, b"continuum layer v1 object key" + context))
    else:
        assert commitment == bytes(32)

    def unseal(stored: bytes, nonce: bytes, also: bytes) -> bytes:
        bound = context + data[:96] + nonce + also
        if cipher == 1:
            return aead.decrypt(nonce, stored, bound)
        assert xxhash.xxh3_128(bound + stored[:-16]).digest() == stored[-16:]
        return stored[:-16]

    size = 8 * n_blocks + 8 * n_runs + 16 * n_pages
    opened = unseal(data[index_offset : index_offset + index_bytes], struct.pack(">IQ", 1, 0), data[-32:])
    table = expand(index_codec, opened, size)
    assert len(table) == size
    pgnos = [
        pgno
        for first, n in struct.iter_unpack(">II", table[8 * n_blocks : 8 * (n_blocks + n_runs)])
        for pgno in range(first, first + n)
    ]
    page_size, offset, pages = 1 << bits, 96, []
    for number, (stored_bytes, n, block_codec, _) in enumerate(struct.iter_unpack(">IHBB", table[: 8 * n_blocks])):
        packed = unseal(data[offset : offset + stored_bytes], struct.pack(">IQ", 0, number), b"")
        raw = expand(block_codec, packed, n * page_size)
        pages += [raw[at : at + page_size] for at in range(0, n * page_size, page_size)]
        offset += stored_bytes
    assert offset == index_offset and len(pages) == len(pgnos) == n_pages
    digests = table[8 * (n_blocks + n_runs) :]
    assert digests == b"".join(xxhash.xxh3_128(page).digest() for page in pages)
    return dict(zip(pgnos, pages, strict=True))
