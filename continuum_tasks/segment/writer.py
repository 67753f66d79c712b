"""Commits and their pages in, one sealed segment out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise

from continuum_tasks.layer.draft import ChunkOptions, ObjectDraft
from continuum_tasks.layer.format import DIGEST_BYTES, ObjectContext, digests_of, page_digest
from continuum_tasks.model import Codec
from continuum_tasks.segment.chain import chain_all
from continuum_tasks.segment.format import (
    BLOCK_BYTES,
    MAGIC,
    MAX_COMMITS,
    MAX_SEGMENT_BYTES,
    MAX_TEXT_BYTES,
    SegmentTrailer,
    encode_segment_index,
    encode_segment_trailer,
    encode_texts,
    stored_order,
)
from continuum_tasks.segment.head import SealedSegment, SegmentDraft, SegmentIndex, head_of
from continuum_tasks.segment.rules import check_draft, seqs_text


def write_segment(
    draft: SegmentDraft, pages: Iterable[memoryview], *, context: ObjectContext, options: ChunkOptions
) -> SealedSegment:
    """Seal the pages, given one by one in the order of `draft.pgnos`.

    A page's memory is read only until the next is drawn. Beside the object this takes one block when `pgnos` rise
    throughout, as those of a single commit do, else the bytes of all pages: they are stored sorted.
    Raises RuntimeError for a draft that breaks a rule, and for pages that are not what it says.
    """
    check_writable(draft, options)
    digests = bytearray()
    rises = all(one < two for one, two in pairwise(draft.pgnos))
    kept = _passing(draft, pages, digests) if rises else _sorted(draft, pages, digests)
    return seal_segment(draft, kept, digests, context=context, options=options)


def check_writable(draft: SegmentDraft, options: ChunkOptions) -> None:
    """Raise RuntimeError for a draft that no segment can hold."""
    try:
        check_draft(draft)
    except ValueError as err:
        raise RuntimeError(f"segment {seqs_text(draft)} cannot be written: {err}") from err
    raw_bytes, n_text_bytes = len(draft.pgnos) * draft.page_size, len(encode_texts(draft.reasons))
    limits = (
        (draft.page_size == options.page_size, f"pages of {draft.page_size} bytes, options for {options.page_size}"),
        (raw_bytes <= MAX_SEGMENT_BYTES, f"{raw_bytes} bytes of pages, at most {MAX_SEGMENT_BYTES} are allowed"),
        (len(draft.commits) <= MAX_COMMITS, f"{len(draft.commits)} commits, at most {MAX_COMMITS} are allowed"),
        (n_text_bytes <= MAX_TEXT_BYTES, f"{n_text_bytes} bytes of reasons, at most {MAX_TEXT_BYTES} are allowed"),
    )
    for holds, what in limits:
        if not holds:
            raise RuntimeError(f"segment {seqs_text(draft)} cannot be written: {what}")


def seal_segment(
    draft: SegmentDraft,
    kept: Iterable[memoryview],
    digests: bytes | bytearray,
    *,
    context: ObjectContext,
    options: ChunkOptions,
) -> SealedSegment:
    """Seal pages that come in the order they are stored; `digests`, by position, are whole once they have all come."""
    out = ObjectDraft(context, options, magic=MAGIC)
    _seal_blocks(out, kept)
    head = head_of(draft, chain_all(draft.before, draft.commits, draft.pgnos, bytes(digests)))
    index = SegmentIndex(head=head, pgnos=draft.pgnos, digests=bytes(digests), blocks=tuple(out.blocks))

    def trailer(offset: int, stored_bytes: int, codec: Codec) -> bytes:
        return encode_segment_trailer(
            SegmentTrailer(
                index_offset=offset,
                index_stored_bytes=stored_bytes,
                n_blocks=len(index.blocks),
                n_pages=len(index.pgnos),
                n_commits=len(head.commits),
                n_text_bytes=len(encode_texts(head.reasons)),
                index_codec=codec,
            )
        )

    index_bytes = out.seal_index(encode_segment_index(index), trailer)
    return SealedSegment(data=out.data, sha256=out.sha256, head=head, index_bytes=index_bytes)


def _seal_blocks(out: ObjectDraft, kept: Iterable[memoryview]) -> None:
    pending = bytearray()
    for page in kept:
        pending += page
        if len(pending) == BLOCK_BYTES:
            with memoryview(pending) as block:
                out.seal_block(block)
            pending.clear()
    if pending:
        with memoryview(pending) as block:
            out.seal_block(block)


def _passing(draft: SegmentDraft, pages: Iterable[memoryview], digests: bytearray) -> Iterator[memoryview]:
    """Pass pages on that come in the order they are stored."""
    for page in _checked(draft, pages):
        digests += page_digest(page)
        yield page


def _sorted(draft: SegmentDraft, pages: Iterable[memoryview], digests: bytearray) -> Iterator[memoryview]:
    page_size = draft.page_size
    raw = bytearray()
    for page in _checked(draft, pages):
        raw += page
    digests += digests_of(memoryview(raw), page_size)
    assert len(digests) == DIGEST_BYTES * len(draft.pgnos)
    view = memoryview(raw)
    for position in stored_order(draft.pgnos):
        yield view[position * page_size : (position + 1) * page_size]


def _checked(draft: SegmentDraft, pages: Iterable[memoryview]) -> Iterator[memoryview]:
    n_pages = 0
    for n_pages, page in enumerate(pages, 1):
        if len(page) != draft.page_size or n_pages > len(draft.pgnos):
            raise RuntimeError(f"segment {seqs_text(draft)}: page {n_pages} of {len(draft.pgnos)} has {len(page)} bytes")
        yield page
    if n_pages != len(draft.pgnos):
        raise RuntimeError(f"segment {seqs_text(draft)}: {n_pages} pages came where there should be {len(draft.pgnos)}")
