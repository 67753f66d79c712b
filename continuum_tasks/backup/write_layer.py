"""Store the layer of a pending backup: all pages of a full, else the pages whose digest is not the parent's."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from continuum_tasks import failpoints
from continuum_tasks.assembly import page_digests
from continuum_tasks.assembly.fan_out import Fan
from continuum_tasks.assembly.seal import SealUnit, StoredChunk
from continuum_tasks.backup.choose_parent import PendingBackup
from continuum_tasks.errors import LockError, StorageError
from continuum_tasks.host.job_kinds import SEAL_CHUNK
from continuum_tasks.host.measure import added, timed
from continuum_tasks.host.site import HostContext
from continuum_tasks.layer.format import DIGEST_BYTES, lock_page
from continuum_tasks.layer.writer import split
from continuum_tasks.model import PhaseCost, Progress, StoredObject
from continuum_tasks.repository.lock import Held
from continuum_tasks.repository.repository import Repository
from continuum_tasks.sqlite.changes import changed_pages, digest_file
from continuum_tasks.sqlite.snapshot import Staged


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredLayer:
    """What was stored: objects in order, the root over all pages of the state, its digest file, what the phases took."""

    objects: tuple[StoredObject, ...]
    root: str
    digests: Path
    costs: tuple[PhaseCost, ...]

    @property
    def stored_bytes(self) -> int:
        return sum(stored.size_bytes for stored in self.objects)

    @property
    def n_pages(self) -> int:
        return sum(stored.n_pages for stored in self.objects)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pages:
    """Which pages to store: a file of page numbers, or (empty path) all of them; and what finding them took."""

    pgnos_path: str
    n_pages: int
    digests: Path
    costs: tuple[PhaseCost, ...] = ()


def store_layer(
    pending: PendingBackup, staged: Staged, scratch: Path, *, site: HostContext, fan: Fan
) -> Generator[Progress, None, StoredLayer]:
    """Store the layer chunk by chunk; yields progress in raw page bytes. Raises what sealing and the storage raise."""
    pages = yield from _choose_pages(pending, staged, scratch, site=site)
    failpoints.reach("create.digested")
    units = _units(pending, staged, pages, site=site)
    total = pages.n_pages * staged.page_size
    n_bytes, sealed = 0, dict[int, StoredChunk]()
    share = f"{100 * pages.n_pages / staged.n_pages:.1f} %" if staged.n_pages else "none"
    note = f"{pages.n_pages} of {staged.n_pages} pages are stored ({share}), in {len(units)} chunks"
    yield Progress(phase="store", total_bytes=total, note=note)
    for number, result in fan.run(SEAL_CHUNK.word, units):
        sealed[number] = result
        n_bytes += result.stored.n_pages * staged.page_size
        detail = f"{len(sealed)}/{len(units)} chunks"
        yield Progress(phase="store", n_bytes=n_bytes, total_bytes=total, detail=detail, note=_said(result, units[number]))
    costs = added([*pages.costs, *(cost for one in sealed.values() for cost in one.costs)])
    objects = tuple(sealed[number].stored for number in range(len(units)))
    return StoredLayer(objects=objects, root=page_digests.root_of(pages.digests), digests=pages.digests, costs=costs)


def _said(sealed: StoredChunk, unit: SealUnit) -> str:
    stored = sealed.stored
    took = ", ".join(f"{cost.phase} {cost.seconds:.3f} s" for cost in sealed.costs)
    raw_bytes = stored.n_pages * unit.page_size
    return f"chunk {unit.index + 1}: {stored.n_pages} pages, {raw_bytes} bytes became {stored.size_bytes}: {took}; {stored.key}"


def _choose_pages(
    pending: PendingBackup, staged: Staged, scratch: Path, *, site: HostContext
) -> Generator[Progress, None, _Pages]:
    found = scratch / "state.digests"
    if pending.parent_digests is None:
        with found.open("wb") as file:
            file.truncate(staged.n_pages * DIGEST_BYTES)  # the chunks fill it in as they are sealed
        return _Pages(pgnos_path="", n_pages=staged.n_pages, digests=found)
    yield Progress(phase="compare", total_bytes=staged.n_pages * staged.page_size)
    costs: list[PhaseCost] = []
    with timed("hash", costs, n_bytes=staged.n_pages * staged.page_size, monotonic=site.clock.monotonic):
        if staged.digests is None:
            digest_file(staged.path, found, page_size=staged.page_size, n_pages=staged.n_pages, n_threads=site.n_threads)
        else:
            found = staged.digests
        changed = changed_pages(pending.parent_digests, found)
    pgnos = scratch / "changed.pgnos"
    with pgnos.open("wb") as file:
        changed.tofile(file)
    return _Pages(pgnos_path=str(pgnos), n_pages=len(changed), digests=found, costs=tuple(costs))


def _units(pending: PendingBackup, staged: Staged, pages: _Pages, *, site: HostContext) -> list[SealUnit]:
    cuts = split(pages.n_pages, page_size=staged.page_size, chunk_bytes=site.settings.chunk_bytes)
    if not pages.pgnos_path:  # of all pages, one is never stored: a chunk of nothing else would be empty
        locked = lock_page(staged.page_size)
        cuts = tuple(cut for cut in cuts if (cut.start + 1, cut.stop) != (locked, locked))
    return [
        SealUnit(
            staged_path=str(staged.path),
            page_size=staged.page_size,
            pgnos_path=pages.pgnos_path,
            digests_path="" if pages.pgnos_path else str(pages.digests),
            start=cut.start,
            stop=cut.stop,
            storage=pending.storage,
            database=pending.database,
            base_id=pending.base_id,
            backup_id=pending.id,
            repository_id=pending.identity.repository_id,
            index=index,
            codec=site.settings.compression_algorithm,
            level=site.settings.compression_level,
            cipher=pending.cipher,
            wrapped_key=pending.wrapped_key,
        )
        for index, cut in enumerate(cuts)
    ]


@contextlib.contextmanager
def rollback(pending: PendingBackup, lock: Held, *, repository: Repository) -> Iterator[None]:
    """Delete the chunks of a pending backup when the context ends in an error: no manifest may have been put by then.

    Only while the run holds its lock, and with it the id: another run's chunks are never among those listed. What cannot
    be deleted now, or is put later by a worker still at it, is an orphan that `expire` removes after a day.
    """
    with ExitStack() as undo:
        undo.callback(_delete_chunks, pending, lock, repository)
        yield
        undo.pop_all()


def _delete_chunks(pending: PendingBackup, lock: Held, repository: Repository) -> None:
    storage = repository.storage
    with contextlib.suppress(StorageError, LockError):  # why the run failed is the error to report
        stored = list(storage.list(f"layers/{pending.database}/{pending.base_id}/{pending.id}/"))
        lock.check()  # after the listing: what was listed is ours, whoever gets the id from now on
        for info in stored:
            storage.delete(info.key)
