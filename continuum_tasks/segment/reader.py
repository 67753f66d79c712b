"""Open a segment and give back its pages, or name what is wrong with it."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from itertools import accumulate

from continuum_tasks.layer.codec import decompress
from continuum_tasks.layer.format import DIGEST_BYTES, HEADER_BYTES, ObjectContext, decode_object_header, digests_of
from continuum_tasks.layer.reader import check_object_key, naming
from continuum_tasks.layer.seal import INDEX_NONCE, Sealer, block_nonce
from continuum_tasks.segment.format import (
    MAGIC,
    TRAILER_BYTES,
    SegmentTrailer,
    decode_segment_index,
    decode_segment_trailer,
    encode_segment_trailer,
    stored_order,
    validate_segment_frame,
)
from continuum_tasks.segment.head import SegmentHead, SegmentIndex

_HINT = "restore a commit before this segment, or a backup made after it; another storage may have it whole"


def segment_tail(tail: bytes | memoryview) -> int:
    """Return where the index of a segment begins, told from its last 36 bytes or more. Raises ValueError."""
    return decode_segment_trailer(tail).index_offset


def open_segment(
    data: bytes | bytearray | memoryview, *, context: ObjectContext, data_key: bytes | None, name: str
) -> OpenedSegment:
    """Open a whole segment in memory. `data_key` None says that its timeline is not encrypted; `name` is for errors.

    Raises KeyWrong when another data key sealed it, ObjectDamaged (also while reading blocks) for everything else.
    """
    view = memoryview(data)
    with naming(name, hint=_HINT):
        trailer = _frame(view, view, size_bytes=len(view))
    head, tail = view[:HEADER_BYTES], view[trailer.index_offset :]
    opened = open_segment_index(head, tail, context=context, data_key=data_key, name=name, size_bytes=len(view))
    opened.data = view
    return opened


def open_segment_index(  # noqa: PLR0913 - two range reads of one object, and the four things known about it beforehand
    header_bytes: bytes | memoryview,
    tail_bytes: bytes | memoryview,
    *,
    context: ObjectContext,
    data_key: bytes | None,
    name: str,
    size_bytes: int,
) -> OpenedSegment:
    """Open a segment from its first 96 bytes and those from its index to its end; blocks are then given one by one.

    Raises as `open_segment`; `size_bytes` is what the whole object must have.
    """
    with naming(name, hint=_HINT):
        trailer = _frame(header_bytes, tail_bytes, size_bytes=size_bytes)
        if len(tail_bytes) != (expected := trailer.index_stored_bytes + TRAILER_BYTES):
            raise ValueError(f"{len(tail_bytes)} bytes from the index to the end where there should be {expected}")
        header = decode_object_header(header_bytes, magic=MAGIC)
    check_object_key(header, data_key, name, owner="timeline")
    sealer = Sealer(header, context, data_key)
    with naming(name, hint=_HINT):
        packed = sealer.open(memoryview(tail_bytes)[:-TRAILER_BYTES], nonce=INDEX_NONCE, also=encode_segment_trailer(trailer))
        raw = decompress(trailer.index_codec, packed, raw_bytes=trailer.index_raw_bytes)
        index = decode_segment_index(raw, header, trailer)
    return OpenedSegment(index, sealer, name=name)


def _frame(header_bytes: bytes | memoryview, tail_bytes: bytes | memoryview, *, size_bytes: int) -> SegmentTrailer:
    header, trailer = decode_object_header(header_bytes, magic=MAGIC), decode_segment_trailer(tail_bytes)
    validate_segment_frame(header, trailer, size_bytes=size_bytes)
    return trailer


class OpenedSegment:
    """A segment whose index is read and proven. `data` is the whole object, or None after `open_segment_index`."""

    __slots__ = ("_order", "_sealer", "_starts", "data", "index", "name")

    def __init__(self, index: SegmentIndex, sealer: Sealer, *, name: str) -> None:
        self.index = index
        self.name = name
        self.data: memoryview | None = None
        self._sealer = sealer
        self._order: array[int] | None = None
        self._starts = tuple(accumulate((block.n_pages for block in index.blocks), initial=0))

    @property
    def head(self) -> SegmentHead:
        return self.index.head

    def span(self, number: int) -> range:
        """Return the positions of the pages of commit `number`, which must be one of this segment's."""
        at = number - self.head.commits[0].number
        start = sum(commit.n_stored for commit in self.head.commits[:at])
        return range(start, start + self.head.commits[at].n_stored)

    def digest(self, position: int) -> bytes:
        return self.index.digests[position * DIGEST_BYTES : (position + 1) * DIGEST_BYTES]

    def open_block(self, number: int, stored_bytes: bytes | memoryview) -> bytes:
        """Return the pages of block `number` from its bytes as stored, every one checked. Safe in several threads."""
        entry, page_size = self.index.blocks[number], self.head.page_size
        with naming(f"{self.name}, block {number}", hint=_HINT):
            if len(stored_bytes) != entry.stored_bytes:
                raise ValueError(f"{len(stored_bytes)} bytes where there should be {entry.stored_bytes}")
            packed = self._sealer.open(memoryview(stored_bytes), nonce=block_nonce(number))
            pages = decompress(entry.codec, packed, raw_bytes=entry.n_pages * page_size)
            self._check_digests(number, digests_of(pages, page_size))
        return pages

    def block(self, number: int) -> bytes:
        """Return the pages of block `number` of a segment that is in memory."""
        if self.data is None:
            raise RuntimeError("only the index was opened: give the block's bytes to open_block")
        entry = self.index.blocks[number]
        return self.open_block(number, self.data[entry.offset : entry.offset + entry.stored_bytes])

    def block_positions(self, number: int) -> array[int]:
        """Return the positions of the pages of block `number`, in the order stored."""
        if self._order is None:
            self._order = stored_order(self.index.pgnos)
        return self._order[self._starts[number] : self._starts[number + 1]]

    def pages(self) -> Iterator[tuple[int, int, memoryview]]:
        """Yield every page as (position, pgno, its bytes), by rising pgno, the versions of one page as they were committed."""
        pgnos = self.index.pgnos
        for number in range(len(self.index.blocks)):
            for position, page in self._block_pages(number):
                yield position, pgnos[position], page

    def newest(self, upto_commit: int, after_commit: int = 0) -> dict[int, int]:
        """Return the position of the newest version of every page in commits `after_commit` + 1 to `upto_commit`, by pgno."""
        start = end = 0
        for commit in self.head.commits:
            if commit.number <= upto_commit:
                end += commit.n_stored
            if commit.number <= after_commit:
                start += commit.n_stored
        return dict(zip(self.index.pgnos[start:end], range(start, end), strict=False))

    def read(self, positions: Iterable[int]) -> Iterator[tuple[int, memoryview]]:
        """Yield the pages at these positions, by rising pgno; only blocks that hold one are opened."""
        wanted = set(positions)
        for number in range(len(self.index.blocks)):
            if not wanted.isdisjoint(self.block_positions(number)):
                for position, page in self._block_pages(number):
                    if position in wanted:
                        yield position, page

    def _block_pages(self, number: int) -> Iterator[tuple[int, memoryview]]:
        page_size, pages = self.head.page_size, memoryview(self.block(number))
        for at, position in enumerate(self.block_positions(number)):
            yield position, pages[at * page_size : (at + 1) * page_size]

    def _check_digests(self, number: int, found: bytes) -> None:
        positions = self.block_positions(number)
        if found == b"".join([self.digest(position) for position in positions]):
            return
        bad = next(
            position
            for at, position in enumerate(positions)
            if found[at * DIGEST_BYTES : (at + 1) * DIGEST_BYTES] != self.digest(position)
        )
        raise ValueError(f"page {self.index.pgnos[bad]} at position {bad} does not match its digest")
