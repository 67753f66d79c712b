"""layer/digest.py: the 128-bit digest of a page, and the root over all of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from xxhash import xxh3_128_digest

DIGEST_BYTES = 16
ZERO_DIGEST = bytes(DIGEST_BYTES)
"""Stands for the lock page, which is never read or stored."""


def page_digest(page: memoryview | bytes) -> bytes:
    """Return the 16 bytes of xxh3_128, big-endian. Not cryptographic: see the threat notes in docs/LAYER_FORMAT.md."""
    return xxh3_128_digest(page)


def digests_of(pages: memoryview | bytes, page_size: int) -> bytes:
    """Return the digests of whole pages that lie one after the other, 16 bytes each."""
    view = memoryview(pages)
    return b"".join([xxh3_128_digest(view[at : at + page_size]) for at in range(0, len(view), page_size)])


def digest_root(digests: Iterable[bytes | memoryview]) -> str:
    """Return the hex SHA-256 over all page digests in pgno order, given in pieces of any size."""
    total = hashlib.sha256()
    for piece in digests:
        total.update(piece)
    return total.hexdigest()
