"""Segments that version 1 wrote, kept as bytes: read for ever. Never regenerate them; a new version gets its own directory."""

from __future__ import annotations

import hashlib
import json
from dataclasses import astuple
from pathlib import Path

import pytest

from continuum_tasks.model import Cipher, Codec
from continuum_tasks.segment.reader import open_segment
from tests.support.segment_objects import contents_of, context, line, noise_page, options, text_page
from tests.unit.segment import stranger

GOLDEN = Path(__file__).parents[2] / "golden" / "segment-v1"
KNOWN = json.loads((GOLDEN / "known.json").read_text())
NAMES = pytest.mark.parametrize("name", sorted(KNOWN["objects"]))


def stored(name: str) -> bytes:
    return (GOLDEN / f"{name}.segment").read_bytes()


def data_key(name: str) -> bytes | None:
    return bytes.fromhex(KNOWN["data_key"]) if KNOWN["objects"][name]["cipher"] == Cipher.AES_256_GCM else None


def hashes(contents: list[dict[int, bytes]]) -> list[dict[str, str]]:
    return [{str(pgno): hashlib.sha256(page).hexdigest() for pgno, page in pages.items()} for pages in contents]


def test_every_golden_segment_is_listed():
    assert {path.stem for path in GOLDEN.glob("*.segment")} == set(KNOWN["objects"])


@NAMES
def test_the_golden_bytes_are_the_ones_that_were_released(name: str):
    assert hashlib.sha256(stored(name)).hexdigest() == KNOWN["objects"][name]["sha256"]


@NAMES
def test_what_version_1_wrote_is_read(name: str):
    known = KNOWN["objects"][name]
    where = context(known["first_seq"], known["last_seq"])

    opened = open_segment(stored(name), context=where, data_key=data_key(name), name=name)

    head = opened.head
    assert hashes(contents_of(opened)) == known["pages"]
    assert [[int(value) for value in astuple(one)] for one in head.commits] == known["commits"]
    assert [list(reason) for reason in head.reasons] == known["reasons"]
    assert (head.timeline, head.first_seq, head.last_seq) == (KNOWN["timeline"], known["first_seq"], known["last_seq"])
    assert (head.page_size, head.before.hex(), head.after.hex()) == (known["page_size"], known["before"], known["after"])


@NAMES
def test_what_version_1_wrote_is_read_by_a_reader_written_from_the_document(name: str):
    known = KNOWN["objects"][name]

    read = stranger.read(
        stored(name),
        repository_id=KNOWN["repository_id"],
        timeline=KNOWN["timeline"],
        first_seq=known["first_seq"],
        last_seq=known["last_seq"],
        data_key=data_key(name),
    )

    assert hashes(read.pages) == known["pages"]
    assert [list(one) for one in read.commits] == known["commits"]
    assert (read.chain[0].hex(), read.chain[1].hex()) == (known["before"], known["after"])
    assert read.texts == dict(known["reasons"])


@pytest.mark.parametrize(("name", "cipher"), [("none-aes", Cipher.AES_256_GCM), ("none-plain", Cipher.NONE)])
def test_without_compression_the_same_input_still_gives_the_same_bytes(name: str, cipher: Cipher):
    commits = [{1: text_page(512, 1)}, {1: text_page(512, 2), 2: text_page(512, 3), 9: noise_page(512, 4)}]

    assert line([commits], how=options(Codec.NONE, cipher, page_size=512))[0].data == stored(name)
