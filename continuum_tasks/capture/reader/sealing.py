"""Begin a timeline, and seal what was captured on it."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace

from continuum_tasks.capture.plan.continuity import Found
from continuum_tasks.capture.reader.pending import Pending
from continuum_tasks.capture.state.environment import CaptureContext
from continuum_tasks.capture.state.progress import CaptureProgress
from continuum_tasks.layer.draft import ChunkOptions
from continuum_tasks.model import Cipher, Mark, Timeline, TimelineId, WrappedKey
from continuum_tasks.repository.repository import Identity, Repository
from continuum_tasks.repository.timelines import segment_context, timeline_key_context
from continuum_tasks.segment.head import SealedSegment, SegmentDraft
from continuum_tasks.segment.writer import write_segment

NO_CHAIN = bytes(16)


@dataclass(frozen=True, slots=True, kw_only=True)
class Beginning:
    """What a new timeline is of: the database, the storage its segments go to, the file as found, why, and what was before.

    `is_known`: something of ours is in that storage, so where nothing is found it is not there. The timeline before was
    followed until `followed_until_us` (microseconds since 1970), 0 when that is not known.
    """

    database: str
    storage: str
    found: Found
    reason: str
    previous: TimelineId | None
    followed_until_us: int
    is_known: bool


def new_standing(beginning: Beginning, *, place: CaptureContext) -> CaptureProgress:
    """Begin a timeline under a key of its own; nothing is stored yet but the repository's identity, if it had none.

    Raises StorageError when the storage cannot be asked who it is, KeyMissing when the configured key is not there.
    """
    repository, now = place.repository(beginning.storage), place.clock.now()
    proposed = Identity(repository_id=str(uuid.UUID(bytes=place.random_bytes(16), version=4)), created_at=now)
    repository_id = repository.ensure_identity(proposed, n_known=int(beginning.is_known)).repository_id
    timeline_id = TimelineId.make(now, chance=place.random_bytes(4))
    encrypted = place.backup.encryption is not Cipher.NONE
    timeline = Timeline(
        id=timeline_id,
        database=beginning.database,
        host=place.host,
        repository_id=repository_id,
        created_at=now,
        page_size=beginning.found.page_size,
        cipher=place.backup.encryption,
        wrapped_key=_wrapped(repository, repository_id, timeline_id, place=place) if encrypted else None,
        previous=beginning.previous,
        reason=beginning.reason,
        followed_until_us=beginning.followed_until_us,
    )
    return CaptureProgress(
        storage=beginning.storage,
        timeline=timeline,
        seq=0,
        commit=0,
        observed_us=0,
        chain=NO_CHAIN.hex(),
        mark=Mark(salts="", frame=0, checksum=(0, 0)),
        source=beginning.found.source,
        stamp=beginning.found.stamp,
        base_after=0,
        published=False,
        proven_us=place.now_us(),
    )


def data_key(standing: CaptureProgress, *, place: CaptureContext) -> bytes | None:
    """Return the timeline's data key, None where it is not encrypted. Raises KeyMissing, KeyWrong."""
    timeline = standing.timeline
    context = timeline_key_context(timeline.repository_id, timeline.id)
    return place.repository(standing.storage).unwrap(timeline.wrapped_key, context=context)


def seal(
    standing: CaptureProgress, pending: Pending, mark: Mark, *, key: bytes | None, place: CaptureContext
) -> tuple[CaptureProgress, SealedSegment]:
    """Seal what is pending as the next segment; returns the standing with it."""
    timeline, seq = standing.timeline, standing.seq + 1
    draft = SegmentDraft(
        timeline=timeline.id,
        first_seq=seq,
        last_seq=seq,
        page_size=timeline.page_size,
        before=bytes.fromhex(standing.chain),
        mark=mark,
        source=standing.source,
        commits=tuple(pending),
        reasons=tuple(pending.reasons),
        pgnos=pending.pgnos,
    )
    options = ChunkOptions(
        page_size=timeline.page_size,
        codec=place.backup.compression_algorithm,
        level=place.backup.compression_level,
        cipher=timeline.cipher,
        data_key=key,
        salt=place.random_bytes(32),
    )
    sealed = write_segment(draft, pending.pages, context=segment_context(timeline, seq, seq), options=options)
    last = pending.commits[-1]
    resumed = [commit.number for commit in pending if commit.resumed]
    then = replace(
        standing,
        seq=seq,
        commit=last.number,
        observed_us=last.observed_us,
        chain=sealed.head.after.hex(),
        mark=mark,
        base_after=max([standing.base_after, *resumed]),
    )
    return then, sealed


def _wrapped(repository: Repository, repository_id: str, timeline_id: TimelineId, *, place: CaptureContext) -> WrappedKey:
    return repository.wrap(
        place.backup.encryption_key_id,
        place.random_bytes(32),
        nonce=place.random_bytes(12),
        context=timeline_key_context(repository_id, timeline_id),
    )
