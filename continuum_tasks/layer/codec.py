"""Compress and decompress one block. Both directions let go of the GIL inside the libraries."""

from __future__ import annotations

import threading
import zlib

import lz4.block  # type: ignore[import-untyped] # lz4 4.4 ships no types
import zstandard

from continuum_tasks.model import Codec

_GZIP = 16 + zlib.MAX_WBITS
_LZ4_FAST_BELOW = 3  # as the lz4 program: levels 1 and 2 are the fast mode, 3 to 12 high compression


class _PerThread(threading.local):
    """Contexts of this thread: making one costs as much as compressing 50 KiB, and sharing one crashes."""

    def __init__(self) -> None:
        self.compressors: dict[int, zstandard.ZstdCompressor] = {}
        self.decompressor = zstandard.ZstdDecompressor()


_thread = _PerThread()


def check_level(codec: Codec, level: int) -> None:
    """Raise ValueError for a level the codec does not have: zstd -7 to 19, lz4 0 to 12, gzip 1 to 9, none any."""
    low, high = {Codec.ZSTD: (-7, 19), Codec.LZ4: (0, 12), Codec.GZIP: (1, 9), Codec.NONE: (level, level)}[codec]
    if not low <= level <= high:
        raise ValueError(f"{codec} level {level} is not between {low} and {high}")


def compress(codec: Codec, level: int, data: bytes | bytearray | memoryview) -> bytes | bytearray | memoryview:
    """Return `data` compressed; codec none returns `data` itself."""
    if codec is Codec.ZSTD:
        if level not in _thread.compressors:
            _thread.compressors[level] = zstandard.ZstdCompressor(level=level)
        return _thread.compressors[level].compress(data)
    if codec is Codec.LZ4:
        mode = "default" if level < _LZ4_FAST_BELOW else "high_compression"
        packed: bytes = lz4.block.compress(data, mode=mode, compression=level, store_size=False)
        return packed
    if codec is Codec.GZIP:
        member = zlib.compressobj(level, zlib.DEFLATED, _GZIP)
        return member.compress(data) + member.flush()
    return data


def decompress(codec: Codec, data: bytes | memoryview, *, raw_bytes: int) -> bytes:
    """Return exactly `raw_bytes` bytes and never make room for more.

    Raises ValueError when the data is damaged, says or gives another length, or has something behind it.
    """
    try:
        raw = _expand(codec, data, raw_bytes)
    except (zstandard.ZstdError, lz4.block.LZ4BlockError, zlib.error) as err:
        raise ValueError(f"{codec} data is damaged: {err}") from err
    if len(raw) != raw_bytes:
        raise ValueError(f"{codec} data is {len(raw)} bytes long where {raw_bytes} were promised")
    return raw


def _expand(codec: Codec, data: bytes | memoryview, raw_bytes: int) -> bytes:
    if codec is Codec.ZSTD:
        says = zstandard.frame_content_size(data)  # the library trusts this number over max_output_size, so it is asked first
        if says != raw_bytes:
            raise ValueError(f"zstd frame says {says} bytes where {raw_bytes} were promised")
        return _thread.decompressor.decompress(data, max_output_size=raw_bytes, allow_extra_data=False)
    if codec is Codec.LZ4:
        block: bytes = lz4.block.decompress(data, uncompressed_size=raw_bytes)
        return block
    if codec is Codec.GZIP:
        member = zlib.decompressobj(_GZIP)
        raw = member.decompress(data, raw_bytes + 1)
        if not member.eof or member.unused_data:
            raise ValueError("gzip member is cut, too long or has data behind it")
        return raw
    return bytes(data)
