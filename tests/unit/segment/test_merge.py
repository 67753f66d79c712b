from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from continuum_tasks.errors import ObjectDamaged
from continuum_tasks.model import Cipher, Codec, TimelineId
from continuum_tasks.segment import merge as module
from continuum_tasks.segment.chain import NO_CHAIN, chain, chain_all
from continuum_tasks.segment.head import SegmentHead
from continuum_tasks.segment.merge import merge, n_mergeable
from continuum_tasks.segment.rules import check_follows
from tests.support.segment_objects import (
    SMALL,
    Pages,
    commit,
    contents_of,
    context,
    draft,
    line,
    merged,
    noise_page,
    options,
    reopen,
    seal,
    text_page,
    views,
    write,
)

PeakBytes = Callable[[Callable[[], object]], int]


@st.composite
def parts(draw: st.DrawFn) -> tuple[int, list[list[dict[int, bytes]]]]:
    """A page size, and three segments of a few commits each."""
    page_size = draw(st.sampled_from([512, 4096, 65536]))
    numbers = st.sets(st.integers(1, 6), min_size=1, max_size=5)
    shape = draw(st.lists(st.lists(numbers, min_size=1, max_size=4), min_size=3, max_size=3))
    return page_size, [
        [{pgno: text_page(page_size, 100 * one + 10 * two + pgno) for pgno in pgnos} for two, pgnos in enumerate(part)]
        for one, part in enumerate(shape)
    ]


@settings(max_examples=40, deadline=None)
@given(given_parts=parts(), codec=st.sampled_from(list(Codec)), cipher=st.sampled_from(list(Cipher)))
def test_merging_keeps_every_commit_however_it_is_grouped(
    given_parts: tuple[int, list[list[dict[int, bytes]]]], codec: Codec, cipher: Cipher
):
    page_size, contents = given_parts
    how = options(codec, cipher, page_size=page_size)
    one, two, three = line(contents, page_size=page_size, how=how)

    def joined(*segments):
        return merge(
            [reopen(segment, cipher) for segment in segments],
            context=context(segments[0].head.first_seq, segments[-1].head.last_seq),
            options=how,
        )

    at_once, left, right = joined(one, two, three), joined(joined(one, two), three), joined(one, joined(two, three))

    assert at_once.data == left.data == right.data
    assert contents_of(reopen(at_once, cipher)) == [pages for part in contents for pages in part]
    assert at_once.head == left.head == right.head
    assert at_once.head == replace(
        three.head,
        first_seq=1,
        before=NO_CHAIN,
        commits=one.head.commits + two.head.commits + three.head.commits,
        reasons=one.head.reasons,
    )
    written_at_once = write(
        replace(draft([pages for part in contents for pages in part], page_size=page_size), last_seq=3, mark=three.head.mark),
        views([pages for part in contents for pages in part]),
        how,
    )
    assert written_at_once.data == at_once.data


def test_merging_takes_less_room_the_more_versions_come_together():
    base = {pgno: noise_page(4096, pgno) for pgno in range(1, 65)}
    contents = [[{pgno: bytes([n]) + page[1:] for pgno, page in base.items()}] for n in range(20)]
    segments = line(contents, page_size=4096)

    assert len(merged(segments).data) * 10 < sum(len(segment.data) for segment in segments)


def test_merging_holds_one_block_of_each_segment_at_a_time(peak_bytes: PeakBytes):
    base = {pgno: noise_page(4096, pgno) for pgno in range(1, 2049)}  # 8 MiB
    contents = [[{pgno: bytes([n]) + page[1:] for pgno, page in base.items()}] for n in range(4)]
    opened = [reopen(segment) for segment in line(contents, page_size=4096)]

    peak = peak_bytes(lambda: merge(opened, context=context(1, 4), options=options()))

    assert peak < 20 << 20  # the new object has 8 MiB, the pages of all 32 MiB


def test_of_many_segments_a_few_at_a_time_are_open(peak_bytes: PeakBytes, monkeypatch: pytest.MonkeyPatch):
    base = {pgno: noise_page(4096, pgno) for pgno in range(1, 129)}  # half a MiB
    contents = [[{pgno: bytes([n]) + page[1:] for pgno, page in base.items()}] for n in range(48)]
    opened = [reopen(segment) for segment in line(contents, page_size=4096)]
    how = options()

    at_once = merge(opened, context=context(1, 48), options=how)
    monkeypatch.setattr(module, "OPEN_BYTES", 4 << 20)
    found = []
    peak = peak_bytes(lambda: found.append(merge(opened, context=context(1, 48), options=how)))

    assert found[0].data == at_once.data
    assert peak < 14 << 20  # the pages of all are 24 MiB
    monkeypatch.setattr(module, "OPEN_BYTES", 1)
    assert merge(opened[:3], context=context(1, 3), options=how).head.after == opened[2].head.after


def test_one_segment_merges_into_itself():
    one = seal(SMALL)

    assert merged([one]).head == one.head


def test_segments_that_do_not_adjoin_are_not_merged():
    one, _, three = line([SMALL, SMALL, SMALL])

    with pytest.raises(ObjectDamaged, match="segment 3 does not follow segment 1: segments between them are missing"):
        merged([one, three])
    with pytest.raises(ObjectDamaged, match="segment 1 does not follow segment 3"):
        merged([three, one])


def test_a_damaged_source_ends_the_merge():
    one, two = line([SMALL, SMALL])
    second = reopen(two)
    two.data[second.index.blocks[0].offset] ^= 1

    with pytest.raises(ObjectDamaged, match="block 0"):
        merge([reopen(one), second], context=context(1, 2), options=options(page_size=512))


def test_options_for_another_page_size_are_misuse():
    with pytest.raises(RuntimeError, match="pages of 512 bytes, options for 4096"):
        merged(line([SMALL, SMALL]), options(page_size=4096))


def test_how_many_segments_one_can_hold_is_known_beforehand(monkeypatch: pytest.MonkeyPatch):
    heads = [segment.head for segment in line([SMALL, SMALL, SMALL])]
    assert (n_mergeable(heads), n_mergeable(heads[:1]), n_mergeable([])) == (3, 1, 0)

    for name, limit, fits in (
        ("MAX_SEGMENT_BYTES", 5 * 512 * 2, 2),
        ("MAX_SEGMENT_BYTES", 5 * 512 * 2 - 1, 1),
        ("MAX_COMMITS", 8, 2),
        ("MAX_TEXT_BYTES", 23, 3),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, limit)
            assert n_mergeable(heads) == fits


def test_a_chain_is_the_same_commit_by_commit_and_all_at_once():
    index = reopen(seal(SMALL)).index
    before, at = NO_CHAIN, 0
    for one in index.head.commits:
        end = at + one.n_stored
        before = chain(before, one, index.pgnos[at:end], index.digests[at * 16 : end * 16])
        at = end

    assert before == index.head.after == chain_all(NO_CHAIN, index.head.commits, index.pgnos, index.digests)


@pytest.mark.parametrize(
    "changes",
    [
        {"number": 3},
        {"n_pages": 5},
        {"first_frame": 9},
        {"last_frame": 30},
        {"observed_us": 7},
        {"unseen_us": 7},
        {"resumed": True},
    ],
    ids=str,
)
def test_every_field_of_a_commit_is_in_the_chain(changes: dict[str, int]):
    plain = commit(2, 2)

    def of(changed, pgnos=(1, 2), digests=bytes(32), before=NO_CHAIN):
        return chain(before, changed, pgnos, digests)

    assert of(plain) != of(replace(plain, **changes))
    assert len({of(plain), of(plain, (1, 3)), of(plain, (1, 2), b"\1" * 32), of(plain, (1, 2), bytes(32), b"\1" * 16)}) == 4


def following() -> tuple[SegmentHead, SegmentHead]:
    one, two = line([SMALL, SMALL])
    return one.head, two.head


def test_a_segment_follows_the_one_before_it():
    one, two = following()

    check_follows(None, one)
    check_follows(one, two)
    check_follows(merged(line([SMALL, SMALL])).head, line([SMALL, SMALL, SMALL])[2].head)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        (
            {"timeline": TimelineId("timeline-20261101-120000-00c0ffef")},
            "that is of timeline timeline-20261101-120000-00c0ffee",
        ),
        ({"page_size": 1024}, "pages of 1024 bytes after pages of 512"),
        ({"first_seq": 3, "last_seq": 3}, "segments between them are missing"),
        ({"first_seq": 1}, "segment 1-2 does not follow segment 1: .*there twice"),
        ({"commits": (commit(5, 1),)}, "commit 5 after commit 3"),
        ({"commits": (commit(4, 1, observed_us=1),)}, "commit 4 was seen before commit 3"),
        ({"before": b"\1" * 16}, "another past"),
    ],
    ids=str,
)
def test_a_segment_that_does_not_follow_is_named(changes: dict[str, object], match: str):
    one, two = following()

    with pytest.raises(ObjectDamaged, match=match) as caught:
        check_follows(one, replace(two, **changes))
    assert caught.value.hint


def test_a_timeline_begins_with_its_first_segment():
    _, two = following()

    with pytest.raises(ObjectDamaged, match="segment 2 does not follow the timeline's start: it is not the first"):
        check_follows(None, two)


def test_pages_of_a_commit_are_found_by_its_number():
    opened = reopen(seal(SMALL))

    assert [opened.span(number) for number in (1, 2, 3)] == [range(1), range(1, 3), range(3, 5)]


def test_resumed_commits_keep_their_reasons_through_a_merge():
    first, last = line([SMALL, SMALL])[0], SMALL
    plan = draft(last, previous=first.head)
    hole = replace(plan.commits[1], first_frame=0, last_frame=0, resumed=True, unseen_us=900)
    plan = replace(plan, commits=(plan.commits[0], hole, plan.commits[2]), reasons=((5, "the log was gone: \xe9"),))
    contents: list[Pages] = [*SMALL, *last]

    both = reopen(merged([first, write(plan, views(last))]))

    assert both.head.reasons == ((1, "capture began"), (5, "the log was gone: \xe9"))
    assert both.head.commits[4] == hole
    assert contents_of(both) == contents
