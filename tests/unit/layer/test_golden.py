"""Objects that version 1 wrote, kept as bytes: read for ever. Never regenerate them; a new version gets its own directory."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from continuum_tasks.layer.format import ObjectContext
from continuum_tasks.layer.reader import open_chunk
from continuum_tasks.model import Cipher, Codec
from tests.support import layer_stranger as stranger
from tests.support.layer_objects import noise_page, options, seal

GOLDEN = Path(__file__).parents[2] / "golden" / "layer-v1"
KNOWN = json.loads((GOLDEN / "known.json").read_text())
NAMES = pytest.mark.parametrize("name", sorted(KNOWN["objects"]))


def data_key(name: str) -> bytes | None:
    return bytes.fromhex(KNOWN["data_key"]) if KNOWN["objects"][name]["cipher"] == Cipher.AES_256_GCM else None


def test_every_golden_object_is_listed():
    assert {path.stem for path in GOLDEN.glob("*.layer")} == set(KNOWN["objects"])


@NAMES
def test_the_golden_bytes_are_the_ones_that_were_released(name: str):
    assert hashlib.sha256((GOLDEN / f"{name}.layer").read_bytes()).hexdigest() == KNOWN["objects"][name]["sha256"]


@NAMES
def test_what_version_1_wrote_is_read(name: str):
    data = (GOLDEN / f"{name}.layer").read_bytes()

    opened = open_chunk(data, context=ObjectContext(**KNOWN["context"]), data_key=data_key(name), name=name)

    pages = {str(pgno): hashlib.sha256(page).hexdigest() for pgno, page in opened.pages()}
    assert pages == KNOWN["objects"][name]["pages"]
    assert opened.index.page_size == KNOWN["objects"][name]["page_size"]


@NAMES
def test_what_version_1_wrote_is_read_by_a_reader_written_from_the_document(name: str):
    data = (GOLDEN / f"{name}.layer").read_bytes()

    pages = stranger.read(data, **KNOWN["context"], data_key=data_key(name))

    assert {str(pgno): hashlib.sha256(page).hexdigest() for pgno, page in pages.items()} == KNOWN["objects"][name]["pages"]


@pytest.mark.parametrize(("name", "cipher"), [("none-aes", Cipher.AES_256_GCM), ("none-plain", Cipher.NONE)])
def test_without_compression_the_same_input_still_gives_the_same_bytes(name: str, cipher: Cipher):
    runs = [(1, noise_page(512, 1)), (3, noise_page(512, 3))]

    assert seal(runs, options(Codec.NONE, cipher, page_size=512)).data == (GOLDEN / f"{name}.layer").read_bytes()
