"""How many bytes Litestream's format (LTX, as its 0.5 releases write it) takes for the newest version of each changed page.

Counted from the format, with the same LZ4: a header of 100 bytes; per page 6 bytes of page header, 4 of size and one LZ4 block;
6 bytes that end the pages; the page index, three varints each; its end (1) and size (8); a trailer of 16 bytes.
Source: superfly/ltx, encoder.go and ltx.go, November 2025.
"""

from __future__ import annotations

from collections.abc import Mapping

import lz4.block  # type: ignore[import-untyped] # lz4 4.4 ships no types

_HEADER, _TRAILER = 100, 16
_PAGE_HEADER, _PAGE_SIZE = 6, 4
_INDEX_END, _INDEX_SIZE = 1, 8


def file_bytes(pages: Mapping[int, memoryview]) -> int:
    """Return the size of one LTX file with these pages, by page number."""
    at, index_bytes = _HEADER, 0
    for pgno in sorted(pages):
        size = _PAGE_HEADER + _PAGE_SIZE + len(lz4.block.compress(pages[pgno], store_size=False))
        index_bytes += sum(map(_varint_bytes, (pgno, at, size)))
        at += size
    return at + _PAGE_HEADER + index_bytes + _INDEX_END + _INDEX_SIZE + _TRAILER


def _varint_bytes(value: int) -> int:
    return max(1, -(-value.bit_length() // 7))
