"""Segments for the tests: honest ones from the writer, and forged ones that carry valid seals around hostile contents."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from continuum_tasks.layer.draft import ChunkOptions
from continuum_tasks.layer.format import BlockEntry, ObjectContext, ObjectHeader, digests_of, encode_header
from continuum_tasks.layer.seal import INDEX_NONCE, NO_COMMITMENT, Sealer, block_nonce
from continuum_tasks.model import Cipher, Codec, Commit, Mark, TimelineId
from continuum_tasks.segment.chain import NO_CHAIN, chain_all
from continuum_tasks.segment.format import (
    MAGIC,
    SegmentTrailer,
    encode_segment_index,
    encode_segment_trailer,
    encode_texts,
    stored_order,
)
from continuum_tasks.segment.head import SealedSegment, SegmentDraft, SegmentHead, SegmentIndex, head_of
from continuum_tasks.segment.merge import merge
from continuum_tasks.segment.reader import OpenedSegment, open_segment
from continuum_tasks.segment.writer import write_segment
from tests.support.layer_objects import KEY, SALT, key_for, noise_page, options, sealed, text_page

TIMELINE = TimelineId("timeline-20261101-120000-00c0ffee")
MARK = Mark(salts="00112233aabbccdd", frame=77, checksum=(1, 0xFFFFFFFF))
SOURCE = "2049:131337"
NAME = "segments/main/t/r-0000000001.segment"
BEGUN_US = 1_793_534_400_000_000
T = TypeVar("T")

Pages = Mapping[int, bytes]  # of one commit, by pgno

__all__ = ["KEY", "SALT", "key_for", "noise_page", "options", "sealed", "text_page"]


def context(first_seq: int = 1, last_seq: int | None = None) -> ObjectContext:
    last = first_seq if last_seq is None else last_seq
    return ObjectContext(repository_id="repo-1", backup_id=f"{TIMELINE}/{first_seq}-{last}", kind="segment", index=first_seq)


def commit(number: int, n_stored: int, **changes: Any) -> Commit:
    """Return commit `number`: an ordinary one, or the resumed one that number 1 must be."""
    first = 0 if number == 1 else 10
    plain = Commit(
        number=number,
        n_pages=100 + number,
        n_stored=n_stored,
        first_frame=first,
        last_frame=first and first + n_stored,
        observed_us=BEGUN_US + number * 1000,
        unseen_us=0 if number == 1 else 250,
        resumed=number == 1,
    )
    return replace(plain, **changes)


def draft(contents: Sequence[Pages], *, page_size: int = 512, previous: SegmentHead | None = None) -> SegmentDraft:
    """Return the draft of a segment with these commits, the first of a timeline or the next one after `previous`."""
    number, seq = (previous.commits[-1].number + 1, previous.last_seq + 1) if previous else (1, 1)
    return SegmentDraft(
        timeline=TIMELINE,
        first_seq=seq,
        last_seq=seq,
        page_size=page_size,
        before=previous.after if previous else NO_CHAIN,
        mark=replace(MARK, frame=MARK.frame + seq),
        source=SOURCE,
        commits=tuple(commit(number + n, len(pages)) for n, pages in enumerate(contents)),
        pgnos=array("I", [pgno for pages in contents for pgno in sorted(pages)]),
        reasons=((1, "capture began"),) if number == 1 else (),
    )


def views(contents: Sequence[Pages]) -> list[memoryview]:
    return [memoryview(pages[pgno]) for pages in contents for pgno in sorted(pages)]


def write(plan: SegmentDraft, pages: Sequence[memoryview], how: ChunkOptions | None = None) -> SealedSegment:
    how = how or options(page_size=plan.page_size)
    return write_segment(plan, pages, context=context(plan.first_seq, plan.last_seq), options=how)


def seal(
    contents: Sequence[Pages], *, page_size: int = 512, previous: SegmentHead | None = None, how: ChunkOptions | None = None
) -> SealedSegment:
    return write(draft(contents, page_size=page_size, previous=previous), views(contents), how)


def reopen(segment: SealedSegment, cipher: Cipher = Cipher.AES_256_GCM) -> OpenedSegment:
    head = segment.head
    return open_segment(segment.data, context=context(head.first_seq, head.last_seq), data_key=key_for(cipher), name=NAME)


def opened(data: bytes | bytearray, cipher: Cipher = Cipher.AES_256_GCM) -> OpenedSegment:
    return open_segment(data, context=context(), data_key=key_for(cipher), name=NAME)


def read_all(data: bytes | bytearray, cipher: Cipher = Cipher.AES_256_GCM) -> list[bytes]:
    """Open a segment of seq 1 and read every page, as anything that trusts it must; the pages by position."""
    return [bytes(page) for _, _, page in sorted((n, pgno, bytes(page)) for n, pgno, page in opened(data, cipher).pages())]


def contents_of(segment: OpenedSegment) -> list[dict[int, bytes]]:
    """Return what a segment holds as it was given: of each commit its pages by pgno."""
    pages = {position: (pgno, bytes(page)) for position, pgno, page in segment.pages()}
    return [dict(pages[position] for position in segment.span(commit.number)) for commit in segment.head.commits]


def line(parts: Sequence[Sequence[Pages]], *, page_size: int = 512, how: ChunkOptions | None = None) -> list[SealedSegment]:
    """Return the segments of a timeline, each with the commits of one part."""
    found: list[SealedSegment] = []
    for part in parts:
        found.append(seal(part, page_size=page_size, previous=found[-1].head if found else None, how=how))
    return found


def merged(segments: Sequence[SealedSegment], how: ChunkOptions | None = None) -> SealedSegment:
    first, last = segments[0].head, segments[-1].head
    how = how or options(page_size=first.page_size)
    return merge([reopen(one) for one in segments], context=context(first.first_seq, last.last_seq), options=how)


def _same(value: T) -> T:
    return value


SMALL: tuple[Pages, ...] = (
    {1: bytes(512)},
    {2: b"\1" * 512, 7: b"ab" * 256},
    {1: b"\2" * 512, 7: b"ac" * 256},
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgery:
    """A segment made by hand with cipher none, whose `changed` parts lie under seals and a chain that hold."""

    contents: Sequence[Pages] = SMALL
    page_size: int = 512
    codec: Codec = Codec.NONE
    head: Mapping[str, Any] = field(default_factory=dict)
    commits: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    pgnos: Sequence[int] = ()
    digests: Callable[[bytes], bytes] = _same
    after: Callable[[bytes], bytes] = _same
    packed: Sequence[tuple[Codec, bytes]] = ()
    n_pages_in: Sequence[int] = ()
    entry: Callable[[BlockEntry], BlockEntry] = _same
    header: Callable[[bytes], bytes] = _same
    index: Callable[[bytes], bytes] = _same
    trailer: Callable[[SegmentTrailer], SegmentTrailer] = _same
    commitment: bytes = NO_COMMITMENT

    def make(self) -> bytes:
        plan = draft(self.contents, page_size=self.page_size)
        commits = tuple(replace(one, **self.commits.get(one.number, {})) for one in plan.commits)
        plan = replace(plan, commits=commits, pgnos=array("I", self.pgnos or plan.pgnos), **self.head)
        header = ObjectHeader(
            codec=self.codec,
            cipher=Cipher.NONE,
            page_size=self.page_size,
            salt=SALT,
            commitment=self.commitment,
            magic=MAGIC,
        )
        sealer = Sealer(header, context(), None)
        out = bytearray(self.header(encode_header(header)))
        pages = views(self.contents)
        blocks = self._blocks(sealer, out, b"".join(pages[position] for position in stored_order(plan.pgnos)))
        digests = self.digests(digests_of(b"".join(pages), self.page_size))
        after = self.after(chain_all(plan.before, plan.commits, plan.pgnos, digests))
        index = SegmentIndex(head=head_of(plan, after), pgnos=plan.pgnos, digests=digests, blocks=blocks)
        raw = self.index(encode_segment_index(index))
        trailer = SegmentTrailer(
            index_offset=len(out),
            index_stored_bytes=len(raw) + 16,
            n_blocks=len(blocks),
            n_pages=len(plan.pgnos),
            n_commits=len(plan.commits),
            n_text_bytes=len(encode_texts(plan.reasons)),
            index_codec=Codec.NONE,
        )
        end = encode_segment_trailer(self.trailer(trailer))
        return bytes(out) + sealed(sealer, raw, nonce=INDEX_NONCE, also=end) + end

    def _blocks(self, sealer: Sealer, out: bytearray, raw: bytes) -> tuple[BlockEntry, ...]:
        counts = self.n_pages_in or [len(raw) // self.page_size]
        blocks, at = [], 0
        for number, n_pages in enumerate(counts):
            end = at + n_pages * self.page_size
            codec, data = self.packed[number] if self.packed else (Codec.NONE, raw[at:end])
            at = end
            blocks.append(self.entry(BlockEntry(offset=len(out), stored_bytes=len(data) + 16, n_pages=n_pages, codec=codec)))
            out += sealed(sealer, data, nonce=block_nonce(number))
        return tuple(blocks)


def lie(**fields: Any) -> Callable[[SegmentTrailer], SegmentTrailer]:
    return lambda trailer: replace(trailer, **fields)
