"""Assemble a state from its layers: into a file, proven page by page, or nowhere, to prove the layers alone."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from continuum_tasks.assembly import page_digests
from continuum_tasks.assembly.fan_out import Fan
from continuum_tasks.assembly.fetch import EXPECTED, OWNERS, Fetched, FetchUnit, mapped
from continuum_tasks.errors import ProofFailed
from continuum_tasks.host.job_kinds import FETCH_CHUNK
from continuum_tasks.host.site import HostContext
from continuum_tasks.layer.format import DIGEST_BYTES
from continuum_tasks.layer.reader import claim_pages
from continuum_tasks.model import Manifest, Progress
from continuum_tasks.repository.repository import Repository
from continuum_tasks.sqlite.changes import changed_pages, digest_file

OWNER_BYTES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembled:
    """`fetched_bytes` read from the storage; every page of the state equals what its manifest's root says."""

    fetched_bytes: int
    n_objects: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    """A state as it has to be: what messages call it, and the root over the digests of its pages."""

    name: str
    page_size: int
    n_pages: int
    root: str

    @property
    def size_bytes(self) -> int:
        return self.n_pages * self.page_size


def assemble(
    chain: Sequence[Manifest], target: Path | None, work: Path, *, repository: Repository, fan: Fan
) -> Generator[Progress, None, Assembled]:
    """Merge the layers of a chain (base first), newest page wins, into the existing empty file `target`, or check all of them.

    `work` is a private directory. Raises ObjectMissing, ObjectDamaged, KeyMissing, KeyWrong, NoSpace, or ProofFailed when
    the layers do not add up to the root of the last manifest.
    """
    last = chain[-1].backup
    _prepare(work, n_pages=last.n_pages)
    yield Progress(phase="plan")
    ordinals = _claim(chain, work / OWNERS, repository=repository)
    units = _units(chain, ordinals, target, work)
    total = sum(unit.stored.n_pages for unit in units) if target is None else last.n_pages
    fetched, n_pages = 0, 0
    yield Progress(phase="fetch", total_bytes=total * last.page_size)
    for number, (_, result) in enumerate(fan.run(FETCH_CHUNK.word, units), 1):
        assert isinstance(result, Fetched)
        fetched += result.read_bytes
        n_pages += result.n_pages
        yield Progress(
            phase="fetch",
            n_bytes=n_pages * last.page_size,
            total_bytes=total * last.page_size,
            detail=f"{number}/{len(units)} chunks",
        )
    if page_digests.root_of(work / EXPECTED) != last.root:
        raise ProofFailed(f"backup {last.id}: its layers do not add up to its root", hint="restore another backup")
    return Assembled(fetched_bytes=fetched, n_objects=len(units))


def whole(manifest: Manifest) -> Whole:
    """Return what a backup's state has to be."""
    backup = manifest.backup
    return Whole(name=f"backup {backup.id}", page_size=backup.page_size, n_pages=backup.n_pages, root=backup.root)


def prove_assembled(state: Whole, target: Path, work: Path, *, site: HostContext) -> Generator[Progress, None, None]:
    """Read an assembled file again and compare every page's digest with the root. Raises ProofFailed naming the first page."""
    yield Progress(phase="prove", total_bytes=state.size_bytes)
    actual = work / "actual"
    size_bytes = target.stat().st_size
    if size_bytes != state.size_bytes:
        raise ProofFailed(f"{target}: {size_bytes} bytes where {state.name} has {state.size_bytes}")
    root = digest_file(target, actual, page_size=state.page_size, n_pages=state.n_pages, n_threads=site.n_threads)
    if root != state.root:
        pages = changed_pages(work / EXPECTED, actual)
        raise ProofFailed(
            f"{target}: page {pages[0] if pages else '?'} and {max(0, len(pages) - 1)} more do not match {state.name}",
            hint="the disk returned other bytes than were written: check it, then restore again",
        )


def _prepare(work: Path, *, n_pages: int) -> None:
    for name, entry_bytes in ((OWNERS, OWNER_BYTES), (EXPECTED, DIGEST_BYTES)):
        with (work / name).open("wb") as file:
            file.truncate(n_pages * entry_bytes)


def _claim(chain: Sequence[Manifest], owners: Path, *, repository: Repository) -> dict[str, int]:
    """Let every object of the deltas own the pages it has, oldest first; returns the objects' ordinals by key."""
    ordinals = {stored.key: 0 for stored in chain[0].objects}
    numbers = count(1)
    view = mapped(owners, writable=True)
    for manifest in chain[1:]:
        for opened in page_digests.indexes(manifest, repository):
            ordinals[opened.name] = next(numbers)
            claim_pages(view, opened.index.pgnos, ordinals[opened.name])
    return ordinals


def _units(chain: Sequence[Manifest], ordinals: dict[str, int], target: Path | None, work: Path) -> list[FetchUnit]:
    last = chain[-1].backup
    return [
        FetchUnit(
            storage=last.storage,
            stored=stored,
            repository_id=manifest.repository_id,
            base_id=manifest.backup.base_id,
            backup_id=manifest.backup.id,
            index=index,
            ordinal=ordinals[stored.key],
            wrapped_key=manifest.wrapped_key,
            work_path=str(work),
            target_path="" if target is None else str(target),
            page_size=last.page_size,
            n_pages=last.n_pages,
        )
        for manifest in chain
        for index, stored in enumerate(manifest.objects)
    ]
