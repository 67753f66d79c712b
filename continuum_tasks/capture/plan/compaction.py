"""Decide which segments of a timeline become one. Pure.

Time is cut into tens of minutes and hours. What was shipped within one that is over becomes one segment, so every byte is
rewritten twice at most, however often this runs: first with its ten minutes, then with its hour. Commit boundaries stay.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from continuum_tasks.history.segment_names import SegmentRef

SECOND_US = 1_000_000
SHORT_US = 600 * SECOND_US
LONG_US = 3600 * SECOND_US
REST_US = 120 * SECOND_US  # clocks of writers and storage differ; and the newest are still asked for one by one
MAX_BYTES = 64 * 1024**2  # a restore holds one segment in memory, a merge two of this


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """The most that one run does: how many merges, and how many sealed bytes it reads for them."""

    max_merges: int = 64
    max_read_bytes: int = 1024**3


@dataclass(frozen=True, slots=True, kw_only=True)
class CompactionPlan:
    """`merges`: each becomes one segment, oldest first. `n_left`: how many more the next run would find."""

    merges: tuple[tuple[SegmentRef, ...], ...]
    n_left: int

    @property
    def read_bytes(self) -> int:
        return sum(ref.size_bytes for merge in self.merges for ref in merge)


def plan_compaction(refs: Sequence[SegmentRef], *, now_us: int, bounds: Bounds) -> CompactionPlan:
    """Plan the merging of one timeline. `refs` as `segment_names.cover` gives them; `now_us` by the storage's clock.

    The newest segment stays as it was captured: it is what a second writer stumbles over.
    """
    wanted = [group for group in _groups(refs[:-1], now_us) if len(group) > 1]
    taken: list[tuple[SegmentRef, ...]] = []
    n_bytes = 0
    for group in wanted[: bounds.max_merges]:
        n_bytes += sum(ref.size_bytes for ref in group)
        if taken and n_bytes > bounds.max_read_bytes:
            break
        taken.append(group)
    return CompactionPlan(merges=tuple(taken), n_left=len(wanted) - len(taken))


def _groups(refs: Sequence[SegmentRef], now_us: int) -> Iterator[tuple[SegmentRef, ...]]:
    """Cut into runs that adjoin, lie in one stretch of time that is over, and fit one segment."""
    group: list[SegmentRef] = []
    for ref in refs:
        if group and not _joins(group, ref, now_us):
            yield tuple(group)
            group = []
        group.append(ref)
    if group:
        yield tuple(group)


def _joins(group: Sequence[SegmentRef], ref: SegmentRef, now_us: int) -> bool:
    stretch = _stretch(ref, now_us)
    if stretch is None or stretch != _stretch(group[-1], now_us) or group[-1].last_seq + 1 != ref.first_seq:
        return False
    return sum(one.size_bytes for one in group) + ref.size_bytes <= MAX_BYTES


def _stretch(ref: SegmentRef, now_us: int) -> tuple[int, int] | None:
    """Return the hour it lies in when that is over, else for a raw one its ten minutes; None when it has to wait."""
    at_us = seen_us(ref)
    for length_us in (LONG_US, SHORT_US) if ref.is_raw else (LONG_US,):
        number = at_us // length_us
        if (number + 1) * length_us + REST_US <= now_us:
            return length_us, number
    return None


def seen_us(ref: SegmentRef) -> int:
    """Return when its last commit was there: as its name says, or for a raw one when it came, which was a little later."""
    return ref.modified_us if ref.last_us is None else ref.last_us
