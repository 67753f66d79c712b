"""Roll a backup forward: assemble its state from stored layers and store all of its pages as a snapshot layer of its own.

The source is not touched. The new objects lie beside the old ones under other names; they are read back and must add up
to the same root before the manifest is replaced, which is one put: before it the backup is its old chain, after it a
snapshot. Whatever dies leaves objects that no manifest names. The state's pages are unchanged, so what builds on it holds.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from pathlib import Path

from continuum_tasks import failpoints
from continuum_tasks.assembly import page_digests
from continuum_tasks.assembly.assemble import assemble, prove_assembled, whole
from continuum_tasks.assembly.fan_out import Fan
from continuum_tasks.assembly.seal import SealUnit
from continuum_tasks.errors import ProofFailed
from continuum_tasks.host.job_kinds import SEAL_CHUNK
from continuum_tasks.host.site import HostContext
from continuum_tasks.layer.format import DIGEST_BYTES
from continuum_tasks.layer.writer import split
from continuum_tasks.model import Backup, BackupId, Level, Manifest, Progress, StoredObject
from continuum_tasks.repository.repository import Repository
from continuum_tasks.sqlite.staging import check_space
from continuum_tasks.verify import verify


@dataclass(frozen=True, slots=True, kw_only=True)
class Synthesized:
    """A backup that is a snapshot layer now; what was written and what of its own old layer was deleted, in bytes."""

    backup: Backup
    written_bytes: int
    freed_bytes: int


def roll_backup_forward(
    backup_id: BackupId, *, repository: Repository, site: HostContext, fan: Fan, may_commit: Callable[[], None]
) -> Generator[Progress, None, Synthesized]:
    """Roll one backup forward and verify it; its database must be locked. One that is a snapshot already stays as it is.

    Raises ObjectMissing, IntegrityError, KeyringError, NoSpace, StorageError, or what `may_commit` raises; the backup is
    then what it was.
    """
    chain = repository.read_chain(backup_id)
    old = chain[-1]
    if old.backup.is_snapshot:
        return Synthesized(backup=old.backup, written_bytes=0, freed_bytes=0)
    failpoints.reach("synthesize.begun")
    with site.scratch() as work:
        check_space(work, old.backup.original_size_bytes, name=backup_id)
        state = work / "state.db"
        with state.open("xb") as file:
            os.truncate(file.fileno(), old.backup.original_size_bytes)
        yield from assemble(chain, state, work, repository=repository, fan=fan)
        yield from prove_assembled(whole(chain[-1]), state, work, site=site)
        failpoints.reach("synthesize.assembled")
        objects = yield from _store(old, state, work, site=site, fan=fan)
        failpoints.reach("synthesize.chunks_put")
        new = _manifest(old, objects, site=site)
        yield from _read_back(new, work / "proof", repository=repository, fan=fan)
    failpoints.reach("synthesize.proven")
    may_commit()
    failpoints.reach("synthesize.before_manifest")
    committed = repository.replace_manifest(new)
    failpoints.reach("synthesize.after_manifest")
    site.catalog.add(committed)
    for stored in old.objects:
        repository.storage.delete(stored.key)
    failpoints.reach("synthesize.old_deleted")
    # The verdicts were about the old bytes and count no more: a new one, or the backup would not be verified.
    request = verify.VerifyRequest(backup_id=backup_id, level=Level.RESTORE)
    yield from verify.verify_backup_chain(request, repository=repository, site=site, fan=fan)
    return Synthesized(
        backup=committed.backup,
        written_bytes=committed.backup.stored_size_bytes,
        freed_bytes=sum(stored.size_bytes for stored in old.objects),
    )


def _store(
    old: Manifest, state: Path, work: Path, *, site: HostContext, fan: Fan
) -> Generator[Progress, None, tuple[StoredObject, ...]]:
    """Seal all pages of the state as new chunks. Raises ProofFailed when their digests are not the backup's."""
    backup = old.backup
    found = work / "sealed.digests"
    with found.open("xb") as file:
        file.truncate(backup.n_pages * DIGEST_BYTES)  # the chunks fill it in as they are sealed
    units = _units(old, state, found, site=site)
    stored: dict[int, StoredObject] = {}
    n_bytes = 0
    yield Progress(phase="store", total_bytes=backup.original_size_bytes)
    for number, sealed in fan.run(SEAL_CHUNK.word, units):
        stored[number] = sealed.stored
        n_bytes += sealed.stored.n_pages * backup.page_size
        detail = f"{len(stored)}/{len(units)} chunks"
        yield Progress(phase="store", n_bytes=n_bytes, total_bytes=backup.original_size_bytes, detail=detail)
    if page_digests.root_of(found) != backup.root:
        raise ProofFailed(f"backup {backup.id}: what was sealed is not its state", hint="check this host's disk and memory")
    return tuple(stored[number] for number in range(len(units)) if stored[number].n_pages)


def _units(old: Manifest, state: Path, found: Path, *, site: HostContext) -> list[SealUnit]:
    backup = old.backup
    cuts = split(backup.n_pages, page_size=backup.page_size, chunk_bytes=site.settings.chunk_bytes)
    return [
        SealUnit(
            staged_path=str(state),
            page_size=backup.page_size,
            pgnos_path="",
            digests_path=str(found),
            start=cut.start,
            stop=cut.stop,
            storage=backup.storage,
            database=backup.database,
            base_id=backup.base_id,
            backup_id=backup.id,
            repository_id=old.repository_id,
            index=index,
            codec=site.settings.compression_algorithm,
            level=site.settings.compression_level,
            cipher=backup.cipher,
            wrapped_key=old.wrapped_key,
        )
        for index, cut in enumerate(cuts)
    ]


def _manifest(old: Manifest, objects: tuple[StoredObject, ...], *, site: HostContext) -> Manifest:
    backup = replace(
        old.backup,
        parent_id=None,
        rolled_at=site.clock.now(),
        layer_size_bytes=sum(stored.n_pages for stored in objects) * old.backup.page_size,
        stored_size_bytes=sum(stored.size_bytes for stored in objects),
        codec=site.settings.compression_algorithm,
    )
    return replace(old, backup=backup, objects=objects)


def _read_back(new: Manifest, work: Path, *, repository: Repository, fan: Fan) -> Generator[Progress, None, None]:
    """Open every page that was stored and add up the root. Raises what reading a chain raises."""
    work.mkdir(mode=0o700)
    yield from assemble((new,), None, work, repository=repository, fan=fan)
