"""Segments by their keys, raw and merged, of one timeline."""

from __future__ import annotations

from collections.abc import Sequence

from continuum_tasks.model import TimelineId
from continuum_tasks.plan import segments
from continuum_tasks.plan.segments import SegmentRef, Span

TIMELINE = TimelineId("timeline-20261126-163300-0badcafe")


def raw(seq: int) -> SegmentRef:
    found = segments.parse(segments.raw_key("memory", TIMELINE, seq), size_bytes=100, modified_us=seq)
    assert found is not None
    return found


def merged(first_seq: int, last_seq: int) -> SegmentRef:
    span = Span(
        first_seq=first_seq,
        last_seq=last_seq,
        first_commit=first_seq * 10,
        last_commit=last_seq * 10,
        first_us=first_seq * 1000,
        last_us=last_seq * 1000,
    )
    found = segments.parse(segments.merged_key("memory", TIMELINE, span), size_bytes=1000, modified_us=9)
    assert found is not None
    return found


def seqs(refs: Sequence[SegmentRef]) -> list[int]:
    return [seq for one in refs for seq in range(one.first_seq, one.last_seq + 1)]
