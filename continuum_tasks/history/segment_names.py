"""Say which segments of a timeline there are and which of them count, from their names alone. Pure.

A name tells what a segment covers, so one listing is enough to plan with. It is a hint, never a proof: what a segment
holds is what its sealed index says. `seq` counts segments as they were captured, from 1; a merged one covers a range.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from continuum_tasks.model import DATABASE_NAME, TimelineId

ROOT = "segments"
MAX_SEQ = 9_999_999_999  # the ten digits of a name: 317 years at one a second

_RAW = re.compile(r"r-(\d{10})\.segment", re.ASCII)
_NUMBER = r"(0|[1-9]\d{0,18})"
_MERGED = re.compile(rf"m-(\d{{10}})-(\d{{10}})-{_NUMBER}-{_NUMBER}-{_NUMBER}-{_NUMBER}\.segment", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentRef:
    """A stored segment by its name: seq `first_seq`..`last_seq`. Times in microseconds since 1970 (UTC).

    It was written at `modified_us` by the storage's clock. `first_commit` and `last_commit`, and when these two were
    observed, are in the name of a merged one; None for one that is as it was captured.
    """

    key: str
    first_seq: int
    last_seq: int
    size_bytes: int
    modified_us: int
    first_commit: int | None = None
    last_commit: int | None = None
    first_us: int | None = None
    last_us: int | None = None

    @property
    def is_raw(self) -> bool:
        """True when it is as it was captured, one seq and nothing more in its name."""
        return self.first_commit is None

    @property
    def n_seq(self) -> int:
        return self.last_seq - self.first_seq + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentSpan:
    """What a merged segment covers: seqs, commits, and when the first and the last of them were observed."""

    first_seq: int
    last_seq: int
    first_commit: int
    last_commit: int
    first_us: int
    last_us: int


def segments_prefix(database: str, timeline: TimelineId) -> str:
    """Return what the names of all segments of a timeline begin with."""
    return f"{ROOT}/{database}/{timeline}/"


def raw_key(database: str, timeline: TimelineId, seq: int) -> str:
    """Return the name of a segment as it is captured. Raises ValueError for a seq that ten digits do not hold."""
    return f"{segments_prefix(database, timeline)}r-{_seq(seq)}.segment"


def merged_key(database: str, timeline: TimelineId, span: SegmentSpan) -> str:
    """Return the name of a merged segment. Raises ValueError for a span that goes backwards."""
    numbers = (span.first_commit, span.last_commit, span.first_us, span.last_us)
    if not _forward((span.first_seq, span.last_seq, *numbers)):
        raise ValueError(f"{span} goes backwards")
    rest = "-".join(str(number) for number in numbers)
    return f"{segments_prefix(database, timeline)}m-{_seq(span.first_seq)}-{_seq(span.last_seq)}-{rest}.segment"


def parse_name(key: str, *, size_bytes: int, modified_us: int) -> SegmentRef | None:
    """Read a name; None for what is no segment's."""
    root, _, rest = key.partition("/")
    database, _, rest = rest.partition("/")
    timeline, _, name = rest.partition("/")
    if root != ROOT or not DATABASE_NAME.fullmatch(database) or not _is_timeline(timeline):
        return None
    raw = _RAW.fullmatch(name)
    if raw is not None:
        seq = int(raw[1])
        ref = SegmentRef(key=key, first_seq=seq, last_seq=seq, size_bytes=size_bytes, modified_us=modified_us)
        return ref if seq else None
    merged = _MERGED.fullmatch(name)
    return None if merged is None else _merged(key, size_bytes, modified_us, [int(number) for number in merged.groups()])


def cover(refs: Sequence[SegmentRef]) -> tuple[SegmentRef, ...]:
    """Choose those that count, in order: none overlaps another, as many seqs as can be, of the fewest segments.

    So a merged segment stands for what it was merged from, as long as that is still there too.
    """
    starts = sorted({ref.first_seq for ref in refs})
    at_start: list[list[SegmentRef]] = [[] for _ in starts]
    for ref in refs:
        at_start[bisect_left(starts, ref.first_seq)].append(ref)
    best = [_Choice(n_seq=0, n_segments=0, ref=None, then=0)] * (len(starts) + 1)
    for index in reversed(range(len(starts))):
        best[index] = best[index + 1]  # leave all that starts here out
        for ref in at_start[index]:
            then = bisect_left(starts, ref.last_seq + 1)
            taken = _Choice(n_seq=best[then].n_seq + ref.n_seq, n_segments=best[then].n_segments + 1, ref=ref, then=then)
            best[index] = max(best[index], taken, key=_Choice.rank)
    return tuple(_path(best))


def stale(refs: Sequence[SegmentRef]) -> tuple[SegmentRef, ...]:
    """Return those that nobody reads any more: another one that counts covers all of what they cover."""
    counting = cover(refs)
    kept = {ref.key for ref in counting}
    starts = [ref.first_seq for ref in counting]

    def is_covered(ref: SegmentRef) -> bool:
        over = counting[max(0, bisect_right(starts, ref.first_seq) - 1)]
        return over.first_seq <= ref.first_seq and ref.last_seq <= over.last_seq

    return tuple(ref for ref in refs if ref.key not in kept and is_covered(ref))


def holes_in(refs: Sequence[SegmentRef]) -> tuple[tuple[int, int], ...]:
    """Return the seqs missing between those that count (`refs` as `cover` gives them): first and last of each run."""
    return tuple(
        (before.last_seq + 1, after.first_seq - 1) for before, after in pairwise(refs) if before.last_seq + 1 < after.first_seq
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Choice:
    """The best of all that starts at some place or later: how much it covers, its first segment, where it goes on."""

    n_seq: int
    n_segments: int
    ref: SegmentRef | None
    then: int

    def rank(self) -> tuple[int, int]:
        return self.n_seq, -self.n_segments


def _path(best: Sequence[_Choice]) -> Iterator[SegmentRef]:
    choice = best[0]
    while choice.ref is not None:
        yield choice.ref
        choice = best[choice.then]


def _merged(key: str, size_bytes: int, modified_us: int, numbers: Sequence[int]) -> SegmentRef | None:
    first_seq, last_seq, first_commit, last_commit, first_us, last_us = numbers
    if not first_seq or not first_commit or not _forward(numbers):
        return None
    return SegmentRef(
        key=key,
        first_seq=first_seq,
        last_seq=last_seq,
        size_bytes=size_bytes,
        modified_us=modified_us,
        first_commit=first_commit,
        last_commit=last_commit,
        first_us=first_us,
        last_us=last_us,
    )


def _forward(numbers: Sequence[int]) -> bool:
    return all(first <= last for first, last in zip(numbers[::2], numbers[1::2], strict=True))


def _seq(seq: int) -> str:
    if not 1 <= seq <= MAX_SEQ:
        raise ValueError(f"seq {seq} is not within 1 to {MAX_SEQ}")
    return f"{seq:010d}"


def _is_timeline(text: str) -> bool:
    try:
        TimelineId(text)
    except ValueError:
        return False
    return True
