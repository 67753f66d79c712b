"""Segments by their keys, raw and merged, of one timeline."""

from __future__ import annotations

from collections.abc import Sequence

from continuum_tasks.history import segment_names
from continuum_tasks.history.segment_names import SegmentRef, SegmentSpan
from continuum_tasks.model import TimelineId

TIMELINE = TimelineId("timeline-20261126-163300-0badcafe")


def raw(seq: int) -> SegmentRef:
    found = segment_names.parse_name(segment_names.raw_key("memory", TIMELINE, seq), size_bytes=100, modified_us=seq)
    assert found is not None
    return found


def merged(first_seq: int, last_seq: int) -> SegmentRef:
    span = SegmentSpan(
        first_seq=first_seq,
        last_seq=last_seq,
        first_commit=first_seq * 10,
        last_commit=last_seq * 10,
        first_us=first_seq * 1000,
        last_us=last_seq * 1000,
    )
    found = segment_names.parse_name(segment_names.merged_key("memory", TIMELINE, span), size_bytes=1000, modified_us=9)
    assert found is not None
    return found


def seqs(refs: Sequence[SegmentRef]) -> list[int]:
    return [seq for one in refs for seq in range(one.first_seq, one.last_seq + 1)]
