"""The table of commits, and the chain through them (docs/SEGMENT_FORMAT.md, sections 5 and 6)."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterable, Sequence

from xxhash import xxh3_128_digest

from continuum_tasks.layer.format import DIGEST_BYTES
from continuum_tasks.model import Commit

CHAIN_BYTES = 16
NO_CHAIN = bytes(CHAIN_BYTES)
"""The chain before commit 1."""
PGNO_BYTES = 4
_ENTRY = struct.Struct(">IIIIQQQ")
_NUMBER = struct.Struct(">Q")
ENTRY_BYTES = _ENTRY.size


def chain(before: bytes, commit: Commit, pgnos: Sequence[int], digests: bytes | memoryview) -> bytes:
    """Return the chain after `commit`, whose pages have these numbers and digests (16 bytes each, in the same order)."""
    return _link(before, commit, encode_pgnos(pgnos), digests)


def chain_all(before: bytes, commits: Iterable[Commit], pgnos: Sequence[int], digests: bytes) -> bytes:
    """Return the chain after the last of the commits; `pgnos` and `digests` are those of all of them, in order."""
    numbers, sums = memoryview(encode_pgnos(pgnos)), memoryview(digests)
    at = 0
    for commit in commits:
        end = at + commit.n_stored
        before = _link(
            before, commit, numbers[at * PGNO_BYTES : end * PGNO_BYTES], sums[at * DIGEST_BYTES : end * DIGEST_BYTES]
        )
        at = end
    return before


def _link(before: bytes, commit: Commit, pgnos: bytes | memoryview, digests: bytes | memoryview) -> bytes:
    return xxh3_128_digest(b"".join([before, _NUMBER.pack(commit.number), encode_commit(commit), pgnos, digests]))


def encode_commit(commit: Commit) -> bytes:
    """Return the commit's 40 bytes in the commit table; its number follows from its place there."""
    return _ENTRY.pack(
        commit.n_pages,
        commit.n_stored,
        commit.first_frame,
        commit.last_frame,
        commit.observed_us,
        commit.unseen_us,
        commit.resumed,
    )


def decode_commits(data: memoryview, first: int) -> tuple[Commit, ...]:
    """Read a commit table whose first commit has number `first`. Raises ValueError for a mark that is neither 0 nor 1."""
    found = []
    for number, (n_pages, n_stored, first_frame, last_frame, observed_us, unseen_us, resumed) in enumerate(
        _ENTRY.iter_unpack(data), first
    ):
        if resumed > 1:
            raise ValueError(f"commit {number}: is marked as resumed with {resumed}")
        found.append(
            Commit(
                number=number,
                n_pages=n_pages,
                n_stored=n_stored,
                first_frame=first_frame,
                last_frame=last_frame,
                observed_us=observed_us,
                unseen_us=unseen_us,
                resumed=bool(resumed),
            )
        )
    return tuple(found)


def encode_pgnos(pgnos: Sequence[int]) -> bytes:
    return struct.pack(f">{len(pgnos)}I", *pgnos)


def decode_pgnos(data: memoryview) -> array[int]:
    return array("I", struct.unpack(f">{len(data) // PGNO_BYTES}I", data))
