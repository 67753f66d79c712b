"""Names of segments, and which of them count, against a model that tries every choice."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from continuum_tasks.history import segment_names
from continuum_tasks.history.segment_names import SegmentRef, SegmentSpan
from tests.unit.history.segment_refs import TIMELINE, merged, raw, seqs

PREFIX = f"segments/memory/{TIMELINE}/"


def ref(first_seq: int, last_seq: int) -> SegmentRef:
    return raw(first_seq) if first_seq == last_seq else merged(first_seq, last_seq)


@st.composite
def listings(draw: st.DrawFn) -> list[SegmentRef]:
    """Up to nine segments anywhere in seq 1 to 12, overlapping as they like, each name once."""
    spans = st.tuples(st.integers(1, 12), st.integers(1, 12)).map(lambda pair: (min(pair), max(pair)))
    return [ref(*span) for span in draw(st.lists(spans, max_size=9, unique=True))]


@given(seq=st.integers(1, segment_names.MAX_SEQ))
def test_a_raw_name_reads_back(seq: int) -> None:
    found = raw(seq)

    assert (found.first_seq, found.last_seq, found.n_seq, found.is_raw) == (seq, seq, 1, True)
    assert found.last_us is found.first_commit is None
    assert found.key == f"{PREFIX}r-{seq:010d}.segment"


@given(numbers=st.lists(st.integers(1, segment_names.MAX_SEQ), min_size=6, max_size=6).map(sorted))
def test_a_merged_name_reads_back(numbers: list[int]) -> None:
    keys = ("first_seq", "last_seq", "first_commit", "last_commit", "first_us", "last_us")
    span = SegmentSpan(**dict(zip(keys, numbers, strict=True)))

    found = segment_names.parse_name(segment_names.merged_key("memory", TIMELINE, span), size_bytes=7, modified_us=8)

    assert found is not None
    assert {key: getattr(found, key) for key in keys} == dict(zip(keys, numbers, strict=True))
    assert (found.size_bytes, found.modified_us, found.is_raw) == (7, 8, False)


@pytest.mark.parametrize(
    "key",
    [
        "",
        "segments",
        f"layers/memory/{TIMELINE}/r-0000000001.segment",
        f"segments/Memory/{TIMELINE}/r-0000000001.segment",
        "segments/memory/timeline-x/r-0000000001.segment",
        f"{PREFIX}r-0000000000.segment",
        f"{PREFIX}r-1.segment",
        f"{PREFIX}r-0000000001.segment.part",
        f"{PREFIX}x/r-0000000001.segment",
        f"{PREFIX}r-000000000\u0661.segment",
        f"{PREFIX}m-0000000001-0000000002.segment",
        f"{PREFIX}m-0000000000-0000000002-1-2-3-4.segment",
        f"{PREFIX}m-0000000002-0000000001-1-2-3-4.segment",
        f"{PREFIX}m-0000000001-0000000002-2-1-3-4.segment",
        f"{PREFIX}m-0000000001-0000000002-0-1-3-4.segment",
        f"{PREFIX}m-0000000001-0000000002-1-2-4-3.segment",
        f"{PREFIX}m-0000000001-0000000002-01-2-3-4.segment",
        f"{PREFIX}m-0000000001-0000000002-1-2-3-99999999999999999999.segment",
    ],
)
def test_what_is_no_segments_name_is_left_alone(key: str) -> None:
    assert segment_names.parse_name(key, size_bytes=1, modified_us=1) is None


@pytest.mark.parametrize("seq", [0, -1, segment_names.MAX_SEQ + 1])
def test_a_seq_that_ten_digits_do_not_hold_is_refused(seq: int) -> None:
    with pytest.raises(ValueError, match=f"seq {seq} is not within"):
        segment_names.raw_key("memory", TIMELINE, seq)


def test_a_span_that_goes_backwards_is_refused() -> None:
    span = SegmentSpan(first_seq=1, last_seq=2, first_commit=5, last_commit=4, first_us=1, last_us=1)
    with pytest.raises(ValueError, match="goes backwards"):
        segment_names.merged_key("memory", TIMELINE, span)


@given(listing=listings())
@example(listing=[merged(1, 3), merged(2, 6), raw(1)])
@example(listing=[raw(n) for n in range(1, 6)] + [merged(1, 5)])
def test_the_cover_is_the_best_of_all_choices(listing: list[SegmentRef]) -> None:
    def fits(choice: Sequence[SegmentRef]) -> bool:
        return len(seqs(choice)) == len(set(seqs(choice)))

    every = (choice for n in range(len(listing) + 1) for choice in combinations(listing, n) if fits(choice))
    most, fewest = max((len(seqs(choice)), -len(choice)) for choice in every)

    found = segment_names.cover(listing)

    assert set(found) <= set(listing)
    assert seqs(found) == sorted(set(seqs(found)))
    assert (len(seqs(found)), -len(found)) == (most, fewest)


@given(listing=listings())
def test_stale_is_what_another_one_that_counts_holds_whole(listing: list[SegmentRef]) -> None:
    counting = segment_names.cover(listing)

    stale = segment_names.stale(listing)

    assert set(stale) == {
        one
        for one in listing
        if one not in counting and any(c.first_seq <= one.first_seq and one.last_seq <= c.last_seq for c in counting)
    }
    assert segment_names.cover([one for one in listing if one not in stale]) == counting  # deleting them changes nothing


@given(listing=listings())
def test_holes_are_the_seqs_missing_between(listing: list[SegmentRef]) -> None:
    counting = segment_names.cover(listing)

    holes = segment_names.holes_in(counting)

    there = seqs(counting)
    between = range(there[0], there[-1]) if there else range(0)
    assert [seq for first, last in holes for seq in range(first, last + 1)] == [seq for seq in between if seq not in there]
    assert all(first <= last for first, last in holes)
    assert all(one[1] + 1 < other[0] for one, other in pairwise(holes))
