"""What a segment says about itself. Values only; docs/SEGMENT_FORMAT.md gives them their meaning."""

from __future__ import annotations

from array import array
from dataclasses import dataclass

from continuum_tasks.layer.format import BlockEntry
from continuum_tasks.model import Commit, Mark, TimelineId


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentDraft:
    """What a segment to be written holds: whole commits, and of each its pages in `pgnos`, ascending.

    `before` is the chain before its first commit (16 zero bytes at the timeline's start), `mark` where in the source's WAL
    its end is, `source` the database file as "device:inode" in decimal, `reasons` why there was a hole, by the number of
    the resumed commit after it.
    """

    timeline: TimelineId
    first_seq: int
    last_seq: int
    page_size: int
    before: bytes
    mark: Mark
    source: str
    commits: tuple[Commit, ...]
    pgnos: array[int]
    reasons: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentHead:
    """As `SegmentDraft`, without the pages; `after` is the chain after the last commit."""

    timeline: TimelineId
    first_seq: int
    last_seq: int
    page_size: int
    before: bytes
    after: bytes
    mark: Mark
    source: str
    commits: tuple[Commit, ...]
    reasons: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentIndex:
    """Which page is where. `pgnos` and `digests` (16 bytes each) are by position: commit by commit, in each by rising pgno."""

    head: SegmentHead
    pgnos: array[int]
    digests: bytes
    blocks: tuple[BlockEntry, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedSegment:
    """A whole segment as it is stored; `index_bytes` reaches from its index to the end."""

    data: bytearray
    sha256: str
    head: SegmentHead
    index_bytes: int


def head_of(draft: SegmentDraft, after: bytes) -> SegmentHead:
    """Return the head of a segment whose chain is known."""
    return SegmentHead(
        timeline=draft.timeline,
        first_seq=draft.first_seq,
        last_seq=draft.last_seq,
        page_size=draft.page_size,
        before=draft.before,
        after=after,
        mark=draft.mark,
        source=draft.source,
        commits=draft.commits,
        reasons=draft.reasons,
    )
