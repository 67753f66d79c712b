from __future__ import annotations

import zlib
from contextlib import suppress

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from continuum_tasks.layer.codec import check_level, compress, decompress
from continuum_tasks.model import Codec

LEVELS = [
    *((Codec.ZSTD, level) for level in (-7, -1, *range(1, 20))),
    *((Codec.LZ4, level) for level in (0, 1, 3, 12)),
    *((Codec.GZIP, level) for level in (1, 6, 9)),
    (Codec.NONE, 0),
]
PACKED = [Codec.ZSTD, Codec.LZ4, Codec.GZIP]
TEXT = b"the same words again and again, " * 400


@pytest.mark.parametrize(("codec", "level"), LEVELS)
def test_every_level_gives_the_bytes_back(codec: Codec, level: int):
    check_level(codec, level)

    packed = compress(codec, level, memoryview(TEXT))

    assert decompress(codec, memoryview(packed), raw_bytes=len(TEXT)) == TEXT


@pytest.mark.parametrize("codec", list(Codec))
@given(data=st.binary(min_size=1, max_size=2000))
def test_any_bytes_come_back(codec: Codec, data: bytes):
    assert decompress(codec, compress(codec, 1, data), raw_bytes=len(data)) == data


@pytest.mark.parametrize(
    ("codec", "level"),
    [(Codec.ZSTD, 20), (Codec.ZSTD, -8), (Codec.LZ4, 13), (Codec.LZ4, -1), (Codec.GZIP, 0), (Codec.GZIP, 10)],
)
def test_a_level_the_codec_does_not_have_is_refused(codec: Codec, level: int):
    with pytest.raises(ValueError, match=f"{codec} level {level}"):
        check_level(codec, level)


@pytest.mark.parametrize("codec", list(Codec))
@pytest.mark.parametrize("promised", [len(TEXT) - 1, len(TEXT) + 1, 1])
def test_another_length_than_promised_is_refused(codec: Codec, promised: int):
    with pytest.raises(ValueError, match=codec):
        decompress(codec, compress(codec, 1, TEXT), raw_bytes=promised)


@pytest.mark.parametrize("codec", PACKED)
def test_bytes_behind_the_data_are_refused(codec: Codec):
    with pytest.raises(ValueError, match=codec):
        decompress(codec, bytes(compress(codec, 1, TEXT)) + b"\0", raw_bytes=len(TEXT))


@pytest.mark.parametrize("codec", PACKED)
def test_every_cut_of_the_data_is_refused(codec: Codec):
    packed = bytes(compress(codec, 1, TEXT))

    for length in range(len(packed)):
        with pytest.raises(ValueError, match=codec):
            decompress(codec, packed[:length], raw_bytes=len(TEXT))


@pytest.mark.parametrize("codec", PACKED)
@given(data=st.binary(max_size=300))
def test_nonsense_is_a_value_error_and_nothing_else(codec: Codec, data: bytes):
    with suppress(ValueError):
        assert len(decompress(codec, data, raw_bytes=100)) == 100


@pytest.mark.parametrize("says", [True, False])
def test_a_zstd_bomb_never_gets_its_memory(says: bool, peak_bytes):
    bomb = zstandard.ZstdCompressor(write_content_size=says).compress(bytes(64 << 20))

    def explode() -> None:
        with pytest.raises(ValueError, match="zstd"):
            decompress(Codec.ZSTD, bomb, raw_bytes=4096)

    assert peak_bytes(explode) < 1 << 20


def test_a_zstd_frame_that_hides_more_than_it_says_is_refused():
    honest = zstandard.ZstdCompressor(level=1).compress(bytes(4096))
    longer = zstandard.ZstdCompressor(level=1).compress(bytes(5000))
    header = zstandard.frame_header_size(honest)
    assert header == zstandard.frame_header_size(longer)

    with pytest.raises(ValueError, match="zstd"):
        decompress(Codec.ZSTD, honest[:header] + longer[header:], raw_bytes=4096)


def test_a_gzip_bomb_never_gets_its_memory(peak_bytes):
    bomb = zlib.compress(bytes(64 << 20), 9, wbits=31)

    def explode() -> None:
        with pytest.raises(ValueError, match="gzip"):
            decompress(Codec.GZIP, bomb, raw_bytes=4096)

    assert peak_bytes(explode) < 1 << 20
