from __future__ import annotations

import hashlib
from array import array
from concurrent.futures import ThreadPoolExecutor
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from continuum_tasks.errors import ObjectDamaged
from continuum_tasks.layer.format import BLOCK_BYTES, HEADER_BYTES, MAX_CHUNK_BYTES, ObjectContext, digests_of, lock_page
from continuum_tasks.layer.reader import open_index
from continuum_tasks.layer.writer import ChunkOptions, write_chunk
from continuum_tasks.model import Cipher, Codec
from tests.support import layer_stranger as stranger
from tests.support.layer_objects import (
    CONTEXT,
    KEY,
    NAME,
    SALT,
    Forgery,
    key_for,
    noise_page,
    options,
    read_all,
    reopen,
    seal,
    text,
    text_page,
)

PAGE_SIZES = [1 << bits for bits in range(9, 17)]


@st.composite
def workloads(draw: st.DrawFn) -> tuple[int, list[tuple[int, bytes]]]:
    """A page size, and runs of text and noise pages with holes between some of them."""
    page_size = draw(st.sampled_from(PAGE_SIZES))
    runs, at = [], 0
    for hole, length in draw(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 12)), min_size=1, max_size=8)):
        seed = draw(st.integers(0, 9))
        pages = (noise_page if (seed + n) % 3 else text_page for n in range(length))
        runs.append((at + 1 + hole, b"".join(page(page_size, seed + n) for n, page in enumerate(pages))))
        at += hole + length
    return page_size, runs


def by_pgno(runs: list[tuple[int, bytes]], page_size: int) -> dict[int, bytes]:
    return {
        first + at // page_size: pages[at : at + page_size] for first, pages in runs for at in range(0, len(pages), page_size)
    }


@settings(max_examples=60, deadline=None)
@given(work=workloads(), codec=st.sampled_from(list(Codec)), cipher=st.sampled_from(list(Cipher)))
def test_pages_come_back_and_a_reader_written_from_the_document_agrees(
    work: tuple[int, list[tuple[int, bytes]]], codec: Codec, cipher: Cipher
):
    page_size, runs = work
    expected = by_pgno(runs, page_size)

    chunk = seal(runs, options(codec, cipher, page_size=page_size))

    assert read_all(chunk.data, cipher) == expected
    assert (
        stranger.read(
            bytes(chunk.data),
            repository_id="repo-1",
            backup_id=CONTEXT.backup_id,
            kind="chunk",
            index=0,
            data_key=key_for(cipher),
        )
        == expected
    )
    assert chunk.sha256 == hashlib.sha256(chunk.data).hexdigest()
    assert chunk.n_pages == len(expected)
    assert chunk.raw_bytes == len(expected) * page_size
    assert chunk.digests == digests_of(b"".join(expected.values()), page_size)


@settings(max_examples=30, deadline=None)
@given(work=workloads(), cipher=st.sampled_from(list(Cipher)), seed=st.integers(0, 99))
def test_two_range_reads_open_the_index_and_one_more_any_block(
    work: tuple[int, list[tuple[int, bytes]]], cipher: Cipher, seed: int
):
    page_size, runs = work
    chunk = seal(runs, options(cipher=cipher, page_size=page_size))
    header, tail = bytes(chunk.data[:HEADER_BYTES]), bytes(chunk.data[chunk.index_offset :])
    assert len(tail) == chunk.index_bytes

    opened = open_index(header, tail, context=CONTEXT, data_key=key_for(cipher), name=NAME, size_bytes=len(chunk.data))

    found: dict[int, bytes] = {}
    for number in Random(seed).sample(range(len(opened.index.blocks)), len(opened.index.blocks)):
        entry = opened.index.blocks[number]
        pages = opened.open_block(number, bytes(chunk.data[entry.offset : entry.offset + entry.stored_bytes]))
        found |= by_pgno([(first, bytes(run)) for first, run in opened.block_runs(number, pages)], page_size)
        assert all(pgno in found for pgno in opened.block_pgnos(number))
    assert found == by_pgno(runs, page_size)
    with pytest.raises(RuntimeError, match="open_block"):
        opened.block(0)


def test_any_grouping_of_pages_into_blocks_is_read():
    pages = {pgno: noise_page(512, pgno) for pgno in (9, 2, 3, 7, 1)}
    groups = [[pages[9], pages[2]], [pages[3], pages[7]], [pages[1]]]

    found = read_all(Forgery(pgnos=tuple(pages), pages=groups).make(), Cipher.NONE)

    assert list(found.items()) == list(pages.items())


def test_a_block_that_compression_does_not_shrink_is_stored_as_it_is():
    noise, words = noise_page(BLOCK_BYTES, 1), text(4096, 64)

    opened = reopen(seal([(1, noise), (65, words)], options(Codec.ZSTD)).data)

    assert [block.codec for block in opened.index.blocks] == [Codec.NONE, Codec.ZSTD]
    assert opened.index.blocks[0].stored_bytes == BLOCK_BYTES + 16


def test_blocks_are_full_wherever_runs_begin_and_end():
    runs = [(1, text(4096, 30)), (31, text(4096, 200)), (300, text(4096, 1)), (400, text(4096, 41))]

    blocks = reopen(seal(runs, options()).data).index.blocks

    assert [block.n_pages for block in blocks] == [64, 64, 64, 64, 16]


def test_one_buffer_may_carry_all_runs():
    buffer = bytearray(3 * 4096)

    def refilled():
        for first in range(1, 100, 3):
            buffer[:] = text(4096, 3, seed=first)
            yield first, memoryview(buffer)

    chunk = write_chunk(refilled(), context=CONTEXT, options=options())

    assert read_all(chunk.data) == {pgno: text_page(4096, pgno) for pgno in range(1, 100)}


@pytest.mark.parametrize("page_size", PAGE_SIZES)
def test_pages_on_both_sides_of_the_lock_page_are_stored(page_size: int):
    locked = lock_page(page_size)
    runs = [(locked - 1, noise_page(page_size, 1)), (locked + 1, noise_page(page_size, 2))]

    assert list(read_all(seal(runs, options(page_size=page_size)).data)) == [locked - 1, locked + 1]


def test_the_last_page_number_sqlite_allows_is_stored():
    assert list(read_all(seal([(4294967294, bytes(4096))], options()).data)) == [4294967294]


def test_blocks_of_one_object_open_in_several_threads_at_once():
    raw = b"".join(noise_page(4096, n) if n % 2 else text_page(4096, n) for n in range(64 * 16))
    opened = reopen(seal([(1, raw)], options()).data)

    with ThreadPoolExecutor(8) as pool:
        blocks = list(pool.map(opened.block, [*range(16)] * 20))

    assert b"".join(blocks) == raw * 20


def test_objects_are_written_in_several_threads_at_once():
    raw = b"".join(noise_page(4096, n) if n % 2 else text_page(4096, n) for n in range(300))
    alone = seal([(1, raw)], options()).sha256

    with ThreadPoolExecutor(8) as pool:
        assert {chunk.sha256 for chunk in pool.map(lambda _: seal([(1, raw)], options()), range(40))} == {alone}


def test_writing_takes_the_memory_of_what_is_stored_and_little_more(peak_bytes):
    noise = memoryview(noise_page(1 << 20, 1))
    runs = [(1 + n * 256, noise) for n in range(16)]

    assert peak_bytes(lambda: write_chunk(iter(runs), context=CONTEXT, options=options())) < 1.25 * (16 << 20) + (1 << 20)


def test_reading_takes_the_memory_of_a_few_blocks(peak_bytes):
    data = seal([(1, text(4096, 64) * 64)], options()).data

    def read() -> None:
        assert sum(len(run) for _, run in reopen(data).runs()) == 16 << 20

    assert peak_bytes(read) < 2 << 20


@pytest.mark.parametrize(
    "runs",
    [
        [],
        [(1, b"")],
        [(1, bytes(4097))],
        [(0, bytes(4096))],
        [(5, bytes(4096)), (5, bytes(4096))],
        [(5, bytes(8192)), (4, bytes(4096))],
        [(4294967294, bytes(8192))],
        [(lock_page(4096) - 1, bytes(8192))],
    ],
    ids=["none", "empty", "part of a page", "page 0", "twice", "backwards", "beyond the last pgno", "lock page"],
)
def test_runs_the_format_has_no_place_for_are_misuse(runs: list[tuple[int, bytes]]):
    with pytest.raises(RuntimeError):
        seal(runs, options())


def test_more_pages_than_a_chunk_may_have_are_misuse():
    piece = bytes(1 << 26)

    with pytest.raises(RuntimeError, match=str(MAX_CHUNK_BYTES)):
        seal(((20000 + n * 2048, piece) for n in range(17)), options(Codec.ZSTD, Cipher.NONE, page_size=65536, level=-7))


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"page_size": 1000}, RuntimeError),
        ({"page_size": 256}, RuntimeError),
        ({"salt": b"short"}, RuntimeError),
        ({"data_key": None}, RuntimeError),
        ({"data_key": KEY[:16]}, RuntimeError),
        ({"cipher": Cipher.NONE}, RuntimeError),
        ({"level": 20}, ValueError),
    ],
)
def test_options_that_make_no_sense_are_misuse(wrong: dict[str, object], error: type[Exception]):
    good = {"page_size": 4096, "codec": Codec.ZSTD, "level": 1, "cipher": Cipher.AES_256_GCM, "data_key": KEY, "salt": SALT}

    with pytest.raises(error):
        ChunkOptions(**(good | wrong))


def test_every_sealing_with_another_salt_looks_different_throughout():
    raw = text(4096, 8)
    one, two = (
        write_chunk(
            iter([(1, memoryview(raw))]),
            context=CONTEXT,
            options=ChunkOptions(
                page_size=4096, codec=Codec.ZSTD, level=1, cipher=Cipher.AES_256_GCM, data_key=KEY, salt=bytes([n]) * 32
            ),
        )
        for n in (1, 2)
    )

    same = sum(a == b for a, b in zip(one.data[96:-32], two.data[96:-32], strict=True))
    assert same < len(one.data) / 20


def test_a_chunk_of_another_backup_of_the_same_chain_does_not_open():
    other = ObjectContext(repository_id="repo-1", backup_id="backup-incremental-20260102-000000", kind="chunk", index=0)

    with pytest.raises(ObjectDamaged, match=f"object {NAME}: .*another object"):
        reopen(seal([(1, bytes(4096))], options()).data, context=other)


def test_pgnos_are_an_array_in_block_order():
    index = reopen(seal([(3, bytes(8192)), (9, bytes(4096))], options()).data).index

    assert index.pgnos == array("I", [3, 4, 9])
