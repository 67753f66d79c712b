"""A reader written from docs/SEGMENT_FORMAT.md alone: of the product it imports nothing, so both cannot share a mistake."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import xxhash
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.support.layer_stranger import expand, hkdf


@dataclass(frozen=True)
class Read:
    timeline: str
    seqs: tuple[int, int]
    chain: tuple[bytes, bytes]
    source: tuple[int, int]
    mark: tuple[bytes, int, int, int]
    commits: list[tuple[int, ...]]  # number, n_pages, n_stored, frames, times, resumed
    pages: list[dict[int, bytes]]  # of each commit, by pgno
    texts: dict[int, str]


def read(data: bytes, *, repository_id: str, timeline: str, first_seq: int, last_seq: int, data_key: bytes | None) -> Read:
    magic, version, _codec, cipher, bits = struct.unpack(">8s4B", data[:12])
    assert magic == bytes.fromhex("8943544D530D0A1A") and version == 1 and data[12:16] == bytes(4)
    salt, commitment = data[16:48], data[48:80]
    assert data[80:96] == xxhash.xxh3_128(data[:80]).digest()
    index_offset, index_bytes, n_blocks, n_pages, n_commits, n_text, index_codec, end = struct.unpack(">Q5IB7s", data[-36:])
    assert end == b"CTMSEND" and index_offset + index_bytes + 36 == len(data)

    texts = [repository_id.encode(), f"{timeline}/{first_seq}-{last_seq}".encode(), b"segment"]
    context = b"".join(struct.pack(">H", len(text)) + text for text in texts) + struct.pack(">Q", first_seq)
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

    size = 125 + 40 * n_commits + 20 * n_pages + 8 * n_blocks + n_text
    table = expand(
        index_codec, unseal(data[index_offset : index_offset + index_bytes], struct.pack(">IQ", 1, 0), data[-36:]), size
    )
    assert len(table) == size
    cuts = [0, 125, 40 * n_commits, 4 * n_pages, 16 * n_pages, 8 * n_blocks, n_text]
    cuts = [sum(cuts[: n + 1]) for n in range(len(cuts))]
    head, commit_table, pgno_table, digests, block_table, text_table = (
        table[cuts[n] : cuts[n + 1]] for n in range(len(cuts) - 1)
    )
    name, first, last, number, before, after, device, inode, salts, frame, one, two = struct.unpack(
        ">33sQQQ16s16sQQ8sIII", head
    )
    pgnos = [pgno for (pgno,) in struct.iter_unpack(">I", pgno_table)]

    page_size, offset, stored = 1 << bits, 96, []
    for n, (stored_bytes, n_in, codec, zero) in enumerate(struct.iter_unpack(">IHBB", block_table)):
        packed = unseal(data[offset : offset + stored_bytes], struct.pack(">IQ", 0, n), b"")
        raw = expand(codec, packed, n_in * page_size)
        assert zero == 0 and (n == n_blocks - 1 or len(raw) == 1048576)
        stored += [raw[at : at + page_size] for at in range(0, len(raw), page_size)]
        offset += stored_bytes
    assert offset == index_offset and len(stored) == n_pages
    by_position = dict(zip(sorted(range(n_pages), key=lambda position: (pgnos[position], position)), stored, strict=True))

    chain, at, commits, pages = before, 0, [], []
    for n, entry in enumerate(struct.iter_unpack(">IIIIQQQ", commit_table)):
        span = range(at, at + entry[1])
        here = {pgnos[position]: by_position[position] for position in span}
        chain = xxhash.xxh3_128(
            chain
            + struct.pack(">Q", number + n)
            + commit_table[40 * n : 40 * n + 40]
            + b"".join(struct.pack(">I", pgno) for pgno in here)
            + b"".join(xxhash.xxh3_128(page).digest() for page in here.values())
        ).digest()
        commits.append((number + n, *entry))
        pages.append(here)
        at = span.stop
    assert at == n_pages and chain == after
    assert digests == b"".join(xxhash.xxh3_128(page).digest() for here in pages for page in here.values())

    reasons, at = {}, 0
    while at < n_text:
        about, length = struct.unpack(">QH", text_table[at : at + 10])
        reasons[about] = text_table[at + 10 : at + 10 + length].decode()
        at += 10 + length
    return Read(
        timeline=name.decode(),
        seqs=(first, last),
        chain=(before, after),
        source=(device, inode),
        mark=(salts, frame, one, two),
        commits=commits,
        pages=pages,
        texts=reasons,
    )
