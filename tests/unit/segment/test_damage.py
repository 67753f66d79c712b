"""Whatever happens to a segment, opening it and reading its pages ends in an error that names it."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import xxhash
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from continuum_tasks.errors import KeyWrong, NewerFormat, ObjectDamaged
from continuum_tasks.layer.format import HEADER_BYTES, MAX_PGNO, BlockEntry, lock_page
from continuum_tasks.layer.writer import write_chunk
from continuum_tasks.model import Cipher, Codec
from continuum_tasks.segment.reader import open_segment, open_segment_index, segment_tail
from tests.support.layer_objects import OTHER_KEY
from tests.support.segment_objects import (
    BEGUN_US,
    KEY,
    NAME,
    SMALL,
    Forgery,
    context,
    draft,
    key_for,
    lie,
    line,
    noise_page,
    opened,
    options,
    read_all,
    seal,
    views,
    write,
)

CIPHERS = pytest.mark.parametrize("cipher", list(Cipher))
PeakBytes = Callable[[Callable[[], object]], int]


def assert_damaged(data: bytes | bytearray, cipher: Cipher = Cipher.NONE, *, match: str = "") -> None:
    with pytest.raises(ObjectDamaged, match=f"object {NAME}.*{match}") as caught:
        read_all(data, cipher)
    assert caught.value.hint


def small(cipher: Cipher, codec: Codec = Codec.ZSTD) -> bytes:
    """Three commits, five pages, about 600 bytes."""
    return bytes(seal(SMALL, how=options(codec, cipher, page_size=512)).data)


@CIPHERS
def test_every_single_flipped_bit_is_noticed(cipher: Cipher):
    data = bytearray(small(cipher))
    assert len(data) < 800

    for bit in range(len(data) * 8):
        data[bit // 8] ^= 1 << bit % 8
        assert_damaged(data, cipher)
        data[bit // 8] ^= 1 << bit % 8

    assert len(read_all(data, cipher)) == 5


@CIPHERS
@pytest.mark.parametrize("codec", list(Codec))
def test_every_changed_byte_is_noticed_whatever_the_codec(cipher: Cipher, codec: Codec):
    data = bytearray(small(cipher, codec))

    for at in range(len(data)):
        for value in {data[at] ^ 1, data[at] ^ 128, 0, 255} - {data[at]}:
            changed = bytearray(data)
            changed[at] = value
            assert_damaged(changed, cipher)


@CIPHERS
def test_a_cut_at_any_length_is_noticed(cipher: Cipher):
    data = small(cipher)

    for length in range(len(data)):
        assert_damaged(data[:length], cipher)
        assert_damaged(data[length + 1 :], cipher)
        assert_damaged(data[:length] + data[length + 1 :], cipher)


@CIPHERS
def test_bytes_added_are_noticed(cipher: Cipher):
    data = small(cipher)

    for more in (b"\0", b"CTMSEND", data[-36:], data[96:], data):
        assert_damaged(data + more, cipher)
    for at in range(len(data)):
        assert_damaged(data[:at] + data[at : at + 1] + data[at:], cipher)


@CIPHERS
def test_swapped_and_repeated_blocks_are_noticed(cipher: Cipher):
    pages = {pgno: noise_page(65536, 1) for pgno in range(1, 33)}
    data = seal([pages], page_size=65536, how=options(Codec.NONE, cipher, page_size=65536)).data
    one, two = (slice(entry.offset, entry.offset + entry.stored_bytes) for entry in opened(data, cipher).index.blocks)
    swapped, repeated = bytearray(data), bytearray(data)
    swapped[one], swapped[two] = data[two], data[one]
    repeated[two] = data[one]

    assert_damaged(swapped, cipher, match="block 0")
    assert_damaged(repeated, cipher, match="block 1")


@CIPHERS
def test_a_segment_of_another_place_is_noticed(cipher: Cipher):
    how = options(cipher=cipher, page_size=512)
    one, two = line([SMALL, [{5: bytes(512)}]], how=how)
    known = {"data_key": key_for(cipher), "name": NAME}

    assert opened(one.data, cipher).head.first_seq == 1
    for data, where in (
        (two.data, context()),
        (one.data, context(2)),
        (one.data, context(1, 2)),
        (one.data, replace(context(), repository_id="repo-2")),
        (one.data, replace(context(), backup_id="timeline-20261101-120000-00c0ffef/1-1")),
        (one.data, replace(context(), kind="chunk")),
        (one.data, replace(context(), index=2)),
    ):
        with pytest.raises(ObjectDamaged, match="another object"):
            open_segment(data, context=where, **known)


def test_a_chunk_of_a_backup_is_no_segment():
    chunk = write_chunk(iter([(1, memoryview(bytes(512)))]), context=context(), options=options(page_size=512))

    assert_damaged(chunk.data, Cipher.AES_256_GCM, match="another kind of object")


def test_another_key_is_named_as_such():
    with pytest.raises(KeyWrong, match=f"object {NAME}") as caught:
        open_segment(small(Cipher.AES_256_GCM), context=context(), data_key=OTHER_KEY, name=NAME)
    assert "timeline" in caught.value.hint


def test_a_segment_must_be_encrypted_exactly_when_its_timeline_is():
    with pytest.raises(ObjectDamaged, match=f"object {NAME}: is not encrypted, its timeline is"):
        open_segment(small(Cipher.NONE), context=context(), data_key=KEY, name=NAME)
    with pytest.raises(ObjectDamaged, match=f"object {NAME}: is encrypted, its timeline is not"):
        open_segment(small(Cipher.AES_256_GCM), context=context(), data_key=None, name=NAME)
    assert_damaged(Forgery(commitment=b"k" * 32).make(), match="commits to a key")


def as_version(data: bytes, version: int) -> bytes:
    """Return the object with another version in its header, as a writer of that version would make it; the rest is strange."""
    start = data[:8] + bytes([version]) + b"?" * 71
    return start + xxhash.xxh3_128_digest(start) + bytes(100)


@pytest.mark.parametrize("version", [2, 255])
def test_a_newer_version_is_said_so_before_anything_else(version: int):
    with pytest.raises(NewerFormat) as caught:
        read_all(as_version(small(Cipher.NONE), version))
    assert caught.value.message == f"object {NAME}: written by a newer version ({version}); this version reads up to 1"


def test_a_version_that_never_was_is_damage():
    assert_damaged(as_version(small(Cipher.NONE), 0), match="version 0")


def test_a_flipped_bit_in_the_version_is_damage_and_no_newer_version():
    data = bytearray(small(Cipher.NONE))
    data[8] ^= 2
    assert_damaged(data, match="does not match its check")


@given(data=st.binary(max_size=400))
def test_nonsense_is_named_as_damaged(data: bytes):
    assert_damaged(data)


@settings(max_examples=300, deadline=None)
@given(
    edits=st.lists(st.tuples(st.integers(0, 700), st.integers(0, 255)), min_size=1, max_size=4),
    cipher=st.sampled_from(list(Cipher)),
)
def test_bytes_written_over_are_noticed(edits: list[tuple[int, int]], cipher: Cipher):
    good = small(cipher)
    data = bytearray(good)
    for at, value in edits:
        data[at % len(data)] = value

    if data != good:
        assert_damaged(data, cipher)


def rehashed(at: int, value: int) -> Callable[[bytes], bytes]:
    """Set a header byte and make the header's check fit."""

    def change(header: bytes) -> bytes:
        start = bytearray(header[:80])
        start[at] = value
        return bytes(start) + xxhash.xxh3_128(start).digest()

    return change


@pytest.mark.parametrize(("at", "value"), [(9, 4), (10, 2), (11, 8), (11, 17), (12, 1), (15, 128)])
def test_a_header_out_of_range_is_refused_though_its_check_fits(at: int, value: int):
    assert_damaged(Forgery(header=rehashed(at, value)).make(), match="out of range")


HOSTILE_TRAILERS = [
    ({"n_pages": 0}, "number of blocks"),
    ({"n_blocks": 0}, "number of blocks"),
    ({"n_blocks": 6}, "number of blocks"),
    ({"n_commits": 0}, "number of commits"),
    ({"n_commits": 6}, "number of commits"),
    ({"n_commits": 2**18 + 1, "n_pages": 2**19, "n_blocks": 2}, "number of commits"),
    ({"n_text_bytes": 2**20 + 1}, "more text"),
    ({"n_text_bytes": 2**32 - 1}, "more text"),
    ({"n_pages": 2**32 - 1}, "more pages than a segment may have"),
    ({"n_pages": 2049}, "more pages than its blocks can hold"),
    ({"n_pages": 2**32 - 1, "n_blocks": 2**32 - 1}, "more blocks than there is room for"),
    ({"n_pages": 6}, "index codec or length"),
    ({"n_commits": 4}, "index codec or length"),
    ({"n_text_bytes": 24}, "index codec or length"),
    ({"index_codec": Codec.ZSTD}, "index codec or length"),
    ({"index_stored_bytes": 2**32 - 1}, "does not end at the trailer"),
    ({"index_offset": 2**64 - 1}, "does not end at the trailer"),
    ({"index_offset": 0}, "does not end at the trailer"),
]


@pytest.mark.parametrize(("wrong", "message"), HOSTILE_TRAILERS, ids=str)
def test_hostile_counts_are_refused_before_they_take_memory(wrong: dict[str, Any], message: str, peak_bytes: PeakBytes):
    data = Forgery(trailer=lie(**wrong)).make()

    assert peak_bytes(lambda: assert_damaged(data, match=message)) < 1 << 20


def test_an_unknown_index_codec_is_refused():
    data = bytearray(small(Cipher.NONE))
    data[-8] = 4

    assert_damaged(data, match="index codec 4")


def entry(**fields: Any) -> Callable[[BlockEntry], BlockEntry]:
    return lambda found: replace(found, **fields)


def written(offset: int, fmt: str, value: object) -> Callable[[bytes], bytes]:
    """Write over the raw index; a negative offset counts from its end."""

    def change(raw: bytes) -> bytes:
        out = bytearray(raw)
        struct.pack_into(fmt, out, offset % len(out), value)
        return bytes(out)

    return change


def numbered(number: int, **fields: Any) -> Forgery:
    return Forgery(commits={number: fields})


TEXT_AT = -(10 + len("capture began"))
BLOCK_AT = TEXT_AT - 8
HOSTILE_INDEXES = [
    (Forgery(entry=entry(n_pages=0)), "block 0: number of pages"),
    (Forgery(entry=entry(n_pages=2049)), "block 0: number of pages"),
    (Forgery(entry=entry(n_pages=4)), "block 0: codec or length"),
    (Forgery(entry=entry(stored_bytes=2**32 - 1)), "block 0: codec or length"),
    (Forgery(entry=entry(codec=Codec.ZSTD)), "block 0: codec or length"),
    (Forgery(codec=Codec.ZSTD, entry=entry(codec=Codec.ZSTD, stored_bytes=16)), "block 0: codec or length"),
    (Forgery(codec=Codec.ZSTD, entry=entry(codec=Codec.ZSTD, stored_bytes=1000)), "do not fill the object"),
    (Forgery(entry=entry(n_pages=4, stored_bytes=2064)), "do not fill the object"),
    (Forgery(codec=Codec.ZSTD, entry=entry(codec=Codec.ZSTD, n_pages=6)), "do not hold 5 pages"),
    (Forgery(n_pages_in=(3, 2)), "not full before the last"),
    (Forgery(index=written(BLOCK_AT + 6, ">B", 4)), "block 0 has codec 4"),
    (Forgery(index=written(BLOCK_AT + 7, ">B", 1)), "reserved byte"),
    (Forgery(index=written(0, ">B", 0x80)), "can't decode"),
    (Forgery(index=written(0, ">4s", b"../x")), "is not a timeline id"),
    (Forgery(index=written(125 + 32, ">Q", 2)), "commit 1: is marked as resumed with 2"),
    (Forgery(index=written(TEXT_AT + 8, ">H", 12)), "reasons of holes are cut"),
    (Forgery(index=written(TEXT_AT + 8, ">H", 14)), "reasons of holes are cut"),
    (Forgery(index=written(-1, ">B", 0xFF)), "can't decode"),
    (Forgery(index=written(TEXT_AT, ">Q", 2)), "not resumed"),
    (Forgery(head={"first_seq": 0, "last_seq": 0}), "number out of range"),
    (Forgery(head={"first_seq": 2, "last_seq": 1}), "number out of range"),
    (Forgery(head={"last_seq": 2**53}), "number out of range"),
    (Forgery(head={"last_seq": 4}), "fewer commits than segments"),
    (Forgery(head={"first_seq": 2, "last_seq": 2}), "number of the first commit"),
    (Forgery(head={"before": b"\1" * 16}), "timeline starts here"),
    (Forgery(index=written(49, ">Q", 2)), "timeline starts here"),
    (Forgery(index=written(49, ">Q", 2**53 - 1)), "number of the first commit"),
    (Forgery(head={"reasons": ((2, "x"),)}), "not resumed"),
    (Forgery(head={"reasons": ((1, "x"), (1, "y"))}), "not in order"),
    (Forgery(head={"reasons": ((1, ""),)}), "empty or too long"),
    (Forgery(head={"reasons": ((1, "\xe9" * 251),)}), "empty or too long"),
    (numbered(2, n_stored=0), "commit 2: has no page"),
    (numbered(2, n_stored=3, last_frame=20), "the commits hold 6 pages"),
    (numbered(2, n_stored=2**32 - 1, last_frame=2**32 - 1, first_frame=1), "the commits hold 4294967298 pages"),
    (numbered(3, n_pages=0), "commit 3: database size"),
    (numbered(3, n_pages=MAX_PGNO + 1), "commit 3: database size"),
    (numbered(3, observed_us=BEGUN_US + 1999), "commit 3: time out of range"),
    (numbered(3, observed_us=2**53), "commit 3: time out of range"),
    (numbered(3, unseen_us=BEGUN_US + 3001), "commit 3: was not looked for"),
    (numbered(1, unseen_us=1), "commit 1: does not begin a timeline"),
    (numbered(1, resumed=False, first_frame=1, last_frame=1), "commit 1: does not begin a timeline"),
    (numbered(2, resumed=True), "commit 2: is resumed and has frames"),
    (numbered(2, first_frame=0), "commit 2: frames out of range"),
    (numbered(2, first_frame=10, last_frame=9), "commit 2: frames out of range"),
    (numbered(2, first_frame=10, last_frame=10), "commit 2: more pages than frames"),
    (Forgery(pgnos=(0, 2, 7, 1, 7)), "out of range"),
    (Forgery(pgnos=(1, 2, MAX_PGNO + 1, 1, 7)), "out of range"),
    (Forgery(pgnos=(1, 2, lock_page(512), 1, 7)), "lock page"),
    (Forgery(pgnos=(1, 7, 2, 1, 7)), "do not rise"),
    (Forgery(pgnos=(1, 7, 7, 1, 7)), "do not rise"),
    (Forgery(after=lambda after: bytes([after[0] ^ 1]) + after[1:]), "chain does not go through"),
]


@pytest.mark.parametrize(("forgery", "message"), HOSTILE_INDEXES, ids=[message for _, message in HOSTILE_INDEXES])
def test_an_index_that_breaks_a_rule_is_refused_though_its_seal_holds(forgery: Forgery, message: str, peak_bytes: PeakBytes):
    data = forgery.make()

    assert peak_bytes(lambda: assert_damaged(data, match=message)) < 1 << 20


def test_a_forgery_without_a_lie_is_a_segment():
    assert read_all(Forgery().make(), Cipher.NONE) == [bytes(page) for page in views(SMALL)]


def test_texts_that_end_within_an_entry_are_refused():
    assert_damaged(Forgery(index=lambda raw: raw + bytes(9), trailer=lie(n_text_bytes=32)).make(), match="are cut")


def test_a_page_that_does_not_match_its_digest_is_named():
    forgery = Forgery(digests=lambda found: found[:-1] + bytes([found[-1] ^ 1]))

    assert_damaged(forgery.make(), match="block 0: page 7 at position 4 does not match its digest")


@pytest.mark.parametrize(
    ("codec", "packed"),
    [
        (Codec.ZSTD, zstandard.compress(bytes(64 << 20))),
        (Codec.ZSTD, zstandard.compress(bytes(512))),
        (Codec.GZIP, b"\x1f\x8b nonsense"),
        (Codec.LZ4, b"\xff\xff\xff"),
    ],
    ids=str,
)
def test_a_block_that_expands_to_anything_but_its_pages_is_refused(codec: Codec, packed: bytes, peak_bytes: PeakBytes):
    contents = [{1: bytes(65536)}, {pgno: bytes(65536) for pgno in range(1, 4)}]
    data = Forgery(contents=contents, page_size=65536, codec=codec, packed=[(codec, packed)]).make()

    assert peak_bytes(lambda: assert_damaged(data, match=f"block 0: {codec}")) < 1 << 20


def test_an_index_bomb_never_gets_more_than_its_counts_allow(peak_bytes: PeakBytes):
    bomb = zstandard.compress(bytes(64 << 20))
    data = Forgery(codec=Codec.ZSTD, index=lambda _: bomb[:60], trailer=lie(index_codec=Codec.ZSTD)).make()

    assert peak_bytes(lambda: assert_damaged(data, match="zstd")) < 1 << 20


@CIPHERS
def test_a_tail_of_another_length_is_refused(cipher: Cipher):
    data = small(cipher)
    at = segment_tail(data)
    header, tail = data[:HEADER_BYTES], data[at:]
    known = {"context": context(), "data_key": key_for(cipher), "name": NAME, "size_bytes": len(data)}

    for wrong in (tail[1:], b"\0" + tail, tail[-36:]):
        with pytest.raises(ObjectDamaged, match="from the index to the end"):
            open_segment_index(header, wrong, **known)
    with pytest.raises(ObjectDamaged, match="does not end at the trailer"):
        open_segment_index(header, tail, **(known | {"size_bytes": len(data) + 1}))
    for cut in ((header[:-1], tail), (header, tail[-35:])):
        with pytest.raises(ObjectDamaged, match="cut short"):
            open_segment_index(*cut, **known)
    for wrong in (b"", tail[-35:], tail[:-1]):
        with pytest.raises(ValueError, match="cut short"):
            segment_tail(wrong)


@CIPHERS
def test_a_block_of_another_length_is_refused(cipher: Cipher):
    page = noise_page(512, 1)
    segment = opened(write(draft([{1: page}]), views([{1: page}]), options(Codec.NONE, cipher, page_size=512)).data, cipher)

    for stored in (b"", bytes(527), bytes(529)):
        with pytest.raises(ObjectDamaged, match=r"block 0: .* where there should be 528"):
            segment.open_block(0, stored)
