"""Which segments become one: never what the newest reader needs, never twice for the same gain, until nothing is left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from continuum_tasks.capture.plan import compaction
from continuum_tasks.capture.plan.compaction import LONG_US, MAX_BYTES, REST_US, SECOND_US, SHORT_US, Bounds
from continuum_tasks.history.segment_names import SegmentRef
from tests.unit.history.segment_refs import merged, raw, seqs

HOUR = 472_000 * LONG_US
BOUNDS = Bounds()


def came(seq: int, at_us: int, *, size_bytes: int = 1000) -> SegmentRef:
    return replace(raw(seq), modified_us=at_us, size_bytes=size_bytes)


def each_second(n: int, *, start_us: int = HOUR, first_seq: int = 1, size_bytes: int = 1000) -> list[SegmentRef]:
    return [came(first_seq + i, start_us + i * SECOND_US, size_bytes=size_bytes) for i in range(n)]


def joined(group: Sequence[SegmentRef]) -> SegmentRef:
    """What is listed in place of a group once it was merged."""
    return replace(
        merged(group[0].first_seq, group[-1].last_seq),
        size_bytes=sum(one.size_bytes for one in group) * 9 // 10,
        first_us=compaction.seen_us(group[0]),
        last_us=compaction.seen_us(group[-1]),
    )


def applied(refs: Sequence[SegmentRef], now_us: int, bounds: Bounds = BOUNDS) -> list[SegmentRef]:
    refs = list(refs)
    for group in compaction.plan_compaction(refs, now_us=now_us, bounds=bounds).merges:
        at = refs.index(group[0])
        refs[at : at + len(group)] = [joined(group)]
    return refs


@st.composite
def lines(draw: st.DrawFn) -> list[SegmentRef]:
    """Up to forty raw segments, some seconds or hours apart, of any size, some missing."""
    seq, at_us, found = 0, HOUR, []
    for _ in range(draw(st.integers(0, 40))):
        seq += draw(st.sampled_from([1, 1, 1, 1, 1, 3]))
        at_us += draw(st.sampled_from([1, 1, 30, 300, 4000])) * SECOND_US
        found.append(came(seq, at_us, size_bytes=draw(st.sampled_from([1000, 1000, MAX_BYTES // 3, MAX_BYTES]))))
    return found


def test_ten_minutes_become_one_segment_two_minutes_after_they_are_over() -> None:
    refs = each_second(700)
    over = HOUR + SHORT_US + REST_US

    assert compaction.plan_compaction(refs, now_us=over - 1, bounds=BOUNDS).merges == ()
    assert compaction.plan_compaction(refs, now_us=over, bounds=BOUNDS).merges == (tuple(refs[:600]),)


def test_an_hour_that_is_over_becomes_one_segment_of_merged_and_raw_ones() -> None:
    refs = each_second(3700)
    now_us = HOUR + SHORT_US + REST_US
    while now_us < HOUR + LONG_US + REST_US:
        refs = applied(refs, now_us)
        now_us += SHORT_US
    assert [ref.n_seq for ref in refs[:5]] == [600] * 5

    refs = applied(refs, HOUR + LONG_US + REST_US)

    assert refs[0].n_seq == 3600
    assert len(refs) == 101


def test_the_newest_segment_and_one_alone_stay_as_they_are() -> None:
    late = HOUR + 10 * LONG_US
    assert compaction.plan_compaction([], now_us=late, bounds=BOUNDS).merges == ()
    assert compaction.plan_compaction(each_second(2), now_us=late, bounds=BOUNDS).merges == ()
    assert compaction.plan_compaction(each_second(3), now_us=late, bounds=BOUNDS).merges == (tuple(each_second(2)),)


def test_a_merged_segment_waits_for_its_hour() -> None:
    refs = applied(each_second(1300), HOUR + SHORT_US + REST_US)
    later = HOUR + 2 * SHORT_US + REST_US

    assert compaction.plan_compaction(refs, now_us=later, bounds=BOUNDS).merges == (tuple(refs[1:601]),)


def test_one_run_is_bounded_and_says_what_is_left() -> None:
    refs = [one for hour in range(5) for one in each_second(3, start_us=HOUR + hour * LONG_US, first_seq=1 + 3 * hour)]
    late = HOUR + 10 * LONG_US

    by_count = compaction.plan_compaction(refs, now_us=late, bounds=Bounds(max_merges=2))
    by_bytes = compaction.plan_compaction(refs, now_us=late, bounds=Bounds(max_read_bytes=6000))
    tiny = compaction.plan_compaction(refs, now_us=late, bounds=Bounds(max_read_bytes=1))

    assert (len(by_count.merges), by_count.n_left, by_count.read_bytes) == (2, 3, 6000)
    assert (len(by_bytes.merges), by_bytes.n_left) == (2, 3)
    assert (len(tiny.merges), tiny.n_left) == (1, 4)  # a run that does nothing would never end


@given(refs=lines(), hours=st.integers(0, 40))
def test_merging_loses_no_seq_and_comes_to_an_end(refs: list[SegmentRef], hours: int) -> None:
    now_us = HOUR + hours * LONG_US
    before = seqs(refs)
    done = refs
    for _ in range(200):
        plan = compaction.plan_compaction(done, now_us=now_us, bounds=Bounds(max_merges=3))
        for group in plan.merges:
            assert len(group) > 1
            assert seqs(group) == list(range(group[0].first_seq, group[-1].last_seq + 1))
            assert sum(one.size_bytes for one in group) <= MAX_BYTES
            assert all(compaction.seen_us(one) + REST_US < now_us for one in group)
            assert refs[-1] not in group
        if not plan.merges:
            break
        done = applied(done, now_us, Bounds(max_merges=3))
    assert not plan.merges
    assert seqs(done) == before
