"""The bytes of a segment around its blocks (docs/SEGMENT_FORMAT.md). Everything here raises ValueError."""

from __future__ import annotations

import struct
from array import array
from dataclasses import dataclass

from continuum_tasks.layer.format import (
    CODECS,
    DIGEST_BYTES,
    HEADER_BYTES,
    TAG_BYTES,
    BlockEntry,
    ObjectHeader,
    check_rules,
    decode_blocks,
    encode_blocks,
    fits,
    validate_blocks,
)
from continuum_tasks.model import Codec, Mark, TimelineId
from continuum_tasks.segment.chain import ENTRY_BYTES, PGNO_BYTES, decode_commits, decode_pgnos, encode_commit, encode_pgnos
from continuum_tasks.segment.head import SegmentHead, SegmentIndex
from continuum_tasks.segment.rules import check_index

MAGIC = b"\x89CTMS\r\n\x1a"
MAX_SEGMENT_BYTES = 1 << 30
MAX_COMMITS = 1 << 18
MAX_TEXT_BYTES = 1 << 20
# Measured on what the sample writer commits at 10 a second (33 pages of 4 KiB each), blocks only, zstd 1 / zstd 3.
# 60 s, 81 MB, pages in commit order: blocks of 256 KiB 32 / 31 MB, of 1 MiB 29 / 25 MB; merged, of 16 MiB 27 / 19 MB.
# 180 s, 242 MB, sorted by page number, so that the versions of a page are neighbours; blocks of
#   64 KiB   segments of 1 s 73.2 / 72.3 MB
#   256 KiB  segments of 1 s 71.0 / 68.6 MB   of 10 s 43.7 / 42.0 MB   one of all 17.0 / 16.3 MB
#   1 MiB    segments of 1 s 71.4 / 67.0 MB   of 10 s 43.3 / 41.2 MB   one of all 16.0 / 15.0 MB (zstd 6: 14.4 MB)
# Litestream's format, LZ4 page by page, only the newest of each second: 88.4 MB. The index adds 1.1 MB. Sorting within groups
# of 4, 16, 32 or 64 MiB took 57.6, 40.8, 32.0 or 24.7 MB for all: so the whole segment is sorted. A block of 1 MiB holds 16
# versions of a page of 64 KiB, one of 256 KiB only four. Codec alone: 790 / 510 MB/s for 1 s, 1,500 / 1,300 for all.
BLOCK_BYTES = 1 << 20

_END = b"CTMSEND"
_TRAILER = struct.Struct(">QIIIIIB7s")
_HEAD = struct.Struct(">33sQQQ16s16sQQ8sIII")
_TEXT = struct.Struct(">QH")
_BLOCK_ENTRY_BYTES = 8
TRAILER_BYTES = _TRAILER.size


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentTrailer:
    index_offset: int
    index_stored_bytes: int
    n_blocks: int
    n_pages: int
    n_commits: int
    n_text_bytes: int
    index_codec: Codec

    @property
    def index_raw_bytes(self) -> int:
        tables = ENTRY_BYTES * self.n_commits + (PGNO_BYTES + DIGEST_BYTES) * self.n_pages + _BLOCK_ENTRY_BYTES * self.n_blocks
        return _HEAD.size + tables + self.n_text_bytes


def encode_segment_trailer(trailer: SegmentTrailer) -> bytes:
    counts = trailer.n_blocks, trailer.n_pages, trailer.n_commits, trailer.n_text_bytes
    return _TRAILER.pack(trailer.index_offset, trailer.index_stored_bytes, *counts, CODECS.index(trailer.index_codec), _END)


def decode_segment_trailer(data: bytes | memoryview) -> SegmentTrailer:
    """Read the last 36 bytes of a segment."""
    if len(data) < TRAILER_BYTES:
        raise ValueError(f"cut short: {len(data)} bytes where a trailer has {TRAILER_BYTES}")
    offset, stored_bytes, n_blocks, n_pages, n_commits, n_text_bytes, codec, end = _TRAILER.unpack(data[-TRAILER_BYTES:])
    if end != _END:
        raise ValueError("no end mark: cut short, or something was added")
    if codec >= len(CODECS):
        raise ValueError(f"index codec {codec} is not known")
    return SegmentTrailer(
        index_offset=offset,
        index_stored_bytes=stored_bytes,
        n_blocks=n_blocks,
        n_pages=n_pages,
        n_commits=n_commits,
        n_text_bytes=n_text_bytes,
        index_codec=CODECS[codec],
    )


def validate_segment_frame(header: ObjectHeader, trailer: SegmentTrailer, *, size_bytes: int) -> None:
    """Check rules 1 to 4, which bound the memory that opening the index can take."""
    n_blocks, n_pages, raw_bytes = trailer.n_blocks, trailer.n_pages, trailer.n_pages * header.page_size
    rules = (
        (trailer.index_offset + trailer.index_stored_bytes + TRAILER_BYTES == size_bytes, "index does not end at the trailer"),
        (trailer.index_offset >= HEADER_BYTES + (TAG_BYTES + 1) * n_blocks, "more blocks than there is room for"),
        (1 <= n_blocks <= n_pages, "number of blocks out of range"),
        (1 <= trailer.n_commits <= min(n_pages, MAX_COMMITS), "number of commits out of range"),
        (trailer.n_text_bytes <= MAX_TEXT_BYTES, "more text than a segment may have"),
        (raw_bytes <= MAX_SEGMENT_BYTES, "more pages than a segment may have"),
        (raw_bytes <= n_blocks * BLOCK_BYTES, "more pages than its blocks can hold"),
        (fits(trailer.index_codec, header, trailer.index_stored_bytes, trailer.index_raw_bytes), "index codec or length"),
    )
    check_rules(rules, f"object of {size_bytes} bytes with {n_blocks} blocks, {n_pages} pages and {trailer.n_commits} commits")


def encode_segment_index(index: SegmentIndex) -> bytes:
    """Return the index as bytes, neither compressed nor sealed."""
    commits = [encode_commit(commit) for commit in index.head.commits]
    texts = encode_texts(index.head.reasons)
    return b"".join(
        [_encode_head(index.head), *commits, encode_pgnos(index.pgnos), index.digests, encode_blocks(index.blocks), texts]
    )


def encode_texts(reasons: tuple[tuple[int, str], ...]) -> bytes:
    packed = ((number, text.encode()) for number, text in reasons)
    return b"".join([_TEXT.pack(number, len(text)) + text for number, text in packed])


def decode_segment_index(data: bytes | memoryview, header: ObjectHeader, trailer: SegmentTrailer) -> SegmentIndex:
    """Read an opened index of `trailer.index_raw_bytes` bytes and check it: what is returned obeys every rule."""
    view = memoryview(data)
    commits_at = _HEAD.size
    pgnos_at = commits_at + ENTRY_BYTES * trailer.n_commits
    digests_at = pgnos_at + PGNO_BYTES * trailer.n_pages
    blocks_at = digests_at + DIGEST_BYTES * trailer.n_pages
    texts_at = blocks_at + _BLOCK_ENTRY_BYTES * trailer.n_blocks
    index = SegmentIndex(
        head=_decode_head(view[:commits_at], header.page_size, view[commits_at:pgnos_at], _decode_texts(view[texts_at:])),
        pgnos=decode_pgnos(view[pgnos_at:digests_at]),
        digests=bytes(view[digests_at:blocks_at]),
        blocks=decode_blocks(view[blocks_at:texts_at]),
    )
    _validate_blocks(index.blocks, header, trailer)
    check_index(index)
    return index


def stored_order(pgnos: array[int]) -> array[int]:
    """Return the positions in the order their pages are stored: by page number, the versions of one as they were committed."""
    return array("I", sorted(range(len(pgnos)), key=pgnos.__getitem__))


def _encode_head(head: SegmentHead) -> bytes:
    device, inode = head.source.split(":")
    return _HEAD.pack(
        head.timeline.encode(),
        head.first_seq,
        head.last_seq,
        head.commits[0].number,
        head.before,
        head.after,
        int(device),
        int(inode),
        bytes.fromhex(head.mark.salts),
        head.mark.frame,
        *head.mark.checksum,
    )


def _decode_head(data: memoryview, page_size: int, table: memoryview, reasons: tuple[tuple[int, str], ...]) -> SegmentHead:
    timeline, first_seq, last_seq, first, before, after, device, inode, salts, frame, *checksum = _HEAD.unpack(data)
    return SegmentHead(
        timeline=TimelineId(timeline.decode("ascii")),
        first_seq=first_seq,
        last_seq=last_seq,
        page_size=page_size,
        before=before,
        after=after,
        mark=Mark(salts=salts.hex(), frame=frame, checksum=(checksum[0], checksum[1])),
        source=f"{device}:{inode}",
        commits=decode_commits(table, first),
        reasons=reasons,
    )


def _decode_texts(data: memoryview) -> tuple[tuple[int, str], ...]:
    texts: list[tuple[int, str]] = []
    at = 0
    while at < len(data):
        if len(data) - at < _TEXT.size:
            raise ValueError("the reasons of holes are cut")
        number, length = _TEXT.unpack_from(data, at)
        at += _TEXT.size + length
        if at > len(data):
            raise ValueError("the reasons of holes are cut")
        texts.append((number, bytes(data[at - length : at]).decode()))
    return tuple(texts)


def _validate_blocks(blocks: tuple[BlockEntry, ...], header: ObjectHeader, trailer: SegmentTrailer) -> None:
    """Check rules 5 and 6."""
    validate_blocks(blocks, header, block_bytes=BLOCK_BYTES)
    full = BLOCK_BYTES // header.page_size
    total = (
        (all(block.n_pages == full for block in blocks[:-1]), "are not full before the last"),
        (sum(block.stored_bytes for block in blocks) == trailer.index_offset - HEADER_BYTES, "do not fill the object"),
        (sum(block.n_pages for block in blocks) == trailer.n_pages, f"do not hold {trailer.n_pages} pages"),
    )
    check_rules(total, "the blocks")
