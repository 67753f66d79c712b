"""Adjoining segments become one. Every commit stays; versions of a page come to lie together."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise

from continuum_tasks.layer.draft import ChunkOptions
from continuum_tasks.layer.format import ObjectContext
from continuum_tasks.model import Cipher, Codec
from continuum_tasks.segment.format import (
    BLOCK_BYTES,
    MAX_COMMITS,
    MAX_SEGMENT_BYTES,
    MAX_TEXT_BYTES,
    encode_texts,
    stored_order,
)
from continuum_tasks.segment.head import SealedSegment, SegmentDraft, SegmentHead
from continuum_tasks.segment.reader import OpenedSegment, open_segment
from continuum_tasks.segment.rules import check_follows
from continuum_tasks.segment.writer import check_writable, seal_segment

OPEN_BYTES = 128 << 20


def merge(segments: Sequence[OpenedSegment], *, context: ObjectContext, options: ChunkOptions) -> SealedSegment:
    """Seal the commits of adjoining segments, all in memory, as one segment.

    Beside them and the new object this takes one open block of each, and no more than 128 MiB of those: of many segments, some
    at a time are first merged for this purpose alone. Raises ObjectDamaged when they do not adjoin or one of them is damaged,
    RuntimeError for more than one segment can hold (`n_mergeable` tells beforehand).
    """
    for one, two in pairwise(segments):
        check_follows(one.head, two.head)
    draft = _draft(segments)
    check_writable(draft, options)
    return _merge(draft, _fewer(segments, context, options), context=context, options=options)


def _merge(
    draft: SegmentDraft, segments: Sequence[OpenedSegment], *, context: ObjectContext, options: ChunkOptions
) -> SealedSegment:
    digests = b"".join([segment.index.digests for segment in segments])
    sealed = seal_segment(draft, _pages(segments, draft.pgnos), digests, context=context, options=options)
    assert sealed.head.after == segments[-1].head.after  # both chains were proven, and the one begins where the other ends
    return sealed


def _fewer(segments: Sequence[OpenedSegment], context: ObjectContext, options: ChunkOptions) -> Sequence[OpenedSegment]:
    """Return the same commits in segments of which one block each can be open at the same time.

    What is made here stays in memory and is read once, so it is not encrypted, and compressed as fast as can be.
    """
    groups = list(_groups(segments))
    if len(groups) <= 1:
        return segments
    passing = replace(options, cipher=Cipher.NONE, data_key=None, codec=Codec.ZSTD, level=1)
    made = (_merge(_draft(group), group, context=context, options=passing) for group in groups)
    return [open_segment(one.data, context=context, data_key=None, name="merged in memory") for one in made]


def _groups(segments: Sequence[OpenedSegment]) -> Iterator[list[OpenedSegment]]:
    group: list[OpenedSegment] = []
    room = OPEN_BYTES
    for segment in segments:
        n_bytes = min(BLOCK_BYTES, len(segment.index.pgnos) * segment.head.page_size)
        if n_bytes > room and group:
            yield group
            group, room = [], OPEN_BYTES
        group.append(segment)
        room -= n_bytes
    yield group


def n_mergeable(heads: Sequence[SegmentHead]) -> int:
    """Return how many of these segments, from the first on, one segment can hold: at least 1 when there is any."""
    totals = zip(
        accumulate(sum(commit.n_stored for commit in head.commits) * head.page_size for head in heads),
        accumulate(len(head.commits) for head in heads),
        accumulate(len(encode_texts(head.reasons)) for head in heads),
        strict=True,
    )
    limits = (MAX_SEGMENT_BYTES, MAX_COMMITS, MAX_TEXT_BYTES)
    return sum(all(found <= limit for found, limit in zip(total, limits, strict=True)) for total in totals)


def _draft(segments: Sequence[OpenedSegment]) -> SegmentDraft:
    first, last = segments[0].head, segments[-1].head
    pgnos = array("I")
    for segment in segments:
        pgnos.extend(segment.index.pgnos)
    return SegmentDraft(
        timeline=first.timeline,
        first_seq=first.first_seq,
        last_seq=last.last_seq,
        page_size=first.page_size,
        before=first.before,
        mark=last.mark,
        source=last.source,
        commits=tuple(commit for segment in segments for commit in segment.head.commits),
        pgnos=pgnos,
        reasons=tuple(reason for segment in segments for reason in segment.head.reasons),
    )


def _pages(segments: Sequence[OpenedSegment], pgnos: array[int]) -> Iterator[memoryview]:
    """Yield all pages in the order the merged segment stores them: each source has its own in that order already."""
    owners = array("I")
    for number, segment in enumerate(segments):
        owners.extend([number] * len(segment.index.pgnos))
    sources = [segment.pages() for segment in segments]
    for position in stored_order(pgnos):
        yield next(sources[owners[position]])[2]
