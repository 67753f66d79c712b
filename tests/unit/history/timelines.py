"""Timelines made of nothing but what plans look at: commits, holes, the segments they lie in, backups that stand on them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hypothesis import strategies as st

from continuum_tasks.history import segment_names
from continuum_tasks.history.segment_names import SegmentRef, SegmentSpan
from continuum_tasks.model import Backup, Commit, Position, TimelineId
from tests.unit.history.segment_refs import raw
from tests.unit.retention.plan.rows import START, backup

EPOCH_US = 1_795_000_000_000_000
SECOND_US = 1_000_000


def timeline(n: int = 0) -> TimelineId:
    return TimelineId(f"timeline-20261126-{n:06d}-0badcafe")


def commit(number: int, observed_us: int, *, unseen_us: int = 1000, resumed: bool = False) -> Commit:
    return Commit(
        number=number,
        n_pages=10,
        n_stored=1,
        first_frame=0 if resumed else number,
        last_frame=0 if resumed else number,
        observed_us=observed_us,
        unseen_us=unseen_us,
        resumed=resumed,
    )


@st.composite
def histories(draw: st.DrawFn, *, start_us: int = EPOCH_US, most: int = 14) -> list[Commit]:
    """Commits 1, 2, ... at instants that never decrease, some behind a hole."""
    made = [commit(1, start_us, unseen_us=0, resumed=True)]
    for number in range(2, draw(st.integers(1, most)) + 1):
        gap = draw(st.integers(0, 6)) * SECOND_US
        resumed = draw(st.integers(0, 4)) == 0
        unseen = draw(st.integers(0, gap)) if resumed else min(gap, 1000)
        made.append(commit(number, made[-1].observed_us + gap, unseen_us=unseen, resumed=resumed))
    return made


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """One segment: its name as listed, and the commits in it."""

    ref: SegmentRef
    commits: tuple[Commit, ...]


def _ref(seq: int, commits: tuple[Commit, ...], *, is_raw: bool) -> SegmentRef:
    first, last = commits[0], commits[-1]
    if is_raw:
        return replace(raw(seq), modified_us=last.observed_us + 10)
    span = SegmentSpan(
        first_seq=seq,
        last_seq=seq,
        first_commit=first.number,
        last_commit=last.number,
        first_us=first.observed_us,
        last_us=last.observed_us,
    )
    found = segment_names.parse_name(segment_names.merged_key("memory", timeline(), span), size_bytes=100, modified_us=0)
    assert found is not None
    return found


@st.composite
def stored(draw: st.DrawFn, commits: list[Commit]) -> list[Stored]:
    """Cut a history into segments, some of them raw."""
    found, at, seq = [], 0, 1
    while at < len(commits):
        n = draw(st.integers(1, 4))
        inside = tuple(commits[at : at + n])
        found.append(Stored(ref=_ref(seq, inside, is_raw=draw(st.integers(0, 3)) == 0), commits=inside))
        at, seq = at + n, seq + 1
    return found


@st.composite
def standing(draw: st.DrawFn, n_commits: int, *, on: TimelineId | None = None) -> list[Backup]:
    """Up to six backups that stand somewhere on a timeline, or nowhere; some proven, some damaged."""
    found = []
    for n in range(draw(st.integers(0, 6))):
        at = draw(st.integers(1, n_commits))
        position = Position(timeline=on or timeline(), commit=at, settled=min(n_commits, at + draw(st.integers(0, 2))))
        verdict = draw(st.sampled_from(["proven", "proven", "new", "damaged", "elsewhere"]))
        found.append(
            backup(
                n,
                position=None if verdict == "elsewhere" else position,
                verified_at=START if verdict == "proven" else None,
                failed_at=START if verdict == "damaged" else None,
            )
        )
    return found
