"""Whatever happens to an object, opening it and reading its blocks ends in an error that names it."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import replace

import pytest
import xxhash
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from continuum_tasks.errors import KeyWrong, NewerFormat, ObjectDamaged
from continuum_tasks.layer.format import BLOCK_BYTES, HEADER_BYTES, MAX_PGNO, BlockEntry, digests_of, lock_page
from continuum_tasks.layer.reader import open_chunk, open_index
from continuum_tasks.model import Cipher, Codec
from tests.support.layer_objects import (
    CONTEXT,
    KEY,
    NAME,
    OTHER_KEY,
    Forgery,
    key_for,
    lie,
    noise_page,
    options,
    read_all,
    reopen,
    seal,
    text,
)

CIPHERS = pytest.mark.parametrize("cipher", list(Cipher))


def assert_damaged(data: bytes | bytearray, cipher: Cipher = Cipher.NONE, *, match: str = "") -> None:
    with pytest.raises(ObjectDamaged, match=f"object {NAME}.*{match}") as caught:
        read_all(data, cipher)
    assert caught.value.hint


def small(cipher: Cipher, codec: Codec = Codec.ZSTD) -> bytes:
    """Two blocks, five pages, about 500 bytes."""
    return bytes(seal([(1, bytes(65536) + b"\1" * 65536), (9, b"page" * 49152)], options(codec, cipher, page_size=65536)).data)


@CIPHERS
def test_every_single_flipped_bit_is_noticed(cipher: Cipher):
    data = bytearray(small(cipher))
    assert len(reopen(data, cipher).index.blocks) == 2 and len(data) < 1000

    for bit in range(len(data) * 8):
        data[bit // 8] ^= 1 << bit % 8
        assert_damaged(data, cipher)
        data[bit // 8] ^= 1 << bit % 8

    assert len(read_all(data, cipher)) == 5


@CIPHERS
@pytest.mark.parametrize("codec", list(Codec))
def test_every_flipped_bit_is_noticed_whatever_the_codec(cipher: Cipher, codec: Codec):
    data = bytearray(seal([(2, text(512, 1))], options(codec, cipher, page_size=512)).data)

    for bit in range(len(data) * 8):
        data[bit // 8] ^= 1 << bit % 8
        assert_damaged(data, cipher)
        data[bit // 8] ^= 1 << bit % 8


@CIPHERS
def test_a_cut_at_any_length_is_noticed(cipher: Cipher):
    data = small(cipher)

    for length in range(len(data)):
        assert_damaged(data[:length], cipher)
        assert_damaged(data[length + 1 :], cipher)


@CIPHERS
def test_bytes_added_at_the_end_are_noticed(cipher: Cipher):
    data = small(cipher)

    for more in (b"\0", b"CTMLEND", data[-32:], data[96:], data):
        assert_damaged(data + more, cipher)


@CIPHERS
def test_bytes_added_or_taken_out_anywhere_are_noticed(cipher: Cipher):
    data = small(cipher)

    for at in range(len(data)):
        assert_damaged(data[:at] + data[at : at + 1] + data[at:], cipher)
        assert_damaged(data[:at] + data[at + 1 :], cipher)


@CIPHERS
def test_swapped_and_repeated_blocks_are_noticed(cipher: Cipher):
    noise = noise_page(BLOCK_BYTES, 1)
    data = seal([(1, noise), (65, noise)], options(Codec.NONE, cipher)).data
    one, two = (slice(entry.offset, entry.offset + entry.stored_bytes) for entry in reopen(data, cipher).index.blocks)
    swapped, repeated = bytearray(data), bytearray(data)
    swapped[one], swapped[two] = data[two], data[one]
    repeated[two] = data[one]

    assert_damaged(swapped, cipher, match="block 0")
    assert_damaged(repeated, cipher, match="block 1")


@CIPHERS
@pytest.mark.parametrize(
    "other", [{"repository_id": "repo-2"}, {"backup_id": "backup-full-20260101-000001"}, {"kind": "wal"}, {"index": 1}]
)
def test_an_object_of_another_place_is_noticed(cipher: Cipher, other: dict[str, object]):
    data = seal([(1, bytes(4096))], options(cipher=cipher), replace(CONTEXT, **other)).data

    assert_damaged(data, cipher, match="another object")


@CIPHERS
def test_a_block_of_another_object_is_noticed(cipher: Cipher):
    raw = [(1, noise_page(4096, 1))]
    data, other = (bytearray(seal(raw, options(cipher=cipher), replace(CONTEXT, index=index)).data) for index in (0, 1))
    data[96 : 96 + 4096 + 16] = other[96 : 96 + 4096 + 16]

    assert_damaged(data, cipher, match="block 0")


def test_another_key_is_named_as_such():
    with pytest.raises(KeyWrong, match=f"object {NAME}"):
        open_chunk(small(Cipher.AES_256_GCM), context=CONTEXT, data_key=OTHER_KEY, name=NAME)


def test_an_unencrypted_object_in_an_encrypted_backup_is_refused():
    with pytest.raises(ObjectDamaged, match=f"object {NAME}: is not encrypted"):
        open_chunk(small(Cipher.NONE), context=CONTEXT, data_key=KEY, name=NAME)


def test_an_encrypted_object_in_an_unencrypted_backup_is_refused():
    with pytest.raises(ObjectDamaged, match=f"object {NAME}: is encrypted"):
        open_chunk(small(Cipher.AES_256_GCM), context=CONTEXT, data_key=None, name=NAME)


def test_an_unencrypted_object_that_commits_to_a_key_is_refused():
    assert_damaged(Forgery(commitment=b"k" * 32).make(), match="commits to a key")


def as_version(data: bytes, version: int) -> bytes:
    """Return the object with another version in its header, as a writer of that version would make it; the rest is strange."""
    start = data[:8] + bytes([version]) + b"?" * 71
    return start + xxhash.xxh3_128_digest(start) + bytes(100)


@pytest.mark.parametrize("version", [2, 255])
def test_a_newer_version_is_said_so_before_anything_else(version: int):
    newer = as_version(small(Cipher.NONE), version)
    with pytest.raises(NewerFormat) as caught:
        read_all(newer)
    assert caught.value.message == f"object {NAME}: written by a newer version ({version}); this version reads up to 1"
    assert "upgrade" in caught.value.hint


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
    edits=st.lists(st.tuples(st.integers(0, 600), st.integers(0, 255)), min_size=1, max_size=4),
    cipher=st.sampled_from(list(Cipher)),
)
def test_bytes_written_over_are_noticed(edits: list[tuple[int, int]], cipher: Cipher):
    good = small(cipher)
    data = bytearray(good)
    for at, value in edits:
        data[at % len(data)] = value

    if data != good:
        assert_damaged(data, cipher)


def rehashed(**at: int) -> Callable[[bytes], bytes]:
    """Change header bytes (`b9=4` sets byte 9) and make the header's check fit."""

    def change(header: bytes) -> bytes:
        start = bytearray(header[:80])
        for name, value in at.items():
            start[int(name[1:])] = value
        return bytes(start) + xxhash.xxh3_128(start).digest()

    return change


@pytest.mark.parametrize("wrong", [{"b9": 4}, {"b10": 2}, {"b11": 8}, {"b11": 17}, {"b12": 1}, {"b15": 128}])
def test_a_header_out_of_range_is_refused_though_its_check_fits(wrong: dict[str, int]):
    assert_damaged(Forgery(header=rehashed(**wrong)).make(), match="out of range")


HOSTILE_TRAILERS = [
    ({"n_pages": 0}, "number of blocks"),
    ({"n_blocks": 0}, "number of blocks"),
    ({"n_blocks": 4}, "number of blocks"),
    ({"n_runs": 0}, "number of runs"),
    ({"n_runs": 4}, "number of runs"),
    ({"n_pages": 2**32 - 1}, "more pages than an object may have"),
    ({"n_pages": 513}, "more pages than its blocks can hold"),
    ({"n_pages": 2**32 - 1, "n_blocks": 2**32 - 1}, "more blocks than there is room for"),
    ({"n_pages": 4}, "index codec or length"),
    ({"index_codec": Codec.ZSTD}, "index codec or length"),
    ({"index_stored_bytes": 2**32 - 1}, "does not end at the trailer"),
    ({"index_offset": 2**64 - 1}, "does not end at the trailer"),
    ({"index_offset": 0}, "does not end at the trailer"),
]


@pytest.mark.parametrize(("wrong", "message"), HOSTILE_TRAILERS)
def test_hostile_counts_are_refused_before_they_take_memory(wrong: dict[str, object], message: str, peak_bytes):
    data = Forgery(trailer=lie(**wrong)).make()

    assert peak_bytes(lambda: assert_damaged(data, match=message)) < 1 << 20


def test_an_unknown_index_codec_is_refused():
    data = bytearray(small(Cipher.NONE))
    data[-8] = 4

    assert_damaged(data, match="index codec 4")


def entry(**fields: object) -> Callable[[BlockEntry], BlockEntry]:
    return lambda found: replace(found, **fields)


def raw_index(offset: int, fmt: str, value: int) -> Callable[[bytes], bytes]:
    def change(raw: bytes) -> bytes:
        out = bytearray(raw)
        struct.pack_into(fmt, out, offset, value)
        return bytes(out)

    return change


HOSTILE_INDEXES = [
    (Forgery(entry=entry(n_pages=0)), "block 0: number of pages"),
    (Forgery(entry=entry(n_pages=513)), "block 0: number of pages"),
    (Forgery(entry=entry(n_pages=2)), "block 0: codec or length"),
    (Forgery(entry=entry(stored_bytes=2**32 - 1)), "block 0: codec or length"),
    (Forgery(entry=entry(codec=Codec.ZSTD)), "block 0: codec or length"),
    (Forgery(codec=Codec.ZSTD, entry=entry(codec=Codec.ZSTD)), "block 0: codec or length"),
    (Forgery(codec=Codec.ZSTD, entry=entry(codec=Codec.ZSTD, stored_bytes=16)), "block 0: codec or length"),
    (Forgery(codec=Codec.ZSTD, entry=entry(codec=Codec.LZ4, stored_bytes=1000)), "block 0: codec or length"),
    (Forgery(codec=Codec.ZSTD, entry=entry(codec=Codec.ZSTD, stored_bytes=1000)), "do not fill the object"),
    (Forgery(entry=entry(n_pages=2, stored_bytes=1040)), "do not fill the object"),
    (Forgery(codec=Codec.ZSTD, entry=entry(codec=Codec.ZSTD, n_pages=4)), "do not hold 3 pages"),
    (Forgery(index=raw_index(6, ">B", 4)), "block 0 has codec 4"),
    (Forgery(index=raw_index(7, ">B", 1)), "reserved byte"),
    (Forgery(index=raw_index(8, ">I", 0)), "out of range"),
    (Forgery(index=raw_index(8, ">I", MAX_PGNO - 1)), "out of range"),
    (Forgery(index=raw_index(8, ">I", 2**32 - 1)), "out of range"),
    (Forgery(index=raw_index(12, ">I", 2**32 - 1)), "runs do not hold 3 pages"),
    (Forgery(index=raw_index(12, ">I", 2)), "runs do not hold 3 pages"),
    (Forgery(index=raw_index(8, ">I", lock_page(512) - 1)), "lock page"),
    (Forgery(pgnos=(5, 7, 5)), "twice"),
    (Forgery(pgnos=(5, 6, 5)), "twice"),
    (Forgery(pgnos=(7, 8, 7)), "twice"),
    (Forgery(pgnos=(1, 5, 7), index=raw_index(16, ">I", 2)), "two runs are one"),
]


@pytest.mark.parametrize(("forgery", "message"), HOSTILE_INDEXES)
def test_an_index_that_breaks_a_rule_is_refused_though_its_check_fits(forgery: Forgery, message: str, peak_bytes):
    data = forgery.make()

    assert peak_bytes(lambda: assert_damaged(data, match=message)) < 1 << 20


def test_an_empty_run_is_refused():
    runs = Forgery(pgnos=(1, 2, 7))  # two runs; make the first hold all three pages and the second none
    both = struct.pack(">4I", 1, 3, 7, 0)

    assert_damaged(replace(runs, index=lambda raw: raw[:8] + both + raw[24:]).make(), match="run of 0 pages")


def test_a_page_that_does_not_match_its_digest_is_named():
    forgery = Forgery(pgnos=(4, 5, 9), index=lambda raw: raw[:-1] + bytes([raw[-1] ^ 1]))

    assert_damaged(forgery.make(), match="block 0: page 9 does not match its digest")


@pytest.mark.parametrize(
    ("codec", "packed"),
    [
        (Codec.ZSTD, zstandard.compress(bytes(64 << 20))),
        (Codec.ZSTD, zstandard.compress(bytes(1024))),
        (Codec.GZIP, b"\x1f\x8b nonsense"),
        (Codec.LZ4, b"\xff\xff\xff"),
    ],
)
def test_a_block_that_expands_to_anything_but_its_pages_is_refused(codec: Codec, packed: bytes, peak_bytes):
    pages = [[bytes(65536)] * 3]
    data = Forgery(pages=pages, page_size=65536, codec=codec, packed=[(codec, packed)]).make()

    assert peak_bytes(lambda: assert_damaged(data, match=f"block 0: {codec}")) < 1 << 20


def test_an_index_bomb_never_gets_more_than_its_counts_allow(peak_bytes):
    bomb = zstandard.compress(bytes(64 << 20))
    data = Forgery(codec=Codec.ZSTD, index=lambda _: bomb[:60], trailer=lie(index_codec=Codec.ZSTD)).make()

    assert peak_bytes(lambda: assert_damaged(data, match="zstd")) < 1 << 20


@CIPHERS
def test_a_tail_of_another_length_is_refused(cipher: Cipher):
    chunk = seal([(1, bytes(4096))], options(cipher=cipher))
    header, tail = bytes(chunk.data[:HEADER_BYTES]), bytes(chunk.data[chunk.index_offset :])
    known = {"context": CONTEXT, "data_key": key_for(cipher), "name": NAME, "size_bytes": len(chunk.data)}

    for wrong in (tail[1:], b"\0" + tail, tail[-32:]):
        with pytest.raises(ObjectDamaged, match="from the index to the end"):
            open_index(header, wrong, **known)
    with pytest.raises(ObjectDamaged, match="does not end at the trailer"):
        open_index(header, tail, **(known | {"size_bytes": len(chunk.data) + 1}))
    for cut in ((header[:-1], tail), (header, tail[-31:])):
        with pytest.raises(ObjectDamaged, match="cut short"):
            open_index(*cut, **known)


@CIPHERS
def test_a_block_of_another_length_is_refused(cipher: Cipher):
    opened = reopen(seal([(1, noise_page(4096, 1))], options(cipher=cipher)).data, cipher)

    for stored in (b"", bytes(4111), bytes(4113)):
        with pytest.raises(ObjectDamaged, match=re.escape(f"{NAME}, block 0: {len(stored)} bytes")):
            opened.open_block(0, stored)


def test_the_forger_makes_good_objects_when_it_does_not_lie():
    pages = read_all(Forgery(pgnos=(4, 5, 9)).make(), Cipher.NONE)

    assert digests_of(b"".join(pages.values()), 512) == digests_of(b"".join(noise_page(512, n) for n in (4, 5, 9)), 512)
