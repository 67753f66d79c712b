"""Store the layer of a drafted backup: all pages of a full, else the pages whose digest is not the parent's."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from continuum_tasks import failpoints
from continuum_tasks.actions import digests
from continuum_tasks.actions.draft import Draft
from continuum_tasks.actions.fan_out import Fan
from continuum_tasks.actions.seal import SealUnit
from continuum_tasks.actions.site import Site
from continuum_tasks.layer.digest import DIGEST_BYTES
from continuum_tasks.layer.format import lock_page
from continuum_tasks.model import Progress, StoredObject
from continuum_tasks.plan import chunks
from continuum_tasks.sqlite.changes import changed_pages, digest_file
from continuum_tasks.sqlite.snapshot import Staged

KIND = "seal_chunk"


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """What was stored: objects in order, the root over all pages of the state, the state's digest file."""

    objects: tuple[StoredObject, ...]
    root: str
    digests: Path

    @property
    def stored_bytes(self) -> int:
        return sum(stored.size_bytes for stored in self.objects)

    @property
    def n_pages(self) -> int:
        return sum(stored.n_pages for stored in self.objects)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pages:
    """Which pages to store: a file of page numbers, or (empty path) all of them."""

    pgnos_path: str
    n_pages: int
    digests: Path


def store(draft: Draft, staged: Staged, scratch: Path, *, site: Site, fan: Fan) -> Generator[Progress, None, Layer]:
    """Store the layer chunk by chunk; yields progress in raw page bytes. Raises what sealing and the storage raise."""
    pages = yield from _choose_pages(draft, staged, scratch, site=site)
    failpoints.reach("create.digested")
    units = _units(draft, staged, pages, site=site)
    total = pages.n_pages * staged.page_size
    n_bytes, stored = 0, {}
    yield Progress(phase="store", total_bytes=total)
    for number, result in fan.run(KIND, units):
        stored[number] = result
        n_bytes += result.n_pages * staged.page_size
        yield Progress(phase="store", n_bytes=n_bytes, total_bytes=total, detail=f"{len(stored)}/{len(units)} chunks")
    objects = tuple(stored[number] for number in range(len(units)))
    return Layer(objects=objects, root=digests.root_of(pages.digests), digests=pages.digests)


def _choose_pages(draft: Draft, staged: Staged, scratch: Path, *, site: Site) -> Generator[Progress, None, _Pages]:
    found = scratch / "state.digests"
    if draft.parent_digests is None:
        with found.open("wb") as file:
            file.truncate(staged.n_pages * DIGEST_BYTES)  # the chunks fill it in as they are sealed
        return _Pages(pgnos_path="", n_pages=staged.n_pages, digests=found)
    yield Progress(phase="compare", total_bytes=staged.n_pages * staged.page_size)
    digest_file(staged.path, found, page_size=staged.page_size, n_pages=staged.n_pages, n_threads=site.n_threads)
    changed = changed_pages(draft.parent_digests, found)
    pgnos = scratch / "changed.pgnos"
    with pgnos.open("wb") as file:
        changed.tofile(file)
    return _Pages(pgnos_path=str(pgnos), n_pages=len(changed), digests=found)


def _units(draft: Draft, staged: Staged, pages: _Pages, *, site: Site) -> list[SealUnit]:
    cuts = chunks.split(pages.n_pages, page_size=staged.page_size, chunk_bytes=site.settings.chunk_bytes)
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
            storage=draft.storage,
            database=draft.database,
            base_id=draft.base_id,
            backup_id=draft.id,
            repository_id=draft.identity.repository_id,
            index=index,
            codec=site.settings.compression_algorithm,
            level=site.settings.compression_level,
            cipher=draft.cipher,
            wrapped_key=draft.wrapped_key,
        )
        for index, cut in enumerate(cuts)
    ]
