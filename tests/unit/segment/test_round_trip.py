from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, replace
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from continuum_tasks.layer.format import HEADER_BYTES, digests_of, lock_page, page_digest
from continuum_tasks.model import Cipher, Codec
from continuum_tasks.segment import writer
from continuum_tasks.segment.format import BLOCK_BYTES, MAX_SEGMENT_BYTES, TRAILER_BYTES
from continuum_tasks.segment.reader import open_segment_index, segment_tail
from tests.support.segment_objects import (
    MARK,
    NAME,
    SMALL,
    SOURCE,
    TIMELINE,
    Pages,
    commit,
    contents_of,
    context,
    draft,
    key_for,
    noise_page,
    options,
    reopen,
    seal,
    text_page,
    views,
    write,
)
from tests.unit.segment import stranger

PAGE_SIZES = [1 << bits for bits in range(9, 17)]
PeakBytes = Callable[[Callable[[], object]], int]


@st.composite
def histories(draw: st.DrawFn) -> tuple[int, list[dict[int, bytes]]]:
    """A page size, and commits of text and noise pages that often write a page again."""
    page_size = draw(st.sampled_from(PAGE_SIZES))
    far = lock_page(page_size)
    numbers = st.sets(st.sampled_from([*range(1, 9), far - 1, far + 1, 4294967294]), min_size=1, max_size=6)
    commits = []
    for seed, pgnos in enumerate(draw(st.lists(numbers, min_size=1, max_size=8))):
        make = noise_page if draw(st.booleans()) else text_page
        commits.append({pgno: make(page_size, seed + pgno % 7) for pgno in pgnos})
    return page_size, commits


@settings(max_examples=60, deadline=None)
@given(history=histories(), codec=st.sampled_from(list(Codec)), cipher=st.sampled_from(list(Cipher)))
def test_commits_come_back_and_a_reader_written_from_the_document_agrees(
    history: tuple[int, list[dict[int, bytes]]], codec: Codec, cipher: Cipher
):
    page_size, commits = history

    segment = seal(commits, page_size=page_size, how=options(codec, cipher, page_size=page_size))

    opened = reopen(segment, cipher)
    assert contents_of(opened) == commits
    assert opened.head == segment.head
    assert segment.sha256 == hashlib.sha256(segment.data).hexdigest()
    read = stranger.read(
        bytes(segment.data), repository_id="repo-1", timeline=TIMELINE, first_seq=1, last_seq=1, data_key=key_for(cipher)
    )
    assert read.pages == commits
    assert read.commits == [astuple(one) for one in segment.head.commits]
    assert (read.timeline, read.seqs, read.chain) == (TIMELINE, (1, 1), (bytes(16), segment.head.after))
    assert (read.source, read.mark) == ((2049, 131337), (bytes.fromhex(MARK.salts), MARK.frame + 1, 1, 0xFFFFFFFF))
    assert read.texts == {1: "capture began"}


@settings(max_examples=30, deadline=None)
@given(history=histories(), cipher=st.sampled_from(list(Cipher)), seed=st.integers(0, 99))
def test_two_range_reads_open_the_index_and_one_more_any_block(
    history: tuple[int, list[dict[int, bytes]]], cipher: Cipher, seed: int
):
    page_size, commits = history
    segment = seal(commits, page_size=page_size, how=options(cipher=cipher, page_size=page_size))
    at = segment_tail(segment.data[-TRAILER_BYTES:])
    header, tail = bytes(segment.data[:HEADER_BYTES]), bytes(segment.data[at:])
    assert len(tail) == segment.index_bytes

    opened = open_segment_index(
        header, tail, context=context(), data_key=key_for(cipher), name=NAME, size_bytes=len(segment.data)
    )

    wanted = dict(enumerate(page for one in commits for _, page in sorted(one.items())))
    found: dict[int, bytes] = {}
    for number in Random(seed).sample(range(len(opened.index.blocks)), len(opened.index.blocks)):
        entry = opened.index.blocks[number]
        pages = opened.open_block(number, bytes(segment.data[entry.offset : entry.offset + entry.stored_bytes]))
        for n, position in enumerate(opened.block_positions(number)):
            found[position] = pages[n * page_size : (n + 1) * page_size]
    assert found == wanted
    assert all(opened.digest(position) == page_digest(page) for position, page in wanted.items())
    with pytest.raises(RuntimeError, match="open_block"):
        opened.block(0)


def spread(n_commits: int, n_pages: int, *, page_size: int = 4096) -> list[dict[int, bytes]]:
    """Commits that each write the same pages with a few other bytes."""
    base = {pgno: noise_page(page_size, pgno) for pgno in range(1, n_pages + 1)}
    return [{pgno: n.to_bytes(4, "big") + page[4:] for pgno, page in base.items() if n or pgno == 1} for n in range(n_commits)]


def test_versions_of_a_page_are_stored_together_and_cost_little():
    commits = spread(20, 100)

    segment = seal(commits, page_size=4096)

    positions = [position for number in range(8) for position in reopen(segment).block_positions(number)]
    pgnos = [reopen(segment).index.pgnos[position] for position in positions]
    assert pgnos == sorted(pgnos)
    assert all(one < two for one, two in pairwise(positions) if pgnos[one] == pgnos[two])
    assert len(segment.data) < 100 * 4096 * 1.5  # 1,901 pages of noise


def test_the_newest_version_of_each_page_up_to_a_commit_is_found():
    opened = reopen(seal([{1: bytes(512)}, {2: b"a" * 512, 3: b"b" * 512}, {2: b"c" * 512}, {3: b"d" * 512, 9: b"e" * 512}]))

    def newest(upto: int, after: int = 0) -> dict[int, str]:
        where = opened.newest(upto, after)
        pages = {position: bytes(page[:1]).decode() for position, page in opened.read(where.values())}
        return {pgno: pages[position] for pgno, position in where.items()}

    assert newest(4) == {1: "\0", 2: "c", 3: "d", 9: "e"}
    assert newest(3) == {1: "\0", 2: "c", 3: "b"}
    assert newest(2, 1) == {2: "a", 3: "b"}
    assert newest(9, 2) == {2: "c", 3: "d", 9: "e"}
    assert newest(3, 3) == newest(0) == {}


def test_only_blocks_that_hold_a_wanted_page_are_opened():
    segment = seal(spread(5, 200), page_size=4096)
    opened = reopen(segment)
    assert len(opened.index.blocks) == 4
    for number in (0, 2, 3):  # would be noticed if it were opened
        segment.data[opened.index.blocks[number].offset] ^= 1
    wanted = opened.block_positions(1)[5:9]

    found = dict(opened.read(wanted))

    assert sorted(found) == sorted(wanted)
    assert all(page_digest(page) == opened.digest(position) for position, page in found.items())


def test_pages_of_one_commit_pass_through_without_being_kept(peak_bytes: PeakBytes):
    plan = replace(
        draft([{1: bytes(65536)}], page_size=65536), pgnos=array("I", range(1, 1025)), commits=(commit(1, 1024),), reasons=()
    )
    page = bytearray(text_page(65536, 1))

    def pages():
        for n in range(1024):
            page[:4] = n.to_bytes(4, "big")
            yield memoryview(page)

    sealed = []
    assert peak_bytes(lambda: sealed.append(write(plan, pages(), options(page_size=65536)))) < 24 << 20  # of 64 MiB
    assert next(iter(reopen(sealed[0]).read([700])))[1][:4] == (700).to_bytes(4, "big")


def test_one_buffer_may_carry_all_pages_of_many_commits():
    commits = spread(3, 5)
    buffer = bytearray(4096)

    def pages():
        for page in views(commits):
            buffer[:] = page
            yield memoryview(buffer)

    assert contents_of(reopen(write(draft(commits, page_size=4096), pages(), options()))) == commits


def test_reading_takes_the_memory_of_a_few_blocks(peak_bytes: PeakBytes):
    opened = reopen(seal(spread(20, 200), page_size=4096))  # 15 MiB

    assert peak_bytes(lambda: sum(len(page) for _, _, page in opened.pages())) < 4 << 20


def test_blocks_open_in_several_threads_at_once():
    opened = reopen(seal(spread(10, 200), page_size=4096))

    with ThreadPoolExecutor(8) as pool:
        blocks = list(pool.map(opened.block, [*range(len(opened.index.blocks))] * 10))

    assert digests_of(memoryview(b"".join(blocks)), 4096) == 10 * b"".join(
        opened.digest(position) for n in range(len(opened.index.blocks)) for position in opened.block_positions(n)
    )


@pytest.mark.parametrize("page_size", PAGE_SIZES)
def test_blocks_are_full_whatever_the_page_size(page_size: int):
    full = BLOCK_BYTES // page_size
    pages = {pgno: bytes(page_size) for pgno in range(1, full + 2)}

    opened = reopen(seal([{1: bytes(page_size)}, pages], page_size=page_size))

    assert [block.n_pages for block in opened.index.blocks] == [full, 2]


def test_a_page_beyond_the_end_of_the_database_is_kept():
    assert contents_of(reopen(seal([{1: bytes(512), 4000: bytes(512)}])))[0].keys() == {1, 4000}


@pytest.mark.parametrize(
    "wrong",
    [
        {"before": b"short"},
        {"before": bytes([1]) * 16},
        {"mark": replace(MARK, salts="00112233AABBCCDD")},
        {"mark": replace(MARK, salts="0011")},
        {"mark": replace(MARK, frame=1 << 32)},
        {"mark": replace(MARK, checksum=(0, -1))},
        {"source": "1"},
        {"source": "01:2"},
        {"source": "1:99999999999999999999"},
        {"source": "1:\u0662"},
        {"first_seq": 0},
        {"last_seq": 0},
        {"last_seq": 4},
        {"first_seq": 2, "last_seq": 2},
        {"commits": ()},
        {"page_size": 1024},
        {"reasons": ((2, "not resumed"),)},
        {"reasons": ((1, "x" * 501),)},
        {"reasons": ((1, ""),)},
    ],
    ids=str,
)
def test_a_draft_that_breaks_a_rule_is_misuse(wrong: dict[str, object]):
    with pytest.raises(RuntimeError, match="cannot be written"):
        write(replace(draft(SMALL), **wrong), views(SMALL), options(page_size=512))


def test_a_source_as_large_as_can_be_is_kept():
    plan = replace(draft(SMALL), source=f"0:{2**64 - 1}")

    assert reopen(write(plan, views(SMALL))).head.source == plan.source
    assert reopen(seal(SMALL)).head.source == SOURCE


@pytest.mark.parametrize("contents", [SMALL, SMALL[:1]], ids=["many commits", "one commit"])
@pytest.mark.parametrize("change", [lambda p: p[:-1], lambda p: [*p, p[0]], lambda p: [*p[:-1], p[-1][:-1]], lambda _: []])
def test_other_pages_than_the_draft_says_are_misuse(
    contents: Sequence[Pages], change: Callable[[list[memoryview]], list[memoryview]]
):
    with pytest.raises(RuntimeError, match=r"segment 1: .*pages? "):
        write(draft(contents), change(views(contents)))


def test_more_than_a_segment_may_hold_is_misuse(monkeypatch: pytest.MonkeyPatch):
    n_pages = MAX_SEGMENT_BYTES // 65536 + 1
    plan = draft([{1: bytes(65536)}], page_size=65536)
    plan = replace(plan, pgnos=array("I", range(20000, 20000 + n_pages)), commits=(commit(1, n_pages),))
    with pytest.raises(RuntimeError, match=r"bytes of pages, at most 1073741824"):
        write(plan, [], options(page_size=65536))

    monkeypatch.setattr(writer, "MAX_COMMITS", 2)
    with pytest.raises(RuntimeError, match="3 commits, at most 2"):
        seal(SMALL)
    monkeypatch.setattr(writer, "MAX_TEXT_BYTES", 20)
    with pytest.raises(RuntimeError, match="23 bytes of reasons, at most 20"):
        seal(SMALL[:2])
