"""Timelines for tests, under whose key the segments of `tests.unit.segment.objects` are sealed."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from continuum_tasks.keyring import generate_key, open_keyring
from continuum_tasks.model import Cipher, Codec, Timeline, TimelineId
from continuum_tasks.repository.repository import Repository
from continuum_tasks.repository.timelines import put_segment, put_timeline, timeline_key_context
from continuum_tasks.segment.head import SealedSegment
from continuum_tasks.storage.protocol import Storage
from tests.support import segment_objects as objects

BEGUN_AT = datetime(2026, 11, 1, 12, tzinfo=UTC)
PLAIN = objects.options(Codec.ZSTD, Cipher.NONE, page_size=512)


def keyed(directory: Path, storage: Storage, *, accept_unsigned: bool = False, key_id: str = "k") -> Repository:
    """Open a repository with a keyring of one new key; no key id = an empty keyring."""
    if key_id:
        generate_key(directory, key_id, random_bytes=secrets.token_bytes, now=BEGUN_AT)
    return Repository(storage, "here", keyring=open_keyring(directory), accept_unsigned=accept_unsigned)


def timeline(repository: Repository, *, n: int = 0, database: str = "main", encrypted: bool = True) -> Timeline:
    """Return the n-th timeline, that began n minutes after the first; number 0 is the one of the segments of the tests."""
    at = BEGUN_AT + timedelta(minutes=n)
    found = TimelineId.make(at, chance=bytes.fromhex("00c0ffee"))
    context = timeline_key_context("repo-1", found)
    return Timeline(
        id=found,
        database=database,
        host="h1",
        repository_id="repo-1",
        created_at=at,
        page_size=512,
        cipher=Cipher.AES_256_GCM if encrypted else Cipher.NONE,
        wrapped_key=repository.wrap("k", objects.KEY, nonce=bytes(12), context=context) if encrypted else None,
        previous=None,
        reason="capture began",
    )


def shipped(repository: Repository, n_segments: int, *, encrypted: bool = True) -> tuple[Timeline, list[SealedSegment]]:
    """Store a timeline and its first segments of three commits each."""
    one = timeline(repository, encrypted=encrypted)
    put_timeline(repository, one)
    segments = made(n_segments, encrypted=encrypted)
    for segment in segments:
        put_segment(repository, one, segment)
    return one, segments


def made(n_segments: int, *, encrypted: bool = True, parts: Sequence[Sequence[objects.Pages]] = ()) -> list[SealedSegment]:
    return objects.line(parts or [objects.SMALL] * n_segments, how=None if encrypted else PLAIN)
